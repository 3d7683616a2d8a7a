/** TAP devices in other network namespaces, and waiting for packets: four system calls through koffi. */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { AppError, hasCode } from "../base/errors.ts";

const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const CLONE_NEWNET = 0x40000000;
const POLLIN = 1;
/** struct pollfd: int fd, short events, short revents. */
const POLLFD_BYTES = 8;
const IFREQ_BYTES = 40;
const FRAME_BYTES = 65_536;

export interface Taps {
  /** Makes the device in the network of that process; it lives as long as this process. */
  open(pid: number, device: string): Tap;
  /**
   * Waits until one of them has a packet, or `timeoutMs` is over. Resolves with the positions of those to read.
   * Fractions of a millisecond count.
   */
  wait(taps: readonly Tap[], timeoutMs: number): Promise<readonly number[]>;
}

export interface Tap {
  readonly fd: number;
  /** The next frame, or undefined when there is none now. */
  read(): Uint8Array | undefined;
  /** A frame that the device does not take is lost, as on a cable. */
  write(frame: Uint8Array): void;
}

/** @throws AppError TAP_FAILED */
export async function openTaps(): Promise<Taps> {
  const { default: koffi } = await import("koffi");
  const libc = koffi.load("libc.so.6");
  const ioctl = libc.func("int ioctl(int fd, unsigned long request, void *argument)");
  const setns = libc.func("int setns(int fd, int type)");
  const ppoll = libc.func("int ppoll(void *fds, unsigned long count, void *timeout, void *signals)");

  /** Of this thread only, and back before anything else runs. */
  const inNetworkOf = <T>(pid: number, work: () => T): T => {
    const own = openSync("/proc/self/ns/net", "r");
    const other = openSync(`/proc/${pid}/ns/net`, "r");
    try {
      if (setns(other, CLONE_NEWNET) !== 0)
        throw new AppError("TAP_FAILED", `Cannot enter the network of process ${pid}`);
      try {
        return work();
      } finally {
        setns(own, CLONE_NEWNET);
      }
    } finally {
      closeSync(own);
      closeSync(other);
    }
  };

  return {
    open: (pid, device) =>
      inNetworkOf(pid, () => {
        const fd = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
        const request = Buffer.alloc(IFREQ_BYTES);
        request.write(device, 0, "latin1");
        request.writeUInt16LE(IFF_TAP | IFF_NO_PI, 16);
        if (ioctl(fd, TUNSETIFF, request) !== 0)
          throw new AppError("TAP_FAILED", `Cannot make the TAP device "${device}"`);
        return makeTap(fd);
      }),
    wait: (taps, timeoutMs) =>
      new Promise((resolve, reject) => {
        const fds = Buffer.alloc(taps.length * POLLFD_BYTES);
        for (const [index, { fd }] of taps.entries()) {
          fds.writeInt32LE(fd, index * POLLFD_BYTES);
          fds.writeInt16LE(POLLIN, index * POLLFD_BYTES + 4);
        }
        ppoll.async(fds, taps.length, timespec(timeoutMs), null, (error: Error | null) => {
          if (error) return reject(error);
          const happened = taps.map((_, index) => fds.readInt16LE(index * POLLFD_BYTES + 6));
          // Its network is gone, and it would be reported for ever.
          if (happened.some((bits) => bits & ~POLLIN)) return reject(new AppError("TAP_GONE", "A TAP device is gone"));
          resolve(happened.flatMap((bits, index) => (bits ? [index] : [])));
        });
      }),
  };
}

function makeTap(fd: number): Tap {
  const buffer = Buffer.allocUnsafe(FRAME_BYTES);
  return {
    fd,
    read() {
      try {
        const size = readSync(fd, buffer, 0, FRAME_BYTES, null);
        return Uint8Array.prototype.slice.call(buffer, 0, size);
      } catch (error) {
        // EIO: the device is down.
        if (hasCode(error, "EAGAIN") || hasCode(error, "EIO") || hasCode(error, "EBADFD")) return undefined;
        throw error;
      }
    },
    write(frame) {
      try {
        writeSync(fd, frame);
      } catch (error) {
        if (!["EAGAIN", "EIO", "EBADFD", "ENOBUFS", "EINVAL"].some((code) => hasCode(error, code))) throw error;
      }
    },
  };
}

/** struct timespec: seconds and nanoseconds as 64-bit numbers. */
function timespec(ms: number): Buffer {
  const bytes = Buffer.alloc(16);
  const seconds = Math.floor(ms / 1000);
  bytes.writeBigInt64LE(BigInt(seconds), 0);
  bytes.writeBigInt64LE(BigInt(Math.round((ms - seconds * 1000) * 1e6)), 8);
  return bytes;
}
