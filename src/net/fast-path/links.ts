/** Numbers and sizes of network links, without a file system: /sys may show those of another namespace. */
import { openNetlinkSocket } from "../netlink.ts";
import { parseRoute, routeRequest } from "../route.ts";
import type { Link } from "./flow-entries.ts";

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2_000_000;
const GET_NAME = 0x8910;
const GET_INDEX = 0x8933;
const GET_MTU = 0x8921;
const NAME_BYTES = 15;
const REQUEST_BYTES = 40;

export interface LinkReader {
  linkNamed(name: string): Link | undefined;
  /** By which packets from one address to another leave, as routes and rules say now. */
  linkTowards(source: number, destination: number): Link | undefined;
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
  const routes = await openNetlinkSocket("route");
  if (!routes) {
    close(descriptor);
    throw new Error("Cannot open a socket to read routes");
  }
  const read = (name: string, request: number): number | undefined => {
    const argument = Buffer.alloc(REQUEST_BYTES);
    argument.write(name, 0, NAME_BYTES, "latin1");
    return ioctl(descriptor, request, argument) === 0 ? argument.readInt32LE(16) : undefined;
  };
  const linkNamed = (name: string) => {
    const index = read(name, GET_INDEX);
    const mtu = read(name, GET_MTU);
    return index === undefined || mtu === undefined ? undefined : { index, mtu };
  };
  const nameOf = (index: number): string | undefined => {
    const argument = Buffer.alloc(REQUEST_BYTES);
    argument.writeInt32LE(index, 16);
    if (ioctl(descriptor, GET_NAME, argument) !== 0) return undefined;
    return argument.toString("latin1", 0, argument.indexOf(0));
  };
  return {
    linkNamed,
    linkTowards(source, destination) {
      const answer = routes.ask(routeRequest(source, destination));
      const index = answer && parseRoute(answer);
      const name = index === undefined ? undefined : nameOf(index);
      return name === undefined ? undefined : linkNamed(name);
    },
    close() {
      close(descriptor);
      routes.close();
    },
  };
}
