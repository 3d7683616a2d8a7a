/** Numbers and sizes of network links, by name, without a file system: /sys may show those of another namespace. */
import { networkInterfaces } from "node:os";
import type { Link } from "./flow-entries.ts";

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2_000_000;
const GET_INDEX = 0x8933;
const GET_MTU = 0x8921;
const NAME_BYTES = 15;
const REQUEST_BYTES = 40;

export interface LinkReader {
  linkNamed(name: string): Link | undefined;
  close(): void;
}

/** Of the network namespace that the process is in now. @throws when koffi is missing */
export async function openLinkReader(): Promise<LinkReader> {
  const { default: koffi } = await import("koffi");
  const libc = koffi.load("libc.so.6");
  const socket = libc.func("int socket(int domain, int type, int protocol)");
  const ioctl = libc.func("int ioctl(int descriptor, unsigned long request, void *argument)");
  const close = libc.func("int close(int descriptor)");
  const descriptor: number = socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (descriptor < 0) throw new Error("Cannot open a socket to read links");
  const read = (name: string, request: number): number | undefined => {
    const argument = Buffer.alloc(REQUEST_BYTES);
    argument.write(name, 0, NAME_BYTES, "latin1");
    return ioctl(descriptor, request, argument) === 0 ? argument.readInt32LE(16) : undefined;
  };
  return {
    linkNamed(name) {
      const index = read(name, GET_INDEX);
      const mtu = read(name, GET_MTU);
      return index === undefined || mtu === undefined ? undefined : { index, mtu };
    },
    close: () => close(descriptor),
  };
}

/** Name of the link that has the address. */
export function linkWithAddress(address: string): string | undefined {
  const has = (one: { address: string }) => one.address === address;
  return Object.entries(networkInterfaces()).find(([, addresses]) => addresses?.some(has))?.[0];
}
