/** Keeps the overlay in the kernel as plan and routes say, and repairs it when another program changed it. */
import { formatAddress, parseAddress, type Subnet } from "../addressing/subnet.ts";
import { type Clock, pause } from "../base/clock.ts";
import { hasCode } from "../base/errors.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import type { Found } from "./bring-up.ts";
import { foreignRoutes, type HostRoute, withoutClashes } from "./clash.ts";
import { OptionalFastPath } from "./fast-path/optional-fast-path.ts";
import { type HostNetwork, readHostNetwork, readUnderlay } from "./host.ts";
import { compileIpState } from "./ip-state.ts";
import { IpTable } from "./ip-table.ts";
import { MissPath } from "./miss-path.ts";
import type { Nft } from "./nft.ts";
import type { NftTable } from "./nft-table.ts";
import type { FastPathState, MissListener, Peer, Routes, UnderlayPath } from "./overlay.ts";
import { ensureLinks, loosenSourceCheck } from "./overlay-links.ts";
import { TUN_LINK } from "./overlay-names.ts";
import { assertNoClash, clashingRanges, frameOf, type OverlayPlan, subnetsInUse } from "./overlay-plan.ts";
import { linkTo, PeerBook, SETTLE_MS } from "./peer-book.ts";
import { pokeNeighbours } from "./poke.ts";
import { TableGuard } from "./table-guard.ts";

const CHECK_MS = 30_000;
/** A neighbour that was asked for is known soon after. */
const NEIGHBOUR_MS = 200;
/** Then the check, every half minute, goes on. */
const SETTLE_ROUNDS = 8;

export interface KernelOverlayOptions {
  readonly plan: OverlayPlan;
  readonly table: NftTable;
  /** False: every packet passes the rules. */
  readonly fastPath: boolean;
  readonly log: Logger;
  readonly clock: Clock;
}

interface Opened {
  readonly nft: Nft;
  readonly ipTable: IpTable;
  readonly stopping: AbortController;
  readonly loops: Promise<unknown>;
}

export class KernelOverlay {
  readonly #options: KernelOverlayOptions;
  readonly #queue = new KeyedQueue();
  readonly #book = new PeerBook();
  readonly #miss: MissPath;
  readonly #guard: TableGuard;
  readonly #fastPath: OptionalFastPath;
  #plan: OverlayPlan;
  #peers: readonly Peer[] = [];
  /** Subnets that were ours; those without a sandbox do not count. */
  #earlier: readonly Subnet[] = [];
  #clashing: readonly Subnet[] = [];
  /** Routes of the host that no other worker's word may hide. */
  #foreign: readonly HostRoute[] = [];
  #opened: Opened | undefined;
  #settling: Promise<void> | undefined;
  /** A look at the host that is going on. */
  #look: ReturnType<typeof lookAtHost> | undefined;

  constructor(options: KernelOverlayOptions) {
    this.#options = options;
    this.#plan = options.plan;
    this.#miss = new MissPath({
      isKnown: (address) => options.table.isKnown(address),
      refuse: (address) => options.table.refuse(address),
      onFlow: (packet) => this.#fastPath.notice(packet),
      log: options.log,
    });
    const { log, clock, table } = options;
    this.#fastPath = new OptionalFastPath({ isWanted: options.fastPath, log });
    this.#guard = new TableGuard({ repair: () => table.replace(), log, clock });
  }

  get plan(): OverlayPlan {
    return this.#plan;
  }

  /** Subnets that sandboxes have addresses of. */
  get subnets(): readonly Subnet[] {
    return subnetsInUse(this.#plan.subnets, this.#earlier, this.#options.table.state.sandboxes);
  }

  /** Before the tables are opened: what an earlier agent left counts. */
  async adopt(found: Found): Promise<void> {
    this.#earlier = found.subnets;
    this.#book.adopt(found.peerNumbers);
    this.#noteClashes(found.host.routes);
    await this.#applyPeers(this.#peers, Number.NEGATIVE_INFINITY);
    await this.#applyFrame();
  }

  /**
   * Before anything is changed: the agent of another worker on this machine has the device, and would undo what we do.
   * @throws AppError TUN_BUSY
   */
  async claim({ links }: HostNetwork): Promise<void> {
    if (links.some(({ name }) => name === TUN_LINK)) await this.#openMissPath();
  }

  async open(nft: Nft): Promise<void> {
    const { table } = this.#options;
    const desired = () => compileIpState({ state: table.state, subnets: this.subnets });
    const stopping = new AbortController();
    const ipTable = new IpTable(desired);
    await this.#guard.open(nft);
    try {
      await this.#fastPath.check(nft, table);
      await this.#applyFrame();
      await table.open(nft);
      await ipTable.check();
    } catch (error) {
      this.#guard.close();
      this.#fastPath.close();
      throw error;
    }
    await this.#openMissPath();
    this.follow();
    const loops = Promise.all([this.#watch(stopping.signal), this.#guard.run(stopping.signal)]);
    this.#opened = { nft, ipTable, stopping, loops };
    this.#settlePeers();
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    opened?.stopping.abort();
    await Promise.all([opened?.loops, this.#settling]);
    this.#fastPath.close();
    this.#miss.close();
  }

  /** Routes follow the table's state. */
  async sync(): Promise<void> {
    this.follow();
    await this.#opened?.ipTable.sync();
  }

  /** Connections have been forgotten: none of their packets may go on as before. */
  forgetFlows(): void {
    this.#fastPath.forget();
  }

  get fastPath(): FastPathState {
    return this.#fastPath.state;
  }

  /** The link of a sandbox is gone, and its routes with it. */
  async forget(link: string): Promise<void> {
    await this.#opened?.ipTable.forget(link);
    await this.sync();
  }

  /** What does not go with our links. */
  async removeRoutes(): Promise<void> {
    await new IpTable(() => new Map()).check();
  }

  configure(plan: OverlayPlan): Promise<void> {
    return this.#queue.run("overlay", async () => {
      const opened = this.#opened;
      const host = opened ? await readHostNetwork() : undefined;
      if (host) {
        assertNoClash(plan, host.routes);
        await ensureLinks(host.links, { underlay: plan.underlay, mtu: host.egressMtu });
      }
      const hasMoved = plan.underlay !== this.#plan.underlay;
      this.#earlier = [...this.#earlier, ...this.#plan.subnets];
      this.#plan = plan;
      if (!opened || !host) return;
      this.#noteClashes(host.routes);
      await this.#applyFrame();
      // The tunnel's link was made anew, and what was bound to it went with the old one.
      if (hasMoved) await this.#options.table.replace();
      this.follow();
      await (hasMoved ? opened.ipTable.check() : opened.ipTable.sync());
    });
  }

  setRoutes({ services, peers }: Routes): Promise<void> {
    return this.#queue.run("overlay", async () => {
      const ids = new Set(peers.map(({ id }) => id));
      const gone = this.#peers.filter(({ id }) => !ids.has(id));
      // Where a new one has the subnet or the address of one that goes, the last counts.
      if (peers !== this.#peers) await this.#setPeers([...gone, ...peers]);
      await this.#options.table.setServices(services);
      this.#miss.release();
      // No service leads there any more.
      if (gone.length > 0) await this.#setPeers(peers);
      this.#peers = peers;
    });
  }

  onMiss(listener: MissListener): void {
    this.#miss.onMiss(listener);
  }

  async refuse(address: string): Promise<void> {
    const number = parseAddress(address);
    if (number !== undefined) await this.#miss.refuse(number);
  }

  async underlayTo(address: string): Promise<UnderlayPath> {
    this.#look ??= lookAtHost().finally(() => {
      this.#look = undefined;
    });
    const [underlay, { egressMtu }] = await this.#look;
    const link = linkTo(underlay, parseAddress(address) ?? 0);
    return { onLink: link !== undefined, mtu: link?.mtu ?? egressMtu };
  }

  /** Looks at everything that is ours, and puts right what is not as it should be. */
  check(): Promise<void> {
    return this.#queue.run("overlay", async () => {
      const opened = this.#opened;
      if (!opened) return;
      const { table, log } = this.#options;
      const host = await readHostNetwork();
      const wanted = { underlay: this.#plan.underlay, mtu: host.egressMtu };
      const hasLinks = !(await ensureLinks(host.links, wanted));
      if (!hasLinks) await table.replace();
      await this.#applyPeers(this.#peers);
      await this.#fastPath.check(opened.nft, table);
      await this.#applyFrame();
      this.follow();
      const hasRules = !(await table.check());
      const commands = await opened.ipTable.check();
      if (!hasLinks || !hasRules || commands.length > 0) {
        log.warn(
          { hasLinks, hasRules, commands: commands.slice(0, 10) },
          "another program changed our kernel state; repaired",
        );
      }
      await this.#openMissPath();
      await this.#guard.watch();
      this.#settlePeers();
    });
  }

  async #setPeers(peers: readonly Peer[]): Promise<void> {
    this.#peers = peers;
    if (!this.#opened) return;
    const cut = peers.filter((peer) => withoutClashes(peer, this.#foreign).subnets.length < peer.subnets.length);
    if (cut.length > 0)
      this.#options.log.warn({ peers: cut }, "subnets of other workers that the host routes elsewhere");
    await this.#applyPeers(peers);
    await this.#applyFrame();
    this.follow();
    await this.#opened.ipTable.sync();
    this.#settlePeers();
  }

  async #applyPeers(peers: readonly Peer[], now = this.#options.clock.monotonic()): Promise<void> {
    const underlay = peers.length === 0 ? { links: [], neighbours: [] } : await readUnderlay();
    const usable = peers.map((peer) => withoutClashes(peer, this.#foreign));
    const described = this.#book.describe(usable, underlay, { now, own: this.#plan.underlay });
    const links = new Set(described.flatMap(({ neighbour }) => neighbour?.link ?? []));
    for (const link of links) await loosenSourceCheck(link);
    const { guardedHosts } = this.#plan;
    await this.#options.table.change((state) => ({ ...state, peers: described, guardedHosts }));
  }

  async #applyFrame(): Promise<void> {
    const { table } = this.#options;
    const { guardedHosts } = this.#plan;
    await table.change((state) => {
      const peerSubnets = state.peers.flatMap(({ subnets }) => subnets);
      const use = { subnets: this.subnets, peerSubnets, clashing: this.#clashing };
      const frame = frameOf(this.#plan, { ...use, hasFastPath: this.#fastPath.state.on });
      return { ...state, frame, guardedHosts };
    });
  }

  #noteClashes(routes: Found["host"]["routes"]): void {
    this.#clashing = clashingRanges(this.#plan, routes);
    this.#foreign = foreignRoutes(routes);
  }

  /** Peers on common links get plain routes as soon as both ends can know each other: who is unknown is asked. */
  #settlePeers(): void {
    if (this.#settling || !this.#opened) return;
    this.#settling = this.#settle(this.#opened.stopping.signal)
      .catch((error: unknown) => this.#options.log.warn({ error }, "cannot look up peers on common links"))
      .finally(() => {
        this.#settling = undefined;
      });
  }

  async #settle(signal: AbortSignal): Promise<void> {
    const { clock, table } = this.#options;
    for (let round = 0; round < SETTLE_ROUNDS && !signal.aborted; round++) {
      const { links } = await readUnderlay();
      const near = table.state.peers.filter(({ address }) => linkTo({ links, neighbours: [] }, address) !== undefined);
      const unknown = near.filter(({ neighbour }) => neighbour === undefined);
      const waiting = near.some(({ id, path }) => path !== this.#peers.find((peer) => peer.id === id)?.path);
      if (unknown.length === 0 && !waiting) return;
      await pokeNeighbours(unknown.map(({ address }) => formatAddress(address)));
      await pause(clock, unknown.length > 0 ? NEIGHBOUR_MS : SETTLE_MS, signal);
      if (signal.aborted) return;
      await this.#queue.run("overlay", async () => {
        await this.#applyPeers(this.#peers);
        await this.sync();
      });
    }
  }

  /** The fast path follows the table's state. */
  follow(): void {
    this.#fastPath.follow({ state: this.#options.table.state, underlay: this.#plan.underlay });
  }

  async #openMissPath(): Promise<void> {
    try {
      await this.#miss.open();
    } catch (error) {
      if (hasCode(error, "TUN_BUSY")) throw error;
      this.#options.log.warn({ error }, "first packets to unknown services are lost");
    }
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      await pause(clock, CHECK_MS, signal);
      if (signal.aborted) return;
      try {
        await this.check();
      } catch (error) {
        log.warn({ error }, "cannot check the kernel's state");
      }
    }
  }
}

function lookAtHost() {
  return Promise.all([readUnderlay(), readHostNetwork()]);
}
