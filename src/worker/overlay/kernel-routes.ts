/** Brings what the tables say, corrected by what this worker knows better, into the kernel. */
import { contains, parseAddress, parseSubnet } from "../../addressing/subnet.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Overlay, Routes } from "../../net/overlay.ts";
import type { PathQuality, RttProber } from "../../net/rtt.ts";
import type { ServiceRoute, WorkerEndpoint } from "../../protocol/route.ts";
import type { Introductions } from "./introductions.ts";
import type { OwnInstance } from "./own-instances.ts";
import type { PeerPaths } from "./peer-paths.ts";
import { gatewayOf, isLoopback } from "./place.ts";
import { type CompiledService, RouteCompiler } from "./route-compiler.ts";

export interface KernelRoutesOptions {
  readonly overlay: Pick<Overlay, "setRoutes" | "flush">;
  readonly tables: () => ReadonlyMap<string, ServiceRoute>;
  readonly own: () => ReadonlyMap<string, OwnInstance>;
  readonly selfId: () => string;
  /** Whether an instance is to run here; true also when that is not known. */
  readonly isDesired: (instanceId: string) => boolean;
  /** Whether instances of the service are to run here, and nobody has looked yet whether they do. */
  readonly isUnsure: (serviceId: string) => boolean;
  /** Workers that have introduced themselves. */
  readonly callers: () => readonly WorkerEndpoint[];
  readonly prober: Pick<RttProber, "quality" | "setPeers">;
  readonly introductions: Pick<Introductions, "setPeers" | "isReachable">;
  readonly paths: Pick<PeerPaths, "update" | "measured">;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Longer than most instances need to end once traffic goes elsewhere, also by a move, which leaves them a while: what they are
 * still answering shall get through.
 */
const FLUSH_AFTER_MS = 15_000;
/** Measurements move traffic at most this often. */
const MEASURED_MS = 1000;
/** With so many answers missing in a row nothing is known of the distance. */
const MISSED_MOST = 3;

export class KernelRoutes {
  readonly #options: KernelRoutesOptions;
  readonly #compiler = new RouteCompiler();
  readonly #dirty = new Set<string>();
  readonly #measured = new Set<string>();
  /** Sandboxes of other workers whose instance is gone, and when their connections are forgotten; monotonic ms. */
  readonly #flushAt = new Map<string, number>();
  #measuredAt = Number.NEGATIVE_INFINITY;
  #own: ReadonlyMap<string, OwnInstance> = new Map();
  /** Other workers by id. Those that tables name come last, which counts where two have a subnet or an address in common. */
  readonly #peers = new Map<string, WorkerEndpoint>();
  /** What tables, and the workers themselves, said last of each worker. */
  readonly #heard = new Map<string, string>();
  #peerAddresses: ReadonlySet<string> = new Set();
  #applied: Routes = { services: [], peers: [] };

  constructor(options: KernelRoutesOptions) {
    this.#options = options;
  }

  /** Other workers, whoever made them known. */
  get peers(): readonly WorkerEndpoint[] {
    return [...this.#peers.values()];
  }

  /** Whether another worker's probes come from there. */
  isPeer(address: string): boolean {
    return this.#peerAddresses.has(address);
  }

  get applied(): Routes {
    return this.#applied;
  }

  /** Whether the kernel takes packets of the other worker as it is now. */
  takesFrom({ id, address, subnets }: WorkerEndpoint): boolean {
    return this.#applied.peers.some(
      (peer) => peer.id === id && peer.address === address && peer.subnets.join() === subnets.join(),
    );
  }

  /** Whether packets are still sent to this worker's instance. */
  leadsTo(instanceId: string): boolean {
    const { serviceId, sandbox } = this.#own.get(instanceId) ?? {};
    return sandbox !== undefined || (serviceId !== undefined && !this.isSettled(serviceId));
  }

  of(serviceId: string): CompiledService | undefined {
    return this.#compiler.of(serviceId);
  }

  /** Everything that the service's table says is in the kernel. */
  isSettled(serviceId: string): boolean {
    const isCompiled = !this.#dirty.has(serviceId) && !this.#compiler.partialIds.has(serviceId);
    return isCompiled && this.#compiler.services === this.#applied.services;
  }

  routesChanged(serviceIds: Iterable<string>): void {
    for (const serviceId of serviceIds) this.#dirty.add(serviceId);
  }

  /** A worker takes our packets from now on. */
  reachable(): void {
    this.routesChanged(this.#compiler.partialIds);
  }

  /** A path to a worker was measured. True when this is worth a call of `apply` now. */
  measured(workerId: string): boolean {
    const isOtherWay = this.#options.paths.measured(workerId);
    const isFirst = this.#measured.size === 0;
    this.#measured.add(workerId);
    return isOtherWay || isFirst;
  }

  /** @param known workers that took our packets in an earlier run */
  async apply(known?: ReadonlySet<string>): Promise<{ againInMs: number } | undefined> {
    const { overlay, paths, introductions, prober, callers } = this.#options;
    this.#noteOwn();
    const measuredInMs = this.#noteMeasured();
    this.#compile();
    introductions.setPeers(this.#compiler.workers, known);
    this.reachable();
    this.#compile();
    this.#notePeers({ tables: this.#compiler.workers, callers: callers() });
    const peers = await paths.update(this.peers);
    prober.setPeers(this.peers.map(({ id, address, subnets }) => ({ id, addresses: probed(address, subnets) })));
    const { services } = this.#compiler;
    if (services !== this.#applied.services || peers !== this.#applied.peers) {
      const routes = { services, peers };
      await overlay.setRoutes(routes);
      this.#applied = routes;
    }
    const againInMs = Math.min(measuredInMs, await this.#flush());
    return againInMs === Number.POSITIVE_INFINITY ? undefined : { againInMs };
  }

  /** Services whose instances here take traffic now, or do not any more. */
  #noteOwn(): void {
    const own = this.#options.own();
    for (const [instanceId, { serviceId, ...now }] of own) {
      const before = this.#own.get(instanceId);
      const isSame = before?.sandbox === now.sandbox && before?.address === now.address;
      if (!isSame || before?.isStandby !== now.isStandby) this.#dirty.add(serviceId);
    }
    for (const [instanceId, { serviceId }] of this.#own) if (!own.has(instanceId)) this.#dirty.add(serviceId);
    this.#own = own;
  }

  #noteMeasured(): number {
    const now = this.#options.clock.monotonic();
    if (this.#measured.size === 0) return Number.POSITIVE_INFINITY;
    const waitMs = this.#measuredAt + MEASURED_MS - now;
    if (waitMs > 0) return waitMs;
    this.#measuredAt = now;
    this.routesChanged(this.#compiler.servicesOn(this.#measured));
    this.#measured.clear();
    return Number.POSITIVE_INFINITY;
  }

  #compile(): void {
    const { tables, selfId, isDesired, isUnsure, introductions, clock } = this.#options;
    const own = Map.groupBy(this.#own.values(), ({ serviceId }) => serviceId);
    const isOwn = (sandbox: string) => [...this.#own.values()].some((one) => one.sandbox === sandbox);
    const context = {
      ...{ selfId: selfId(), isDesired, isUnsure },
      isReachable: (id: string) => introductions.isReachable(id),
      rttMs: this.#rttMs,
    };
    for (const serviceId of this.#dirty) {
      const table = tables().get(serviceId);
      const lost = this.#compiler.update(serviceId, table, { ...context, own: own.get(serviceId) ?? [] });
      for (const sandbox of lost) {
        // One's own, which has moved away, is flushed when it ends; its address may be another's by then.
        if (!isOwn(sandbox)) this.#flushAt.set(sandbox, clock.monotonic() + FLUSH_AFTER_MS);
      }
    }
    this.#dirty.clear();
  }

  readonly #rttMs = (workerId: string): number | undefined => {
    const { quality } = this.#options.prober;
    const known = (path: "underlay" | "overlay") => rttOf(quality.call(this.#options.prober, workerId, path));
    return known("underlay") ?? known("overlay");
  };

  /** Where two sources differ, that counts which has said something new last. */
  #notePeers(sources: Readonly<Record<string, readonly WorkerEndpoint[]>>): void {
    const ids = new Set<string>();
    for (const [source, endpoints] of Object.entries(sources)) {
      for (const endpoint of endpoints) {
        const { id, address } = endpoint;
        if (id === this.#options.selfId() || isLoopback(address)) continue;
        const [key, text] = [`${source} ${id}`, JSON.stringify(endpoint)];
        if (this.#heard.get(key) !== text || !this.#peers.has(id)) this.#peers.set(id, endpoint);
        this.#heard.set(key, text);
        ids.add(id);
      }
    }
    for (const [id, { subnets }] of this.#peers) {
      if (ids.has(id) || this.#isAnswering(subnets)) continue;
      this.#peers.delete(id);
      for (const source of Object.keys(sources)) this.#heard.delete(`${source} ${id}`);
    }
    for (const { id } of sources.tables ?? []) {
      const named = this.#peers.get(id);
      if (named && this.#peers.delete(id)) this.#peers.set(id, named);
    }
    const addresses = this.peers.flatMap(({ address, subnets }) => [address, ...subnets.map(gatewayOf)]);
    this.#peerAddresses = new Set(addresses);
  }

  /** Connections to an instance that is gone from there may go on: its packets must still be taken. */
  #isAnswering(subnets: readonly string[]): boolean {
    if (this.#flushAt.size === 0) return false;
    const ranges = subnets.map(parseSubnet);
    return [...this.#flushAt.keys()].some((sandbox) => {
      const address = parseAddress(sandbox)!;
      return ranges.some((range) => contains(range, address));
    });
  }

  async #flush(): Promise<number> {
    const { overlay, clock, log } = this.#options;
    const now = clock.monotonic();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [sandbox, at] of this.#flushAt) {
      if (at > now) {
        nextMs = Math.min(nextMs, at - now);
        continue;
      }
      this.#flushAt.delete(sandbox);
      const isBack = this.#applied.services.some(({ instances }) => instances.some((one) => one.sandbox === sandbox));
      if (!isBack) await overlay.flush(sandbox).catch((error: unknown) => log.warn({ sandbox, error }, "not flushed"));
    }
    return nextMs;
  }
}

function probed(address: string, [subnet]: readonly string[]) {
  return { underlay: address, ...(subnet === undefined ? {} : { overlay: gatewayOf(subnet) }) };
}

function rttOf(quality: PathQuality | undefined): number | undefined {
  return quality && quality.missed < MISSED_MOST ? quality.rttMs : undefined;
}
