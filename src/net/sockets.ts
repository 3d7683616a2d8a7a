/** Which process of the host listens on a port: read from /proc, so that a refusal can name it. */
import { createSocket } from "node:dgram";
import { readdir, readFile, readlink } from "node:fs/promises";
import { createServer, Server } from "node:net";
import { hasCode } from "../base/errors.ts";
import type { PortMapping } from "./network.ts";

export interface Listener {
  readonly pid?: number | undefined;
  readonly name?: string | undefined;
}

const LISTEN = "0A";
const UNCONNECTED = "07";

/**
 * The first listener that a mapping of the port would cut off, or undefined. A free port costs one `bind`;
 * /proc, whose tables take the kernel 6 ms each to print, is read for the name of a holder only.
 */
export async function findListener(port: PortMapping): Promise<Listener | undefined> {
  if (await canBind(port)) return undefined;
  const { hostPort, protocol } = port;
  for (const table of [protocol, `${protocol}6`]) {
    const inode = listeningInode(await readIfAny(`/proc/net/${table}`), hostPort, protocol);
    if (inode !== undefined) return (await processWithSocket(inode)) ?? {};
  }
  return undefined;
}

/**
 * Inode of the socket that listens on the port, by the text of /proc/net/{tcp,udp}[6]: pure.
 * Loopback addresses other than 127.0.0.1 are left out, because mappings leave them alone (a resolver on 127.0.0.53).
 */
export function listeningInode(table: string, port: number, protocol: "tcp" | "udp"): string | undefined {
  const wantedState = protocol === "tcp" ? LISTEN : UNCONNECTED;
  for (const line of table.split("\n").slice(1)) {
    const [, local = "", , state, , , , , , inode] = line.trim().split(/\s+/);
    const [address = "", portHex = ""] = local.split(":");
    if (state !== wantedState || Number.parseInt(portHex, 16) !== port) continue;
    if (!isOtherLoopback(address)) return inode;
  }
  return undefined;
}

/** True when nobody has the port on any IPv4 address; false when somebody may have, or we could not find out. */
function canBind({ hostPort, protocol }: PortMapping): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = protocol === "tcp" ? createServer() : createSocket("udp4");
    socket.on("error", () => resolve(false));
    const onBound = () => socket.close(() => resolve(true));
    if (socket instanceof Server) socket.listen({ port: hostPort, host: "0.0.0.0", exclusive: true }, onBound);
    else socket.bind({ port: hostPort, address: "0.0.0.0", exclusive: true }, onBound);
  });
}

/** Addresses stand there as little-endian words: 127.0.0.53 is 3500007F. */
function isOtherLoopback(address: string): boolean {
  return address.length === 8 && address.endsWith("7F") && address !== "0100007F";
}

async function processWithSocket(inode: string): Promise<Listener | undefined> {
  const target = `socket:[${inode}]`;
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if (await holds(pid, target)) {
      return { pid: Number(pid), name: (await readIfAny(`/proc/${pid}/comm`)).trim() || undefined };
    }
  }
  return undefined;
}

async function holds(pid: string, target: string): Promise<boolean> {
  try {
    for (const fd of await readdir(`/proc/${pid}/fd`)) {
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")) === target) return true;
    }
  } catch {
    // The process ended while we looked.
  }
  return false;
}

async function readIfAny(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    // No IPv6 in this kernel, or the process ended.
    if (hasCode(error, "ENOENT") || hasCode(error, "ESRCH")) return "";
    throw error;
  }
}
