/** The kernel's word on every change of nft tables, as it happens. */
import { closeSync, readdirSync } from "node:fs";
import { readDescriptor } from "./descriptor-reader.ts";
import { NftEvents, type TableChange } from "./nft-events.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2_000_000;
const NETLINK_NETFILTER = 12;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_PROTOCOL = 38;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NFNLGRP_NFTABLES = 7;
/** A limit, used for a moment when another program makes thousands of rules anew. */
const BUFFER_BYTES = 8 << 20;
const ADDRESS_BYTES = 12;

export interface NftWatchListener {
  /** Another program has changed our tables. */
  onForeign(change: TableChange): void;
  /** Nothing will be told any more, and something that was not may have been a change: more came at once than the kernel keeps. */
  onLost(): void;
}

/** Belongs to the network namespace that the process is in now. Returns what ends it. @throws when the kernel or koffi refuses. */
export async function watchNft(listener: NftWatchListener): Promise<() => void> {
  const call = await loadLibc();
  const events = new NftEvents();
  const own = new Set<number>();
  const isOurs = ({ port }: TableChange) => {
    if (!own.has(port)) for (const one of ownPorts(call)) own.add(one);
    return own.has(port);
  };
  const { close } = await readDescriptor(openNetlink(call), {
    onRead: (datagram) => {
      for (const change of events.push(datagram)) if (!isOurs(change)) listener.onForeign(change);
    },
    onEnd: () => listener.onLost(),
  });
  return close;
}

type Libc = Awaited<ReturnType<typeof loadLibc>>;

async function loadLibc() {
  const { default: koffi } = await import("koffi");
  const library = koffi.load("libc.so.6");
  return {
    socket: library.func("int socket(int domain, int type, int protocol)"),
    bind: library.func("int bind(int socket, const void *address, unsigned int length)"),
    setsockopt: library.func("int setsockopt(int socket, int level, int name, const void *value, unsigned int length)"),
    getsockopt: library.func("int getsockopt(int socket, int level, int name, void *value, void *length)"),
    getsockname: library.func("int getsockname(int socket, void *address, void *length)"),
  };
}

function openNetlink(call: Libc): number {
  const netlink: number = call.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK_CLOEXEC, NETLINK_NETFILTER);
  if (netlink < 0) throw new Error("Cannot open a netlink socket for the changes of nft tables");
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_NETLINK);
  call.setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, int(BUFFER_BYTES), 4);
  const isBound = call.bind(netlink, address, address.length) === 0;
  if (isBound && call.setsockopt(netlink, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int(NFNLGRP_NFTABLES), 4) === 0) {
    return netlink;
  }
  closeSync(netlink);
  throw new Error("The kernel does not tell of changes of nft tables");
}

/** The numbers of this process's netlink sockets, libnftables' among them: it has one from its first command on. */
function ownPorts(call: Libc): number[] {
  const ports: number[] = [];
  const [value, length, address] = [Buffer.alloc(4), Buffer.alloc(4), Buffer.alloc(ADDRESS_BYTES)];
  for (const name of readdirSync("/proc/self/fd")) {
    length.writeUInt32LE(value.length);
    if (call.getsockopt(Number(name), SOL_SOCKET, SO_PROTOCOL, value, length) !== 0) continue;
    length.writeUInt32LE(address.length);
    if (value.readInt32LE() !== NETLINK_NETFILTER || call.getsockname(Number(name), address, length) !== 0) continue;
    const port = address.readUInt32LE(4);
    if (port !== 0) ports.push(port);
  }
  return ports;
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
