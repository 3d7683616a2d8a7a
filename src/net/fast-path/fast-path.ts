/**
 * Packets of flows that go on for a while need not pass the rules, one by one, again and again: a program in the kernel sends them
 * on where they arrive. It tells of each flow that is worth it; what the connection table says of it decides. The rules stay the
 * only source of decisions: every entry is what they came to, and is forgotten when what they depend on changes. When this
 * process dies the program goes with it, and all packets pass the rules again.
 */
import { closeSync } from "node:fs";
import { kernelTime } from "../../base/clock.ts";
import { connectionRequest, liberalRequest, parseConnection, TCP, type Tuple, UDP } from "../connection.ts";
import type { KernelState } from "../kernel-state.ts";
import { errorOf, type NetlinkSocket, openNetlinkSocket } from "../netlink.ts";
import { TUN_LINK, VXLAN_LINK } from "../overlay-names.ts";
import { linkName } from "../sandbox-names.ts";
import { type Bpf, hasErrno, type MapShape, openBpf } from "./bpf.ts";
import { FLOW_BYTES, flowEntries, KEY_BYTES, type Link, MOMENTS, type Surroundings } from "./flow-entries.ts";
import { type LinkReader, openLinkReader } from "./links.ts";
import { flowProgram } from "./program.ts";

const SETTINGS_BYTES = 32;
/** In the order of their numbers in flow.bpf.c. About 1.5 MB of the kernel's memory. */
const MAPS: readonly MapShape[] = [
  { name: "oak_flows", type: "lruHash", keyBytes: KEY_BYTES, valueBytes: FLOW_BYTES, entries: 8192 },
  { name: "oak_seen", type: "lruHash", keyBytes: KEY_BYTES, valueBytes: 8, entries: 4096 },
  { name: "oak_settings", type: "array", keyBytes: 4, valueBytes: SETTINGS_BYTES, entries: 1 },
];
const NOTICE_BYTES = 28;
const ENOENT = -2;
const TICK_NS = 100_000_000n;

export interface Situation {
  readonly state: KernelState;
  /** The worker's address among workers. */
  readonly underlay: number | undefined;
  /** False: the host has a say about tunnel packets that only its own way out asks for. */
  readonly mayTunnel: boolean;
}

interface Opened {
  readonly bpf: Bpf;
  readonly maps: readonly number[];
  readonly program: number;
  readonly netfilter: NetlinkSocket;
  readonly links: LinkReader;
}

interface Attached extends Link {
  /** Of the program's link to it. */
  readonly descriptor: number;
}

export class FastPath {
  #opened: Opened | undefined;
  readonly #attached = new Map<string, Attached>();
  #situation: Situation | undefined;
  /** Of tunnel packets, by the peer's address: those that entries were made of. */
  readonly #exits = new Map<number, Link>();
  #generation = 0n;
  #settings = Buffer.alloc(0);

  get isOpen(): boolean {
    return this.#opened !== undefined;
  }

  /** In the network namespace that the process is in now. @throws with the reason where kernel or rights do not allow it */
  async open(): Promise<void> {
    if (this.#opened) return;
    const descriptors: number[] = [];
    let links: LinkReader | undefined;
    try {
      const bpf = await openBpf();
      const maps = MAPS.map((shape) => keep(descriptors, bpf.createMap(shape)));
      const program = keep(descriptors, bpf.loadProgram("oak_flow", flowProgram(maps)));
      links = await openLinkReader();
      // Kernels before 6.6 load the program and cannot attach it.
      const trial = links.linkNamed("lo");
      if (trial) closeSync(bpf.attach(program, trial.index));
      const netfilter = await openNetlinkSocket("netfilter");
      const nobody: Tuple = { source: 0, destination: 0, sourcePort: 0, destinationPort: 0 };
      const answer = netfilter?.ask(connectionRequest(UDP, nobody));
      if (!netfilter || !answer || errorOf(answer) !== ENOENT)
        throw new Error("the kernel does not talk of connections: no nf_conntrack_netlink");
      this.#opened = { bpf, maps, program, netfilter, links };
    } catch (error) {
      links?.close();
      for (const descriptor of descriptors) closeSync(descriptor);
      throw error;
    }
  }

  /** Everything passes the rules again. */
  close(): void {
    const opened = this.#opened;
    if (!opened) return;
    this.#opened = undefined;
    for (const { descriptor } of this.#attached.values()) closeSync(descriptor);
    this.#attached.clear();
    this.#exits.clear();
    this.#situation = undefined;
    this.#settings = Buffer.alloc(0);
    for (const descriptor of [opened.program, ...opened.maps]) closeSync(descriptor);
    opened.netfilter.close();
    opened.links.close();
  }

  /** After each change of what is in the kernel. */
  follow(situation: Situation): void {
    const opened = this.#opened;
    if (!opened) return;
    const { state } = situation;
    const isOther = isObsolete(this.#situation, situation);
    this.#situation = situation;
    const mustForget = isOther || this.#hasOtherExit(opened);
    if (mustForget) this.#exits.clear();
    const neighbours = state.peers.flatMap(({ neighbour }) => (neighbour ? [neighbour.link] : []));
    const lasting = new Set([VXLAN_LINK, ...neighbours]);
    const hasChanged = this.#attach(opened, lasting, new Set(state.sandboxes.map(linkName)));
    if (mustForget || hasChanged) this.#generation += 1n;
    this.#writeSettings(opened);
  }

  /** What was translated is not valid any more: all flows pass the rules, and are learnt anew. */
  forget(): void {
    if (!this.#opened) return;
    this.#generation += 1n;
    this.#writeSettings(this.#opened);
  }

  /** @param packet what the program sent to the agent: an IPv4 packet with version 0 */
  notice(packet: Buffer): void {
    const opened = this.#opened;
    const situation = this.#situation;
    if (!opened || !situation || packet.length < NOTICE_BYTES) return;
    const protocol = packet[9]!;
    if (protocol !== TCP && protocol !== UDP) return;
    const answer = opened.netfilter.ask(connectionRequest(protocol, tupleOf(packet)));
    const connection = answer && parseConnection(answer);
    if (!connection?.isEstablished) return;
    const around: Surroundings = {
      ...situation,
      exitTo: (address) => this.#exitTo(opened, address),
      linkNamed: (name) => this.#attached.get(name),
    };
    const entries = flowEntries(connection, around);
    if (entries.length === 0) return;
    if (protocol === TCP) {
      const done = opened.netfilter.ask(liberalRequest(connection));
      if (!done || errorOf(done) !== 0) return;
    }
    // The kernel's coarse clock may be a tick behind. One that no packet uses, as the way that a peer does not take, is soon void.
    const now = kernelTime() - TICK_NS;
    for (const { key, flow } of entries) {
      flow.writeBigUInt64LE(this.#generation, 0);
      flow.writeBigUInt64LE(now, MOMENTS.refreshed);
      flow.writeBigUInt64LE(now, MOMENTS.learnt);
      // One that is there lives by its own packets, not by what others may have had the program tell.
      opened.bpf.addElement(opened.maps[0]!, key, flow);
    }
  }

  /**
   * Links of the host and the tunnel may be made anew under the same name, or get another size; those of sandboxes go before they
   * come again. True when what is known of flows is wrong then.
   */
  #attach({ bpf, program, links }: Opened, lasting: ReadonlySet<string>, sandboxes: ReadonlySet<string>): boolean {
    let hasChanged = false;
    for (const [name, { index, mtu, descriptor }] of this.#attached) {
      const now = lasting.has(name) ? links.linkNamed(name) : undefined;
      if (sandboxes.has(name) || (now?.index === index && now.mtu === mtu)) continue;
      closeSync(descriptor);
      this.#attached.delete(name);
      hasChanged = true;
    }
    for (const name of [...lasting, ...sandboxes]) {
      const link = this.#attached.has(name) ? undefined : links.linkNamed(name);
      if (!link) continue;
      try {
        this.#attached.set(name, { ...link, descriptor: bpf.attach(program, link.index) });
      } catch (error) {
        // It has gone in this moment.
        if (!hasErrno(error, "ENODEV")) throw error;
      }
    }
    return hasChanged;
  }

  #exitTo({ links }: Opened, address: number): Link | undefined {
    const known = this.#exits.get(address);
    if (known) return known;
    const { underlay, mayTunnel } = this.#situation ?? {};
    const exit = underlay === undefined || !mayTunnel ? undefined : links.linkTowards(underlay, address);
    if (exit) this.#exits.set(address, exit);
    return exit;
  }

  /** The host's routes have changed: tunnel packets leave by another link, or one of another size. */
  #hasOtherExit({ links }: Opened): boolean {
    const underlay = this.#situation?.underlay ?? 0;
    return [...this.#exits].some(([address, { index, mtu }]) => {
      const now = links.linkTowards(underlay, address);
      return now?.index !== index || now.mtu !== mtu;
    });
  }

  #writeSettings({ bpf, maps, links }: Opened): void {
    const ranges = this.#situation?.state.frame.ranges ?? [];
    const settings = Buffer.alloc(SETTINGS_BYTES);
    settings.writeBigUInt64LE(this.#generation, 0);
    // From the first to the last: what is between and not ours has no entries, and is counted in vain.
    settings.writeUInt32LE(ranges[0]?.first ?? 1, 8);
    settings.writeUInt32LE(ranges.at(-1)?.last ?? 0, 12);
    settings.writeUInt32LE(links.linkNamed(TUN_LINK)?.index ?? 0, 16);
    if (settings.equals(this.#settings)) return;
    this.#settings = settings;
    bpf.setElement(maps[2]!, Buffer.alloc(4), settings);
  }
}

/** A sandbox or a peer that is gone, or is somewhere else now; more of them change nothing for the others. */
export function isObsolete(before: Situation | undefined, now: Situation): boolean {
  if (!before) return false;
  if (before.underlay !== now.underlay || before.mayTunnel !== now.mayTunnel) return true;
  const sandboxes = new Set(now.state.sandboxes);
  const peers = new Set(now.state.peers.map((peer) => JSON.stringify(peer)));
  return (
    before.state.sandboxes.some((address) => !sandboxes.has(address)) ||
    before.state.peers.some((peer) => !peers.has(JSON.stringify(peer)))
  );
}

function tupleOf(packet: Buffer): Tuple {
  return {
    source: packet.readUInt32BE(12),
    destination: packet.readUInt32BE(16),
    sourcePort: packet.readUInt16BE(20),
    destinationPort: packet.readUInt16BE(22),
  };
}

function keep(list: number[], descriptor: number): number {
  list.push(descriptor);
  return descriptor;
}
