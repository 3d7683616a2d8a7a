/**
 * A TUN device: IPv4 packets in and out of this process, without any header. Node has no way to wait for such a file, so a thread
 * of its pool waits in `poll`, a second at a time: a process that ends does not have to wait for longer than that.
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { hasCode } from "../base/errors.ts";

const TUNSETIFF = 0x4004_54ca;
const IFF_TUN_NO_PI = 0x1001;
const POLLIN = 1;
const WAIT_MS = 1000;
/** Then other work has its turn. */
const BURST = 256;
const MAX_PACKET = 65_536;

export interface Tun {
  /** Gives the kernel a packet, as if it had arrived by the device. One that it does not take is lost. */
  write(packet: Buffer): void;
  close(): void;
}

export interface TunListener {
  onPacket(packet: Buffer): void;
  /** The device is gone: nothing will come any more. */
  onLost(): void;
}

/** @throws when koffi is missing, or the device belongs to another process. */
export async function openTun(name: string, listener: TunListener): Promise<Tun> {
  const { default: koffi } = await import("koffi");
  const libc = koffi.load("libc.so.6");
  const ioctl = libc.func("int ioctl(int fd, unsigned long request, void *argument)");
  const poll = libc.func("int poll(void *descriptors, unsigned long count, int timeout)");
  const descriptor = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
  const request = Buffer.alloc(40);
  request.write(name, 0, "latin1");
  request.writeUInt16LE(IFF_TUN_NO_PI, 16);
  if (ioctl(descriptor, TUNSETIFF, request) !== 0) {
    closeSync(descriptor);
    throw new Error(`Cannot open the TUN device "${name}": another process has it, or there is none`);
  }
  const watched = Buffer.alloc(8);
  watched.writeInt32LE(descriptor, 0);
  watched.writeInt16LE(POLLIN, 4);
  const buffer = Buffer.allocUnsafe(MAX_PACKET);
  let isOpen = true;
  let isWaiting = false;

  const close = () => {
    isOpen = false;
    // While the thread waits for it, its number must not be given to another file.
    if (!isWaiting) closeSync(descriptor);
  };
  /** False when the device is gone. */
  const read = (): boolean => {
    for (let count = 0; count < BURST && isOpen; count++) {
      let length: number;
      try {
        length = readSync(descriptor, buffer, 0, MAX_PACKET, null);
      } catch (error) {
        return hasCode(error, "EAGAIN");
      }
      listener.onPacket(Buffer.from(buffer.subarray(0, length)));
    }
    return true;
  };
  const wait = () => {
    isWaiting = true;
    poll.async(watched, 1, WAIT_MS, (_: unknown, ready: number) => {
      isWaiting = false;
      if (!isOpen) return closeSync(descriptor);
      if (ready <= 0 || read()) return wait();
      close();
      listener.onLost();
    });
  };
  wait();
  return {
    write(packet) {
      try {
        if (isOpen) writeSync(descriptor, packet);
      } catch {
        // Full, or gone: a network may lose packets.
      }
    },
    close,
  };
}
