/** Messages to the kernel: attributes, and a socket that asks and is answered at once. */

/** Set in the type of an attribute that holds attributes. */
export const NESTED = 0x8000;

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2_000_000;
const PROTOCOL = { route: 0, netfilter: 12 } as const;
const ATTRIBUTE_HEADER = 4;
const TYPE_MASK = 0x3fff;
const ANSWER_BYTES = 8192;
const ERROR = 2;
const MSG_DONTWAIT = 0x40;
/** Where a message has its number, which the answer repeats. */
const NUMBER_AT = 8;

/** Numbers of headers are in the machine's order: little-endian wherever we run. */
export function attribute(type: number, content: Buffer): Buffer {
  const bytes = Buffer.alloc(aligned(ATTRIBUTE_HEADER + content.length));
  bytes.writeUInt16LE(ATTRIBUTE_HEADER + content.length, 0);
  bytes.writeUInt16LE(type, 2);
  content.copy(bytes, ATTRIBUTE_HEADER);
  return bytes;
}

/** Contents by type; what is cut off is left out. */
export function attributes(content: Buffer | undefined): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  if (!content) return found;
  for (let start = 0; start + ATTRIBUTE_HEADER <= content.length; ) {
    const length = content.readUInt16LE(start);
    if (length < ATTRIBUTE_HEADER || start + length > content.length) break;
    found.set(content.readUInt16LE(start + 2) & TYPE_MASK, content.subarray(start + ATTRIBUTE_HEADER, start + length));
    start += aligned(length);
  }
  return found;
}

/** Messages and attributes begin at multiples of four. */
export function aligned(length: number): number {
  return (length + 3) & ~3;
}

/** 0 for "done", a negative errno for a refusal, undefined for an answer that is neither. */
export function errorOf(answer: Buffer): number | undefined {
  return answer.length >= 20 && answer.readUInt16LE(4) === ERROR ? answer.readInt32LE(16) : undefined;
}

export interface NetlinkSocket {
  /** The kernel has done it, and answered, when this returns; undefined: it does not. */
  ask(message: Buffer): Buffer | undefined;
  close(): void;
}

/** In the network namespace of this thread. Undefined where koffi has no build, or the kernel refuses. */
export async function openNetlinkSocket(protocol: keyof typeof PROTOCOL): Promise<NetlinkSocket | undefined> {
  libc ??= loadLibc();
  const call = await libc;
  if (!call) return undefined;
  const socket: number = call.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, PROTOCOL[protocol]);
  if (socket < 0) return undefined;
  const answer = Buffer.alloc(ANSWER_BYTES);
  let number = 0;
  return {
    ask(message) {
      number = (number + 1) >>> 0;
      message.writeUInt32LE(number, NUMBER_AT);
      if (call.send(socket, message, message.length, 0) < 0) return undefined;
      // What answers an earlier question that was given up is passed over.
      for (;;) {
        const length = Number(call.recv(socket, answer, answer.length, MSG_DONTWAIT));
        if (length < NUMBER_AT + 4) return undefined;
        if (answer.readUInt32LE(NUMBER_AT) === number) return answer.subarray(0, length);
      }
    },
    close: () => call.close(socket),
  };
}

let libc: ReturnType<typeof loadLibc> | undefined;

async function loadLibc() {
  try {
    const { default: koffi } = await import("koffi");
    const library = koffi.load("libc.so.6");
    return {
      socket: library.func("int socket(int domain, int type, int protocol)"),
      send: library.func("long send(int socket, const void *message, size_t length, int flags)"),
      recv: library.func("long recv(int socket, void *buffer, size_t length, int flags)"),
      close: library.func("int close(int descriptor)"),
    };
  } catch {
    return undefined;
  }
}
