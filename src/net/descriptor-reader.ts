/**
 * Reads from a descriptor of which Node knows no kind (netlink, TUN), in the event loop like all others: no thread waits, nothing polls.
 * Node takes sockets of the family Unix only, and asks once which kind it is: so it is given one end of a pair of those, whose place
 * the descriptor takes before the first read.
 */
import { closeSync } from "node:fs";
import { Socket } from "node:net";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const O_CLOEXEC = 0o2_000_000;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | O_CLOEXEC;
/** What one read gives at most: a datagram, a packet. */
const BUFFER_BYTES = 65_536;

export interface DescriptorListener {
  /** @param bytes of one read; they are overwritten by the next one */
  onRead(bytes: Buffer): void;
  /** Nothing will come any more, for a reason that reading gave. Not called after `close`. */
  onEnd(): void;
}

export interface DescriptorReader {
  /** The descriptor's number from now on; valid until it is closed. */
  readonly descriptor: number;
  close(): void;
}

/** Takes the descriptor over, which must not block. @throws when koffi is missing, or there are no descriptors left; it is closed then. */
export async function readDescriptor(descriptor: number, listener: DescriptorListener): Promise<DescriptorReader> {
  let isOpen = true;
  const callback = (length: number, bytes: Uint8Array): boolean => {
    if (isOpen) listener.onRead(Buffer.from(bytes.buffer, bytes.byteOffset, length));
    return isOpen;
  };
  const place = await inPlaceOf(descriptor, callback);
  const { socket } = place;
  // The end follows, which says all that counts.
  socket.on("error", () => {});
  socket.on("close", () => {
    if (!isOpen) return;
    isOpen = false;
    listener.onEnd();
  });
  socket.resume();
  return {
    descriptor: place.descriptor,
    close: () => {
      isOpen = false;
      socket.destroy();
    },
  };
}

async function inPlaceOf(descriptor: number, callback: (length: number, bytes: Uint8Array) => boolean) {
  const pair = [-1, -1];
  try {
    const { default: koffi } = await import("koffi");
    const libc = koffi.load("libc.so.6");
    const socketpair = libc.func("int socketpair(int domain, int type, int protocol, _Out_ int *descriptors)");
    const dup3 = libc.func("int dup3(int from, int to, int flags)");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK_CLOEXEC, 0, pair) !== 0) throw new Error("No pair of sockets");
    const [place, other] = pair as [number, number];
    const onread = { buffer: Buffer.allocUnsafeSlow(BUFFER_BYTES), callback };
    const socket = new Socket({ fd: place, readable: true, writable: false, onread });
    // Nothing waits for it yet, so nobody has noted which file it was.
    const isInPlace = dup3(descriptor, place, O_CLOEXEC) === place;
    closeSync(other);
    if (isInPlace) return { socket, descriptor: place };
    socket.destroy();
    throw new Error(`Descriptor ${descriptor} cannot be read`);
  } finally {
    closeSync(descriptor);
  }
}
