/** A TUN device: IPv4 packets in and out of this process, without any header. */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { AppError } from "../base/errors.ts";
import { readDescriptor } from "./descriptor-reader.ts";

const TUNSETIFF = 0x4004_54ca;
const IFF_TUN_NO_PI = 0x1001;

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

/** @throws when koffi is missing, and AppError TUN_BUSY when the device belongs to another process. */
export async function openTun(name: string, listener: TunListener): Promise<Tun> {
  const { default: koffi } = await import("koffi");
  const libc = koffi.load("libc.so.6");
  const ioctl = libc.func("int ioctl(int fd, unsigned long request, void *argument)");
  const descriptor = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
  const request = Buffer.alloc(40);
  request.write(name, 0, "latin1");
  request.writeUInt16LE(IFF_TUN_NO_PI, 16);
  if (ioctl(descriptor, TUNSETIFF, request) !== 0) {
    const isBusy = koffi.errno() === koffi.os.errno.EBUSY;
    closeSync(descriptor);
    if (isBusy) throw new AppError("TUN_BUSY", `Cannot open the TUN device "${name}": another process has it`);
    throw new Error(`Cannot open the TUN device "${name}"`);
  }
  let isOpen = true;
  const reader = await readDescriptor(descriptor, {
    // It may be held for long.
    onRead: (packet) => listener.onPacket(Buffer.from(packet)),
    onEnd: () => {
      isOpen = false;
      listener.onLost();
    },
  });
  return {
    write(packet) {
      try {
        if (isOpen) writeSync(reader.descriptor, packet);
      } catch {
        // Full, or gone: a network may lose packets.
      }
    },
    close() {
      isOpen = false;
      reader.close();
    },
  };
}
