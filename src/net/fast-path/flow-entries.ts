/**
 * From a connection to the entries that let its packets take the fast path, one for each way in which they may arrive: pure. Addresses
 * and ports are numbers; the layouts are those of flow.bpf.c.
 */
import { contains } from "../../addressing/subnet.ts";
import type { Connection, Tuple } from "../connection.ts";
import type { KernelPeer, KernelState } from "../kernel-state.ts";
import { MARK_BASE, MARK_MASK, SANDBOX_GATEWAY_MAC, VXLAN_LINK, vxlanMac } from "../overlay-names.ts";
import { linkName, macAddress } from "../sandbox-names.ts";

export const KEY_BYTES = 24;
export const FLOW_BYTES = 72;
/** Where the moments of the last refresh and of learning stand, ns. */
export const MOMENTS = { refreshed: 8, learnt: 64 } as const;

/** Outer IPv4, UDP, VXLAN and inner Ethernet header. */
const TUNNEL_HEADERS = 50;
const ACTION = { sandbox: 1, tunnel: 2, neighbour: 3 } as const;

export interface Link {
  readonly index: number;
  readonly mtu: number;
}

/** What entries depend on besides the connection. */
export interface Surroundings {
  readonly state: KernelState;
  /** The worker's address among workers. */
  readonly underlay: number | undefined;
  /** The link of the host by which tunnel packets to a peer's address leave. */
  readonly exitTo: (address: number) => Link | undefined;
  readonly linkNamed: (name: string) => Link | undefined;
}

export interface FlowEntry {
  readonly key: Buffer;
  /** Without generation (the first 8 bytes) and moments. */
  readonly flow: Buffer;
}

/** Where packets of one direction come from, or go to. */
type End = { readonly sandbox: number } | { readonly peer: KernelPeer };

/** None where a packet would need more than other addresses, or an end is neither a sandbox of ours nor one of a peer. */
export function flowEntries(connection: Connection, around: Surroundings): FlowEntry[] {
  const { original, reply, protocol } = connection;
  const client = clientOf(connection, around.state);
  const server = endOf(reply.source, around.state);
  // Ports too are translated where two clients have the same one, and by host ports: rare, and not worth the instructions.
  const keepsPorts = original.sourcePort === reply.destinationPort && original.destinationPort === reply.sourcePort;
  if (!client || !server || !keepsPorts) return [];
  // This worker's own: its connection has the mark of whoever answered, and its packets are for us.
  if ("peer" in client && "peer" in server) return [];
  const back = { source: original.destination, destination: original.source };
  const there = { source: reply.destination, destination: reply.source };
  return [
    ...direction({ tuple: original, to: there, protocol, from: client, towards: server }, around),
    ...direction({ tuple: reply, to: back, protocol, from: server, towards: client }, around),
  ];
}

/** Its address may be an instance's, which does not tell where it is: its connection's mark does, if it is not here. */
function clientOf({ original, mark }: Connection, state: KernelState): End | undefined {
  if (state.sandboxes.includes(original.source)) return { sandbox: original.source };
  const isOurs = (mark & MARK_MASK) >>> 0 === MARK_BASE;
  const peer = isOurs ? state.peers.find(({ number }) => number === (mark & ~MARK_MASK)) : undefined;
  return peer && { peer };
}

function endOf(address: number, state: KernelState): End | undefined {
  if (state.sandboxes.includes(address)) return { sandbox: address };
  // As routes are: where two are said to have it, the last counts.
  const peer = state.peers.findLast(({ subnets }) => subnets.some((subnet) => contains(subnet, address)));
  return peer && { peer };
}

interface Direction {
  /** As its packets arrive. */
  readonly tuple: Tuple;
  /** Addresses as its packets leave. */
  readonly to: Pick<Tuple, "source" | "destination">;
  readonly protocol: Connection["protocol"];
  readonly from: End;
  readonly towards: End;
}

function direction(one: Direction, around: Surroundings): FlowEntry[] {
  const flow = flowOf(one, around);
  if (!flow) return [];
  return arrivals(one.from, around).map(({ link, sender }) => ({ key: keyOf(one, link, sender), flow }));
}

/** A peer's packets come by the tunnel or a common link, whichever way ours go to it. */
function arrivals(from: End, { linkNamed }: Surroundings): { readonly link: Link; readonly sender: string }[] {
  const ways =
    "sandbox" in from
      ? [{ name: linkName(from.sandbox), sender: macAddress(from.sandbox) }]
      : [
          { name: VXLAN_LINK, sender: vxlanMac(from.peer.address) },
          ...(from.peer.neighbour ? [{ name: from.peer.neighbour.link, sender: from.peer.neighbour.mac }] : []),
        ];
  return ways.flatMap(({ name, sender }) => {
    const link = linkNamed(name);
    return link ? [{ link, sender }] : [];
  });
}

function keyOf({ tuple, protocol }: Direction, link: Link, sender: string): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  key.writeUInt32BE(tuple.source, 0);
  key.writeUInt32BE(tuple.destination, 4);
  key.writeUInt16BE(tuple.sourcePort, 8);
  key.writeUInt16BE(tuple.destinationPort, 10);
  key.writeUInt32LE(link.index, 12);
  macBytes(sender).copy(key, 16);
  key[22] = protocol;
  return key;
}

function flowOf({ tuple, to, towards }: Direction, around: Surroundings): Buffer | undefined {
  const way = wayTo(towards, around);
  if (!way) return undefined;
  const flow = Buffer.alloc(FLOW_BYTES);
  flow.writeUInt32BE(to.source, 16);
  flow.writeUInt32BE(to.destination, 20);
  flow.writeUInt32LE(checksumDifference([tuple.source, tuple.destination], [to.source, to.destination]), 24);
  flow.writeUInt32LE(ACTION[way.action], 28);
  flow.writeUInt32LE(way.link.index, 32);
  flow.writeUInt32LE(way.mtu, 36);
  flow.writeUInt32BE(way.nextHop ?? 0, 40);
  flow.writeUInt32BE(way.outer?.source ?? 0, 44);
  flow.writeUInt32BE(way.outer?.destination ?? 0, 48);
  if (way.ethernet) Buffer.concat(way.ethernet.map(macBytes)).copy(flow, 52);
  return flow;
}

interface Way {
  readonly action: keyof typeof ACTION;
  readonly link: Link;
  readonly mtu: number;
  readonly nextHop?: number;
  readonly outer?: { readonly source: number; readonly destination: number };
  /** Destination and source of the Ethernet header that the receiver sees. */
  readonly ethernet?: readonly [string, string];
}

function wayTo(end: End, { underlay, exitTo, linkNamed }: Surroundings): Way | undefined {
  if ("sandbox" in end) {
    const link = linkNamed(linkName(end.sandbox));
    const ethernet = [macAddress(end.sandbox), SANDBOX_GATEWAY_MAC] as const;
    return link && { action: "sandbox", link, mtu: link.mtu, ethernet };
  }
  const { address, path, neighbour } = end.peer;
  if (path === "plain" && neighbour) {
    const link = linkNamed(neighbour.link);
    return link && { action: "neighbour", link, mtu: link.mtu, nextHop: address };
  }
  const tunnel = linkNamed(VXLAN_LINK);
  const exit = exitTo(address);
  if (underlay === undefined || !tunnel || !exit) return undefined;
  return {
    action: "tunnel",
    link: exit,
    // Of several links the tunnel's is made for one, and what leaves here meets no IP layer that would cut it.
    mtu: Math.min(tunnel.mtu, exit.mtu - TUNNEL_HEADERS),
    outer: { source: underlay, destination: address },
    ethernet: [vxlanMac(address), vxlanMac(underlay)],
  };
}

/** What a change of addresses adds to an Internet checksum (RFC 1624), in the machine's order: little-endian wherever we run. */
export function checksumDifference(before: readonly number[], after: readonly number[]): number {
  const words = (address: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(address);
    return bytes.readUInt16LE(0) + bytes.readUInt16LE(2);
  };
  let sum = 0;
  for (const address of after) sum += words(address);
  // Subtraction in ones' complement: each word is added inverted.
  for (const address of before) sum += 2 * 0xffff - words(address);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  // Both are zero, and this one says that nothing need be added.
  return sum === 0xffff ? 0 : sum;
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}
