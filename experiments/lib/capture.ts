/**
 * Runs on a host of a lab: counts the frames of a device, and the messages in its streams, and prints the sums as a line of JSON for
 * each line on standard input. A few system calls through koffi; reading is left to Node.
 */
import { readSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { createInterface } from "node:readline";
import koffi from "koffi";
import { Traffic } from "./traffic.ts";

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000;
const ALL_PROTOCOLS = 0x0003;
const POLLIN = 1;
const WAIT_MS = 200;

const device = process.argv[2] ?? "eth0";
const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int family, int type, int protocol)");
const bind = libc.func("int bind(int fd, void *address, uint length)");
const indexOf = libc.func("uint if_nametoindex(str name)");
const poll = libc.func("int poll(void *fds, unsigned long count, int timeout)");

const networkOrder = (value: number) => ((value & 0xff) << 8) | (value >> 8);
const fd = socket(AF_PACKET, SOCK_RAW_NONBLOCK, networkOrder(ALL_PROTOCOLS)) as number;
/** struct sockaddr_ll: family, protocol, index of the device. */
const address = Buffer.alloc(20);
address.writeUInt16LE(AF_PACKET, 0);
address.writeUInt16BE(ALL_PROTOCOLS, 2);
address.writeInt32LE(indexOf(device), 4);
if (fd < 0 || bind(fd, address, address.length) !== 0) throw new Error(`Cannot listen on "${device}"`);

const traffic = new Traffic(networkInterfaces()[device]![0]!.mac);
const frame = Buffer.alloc(65_536 + 64);

function drain(): void {
  for (;;) {
    try {
      traffic.take(frame.subarray(0, readSync(fd, frame, 0, frame.length, null)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return;
      throw error;
    }
  }
}

createInterface({ input: process.stdin })
  .on("line", () => {
    drain();
    console.log(JSON.stringify(traffic.sums));
  })
  .on("close", () => process.exit());

/** struct pollfd. Kept here: the call that waits holds only its address. */
const fds = Buffer.alloc(8);
fds.writeInt32LE(fd, 0);
fds.writeInt16LE(POLLIN, 4);

function wait(): void {
  poll.async(fds, 1, WAIT_MS, (error: Error | null) => {
    if (error) throw error;
    drain();
    wait();
  });
}
wait();
