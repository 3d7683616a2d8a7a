/**
 * Tells clusters the routes that they are interested in: tables of services, from the store, pushed at every change.
 * Only services that somebody has an interest in are kept in memory.
 */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import { RouteFanout } from "../hierarchy/route-fanout.ts";
import { generations, isSameRoute, keysOf } from "../hierarchy/route-keys.ts";
import { type Interest, type InterestKey, interestIn, type RouteUpdate, type ServiceRoute } from "../protocol/route.ts";
import { updateParts } from "../protocol/route-parts.ts";
import type { Changes } from "./changes.ts";
import { routeTable } from "./route-table.ts";
import type { RootStore } from "./store/root-store.ts";

export interface RoutesOptions {
  readonly store: Pick<RootStore, "nextEpoch" | "servicesOf" | "routed">;
  readonly changes: Pick<Changes, "onAny">;
  /** False: not now, `trigger` comes when it may be tried again. */
  readonly canSend: (clusterId: string) => boolean;
  readonly send: (clusterId: string, update: RouteUpdate) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Of one cluster; it serves thousands of workers with it. */
const MAX_KEYS = 100_000;
/** Everything triggers a pass at once; this only repeats what a congested link has put off. */
const RESYNC_MS = 10_000;

export class Routes {
  readonly #options: RoutesOptions;
  readonly #loop: Reconciler;
  readonly #fanout: RouteFanout;
  readonly #tables = new Map<string, ServiceRoute>();
  /** What each key stands for; only keys that are wanted. */
  readonly #meaning = new Map<InterestKey, readonly string[]>();
  /** The other way round. */
  readonly #keysOf = new Map<string, Set<InterestKey>>();
  readonly #newKeys = new Set<InterestKey>();
  readonly #changed = new Set<string>();
  #nextGeneration: (() => number) | undefined;

  constructor(options: RoutesOptions) {
    const { log, clock } = options;
    this.#options = options;
    this.#fanout = new RouteFanout({
      resolve: (key) => this.#meaning.get(key),
      table: (serviceId) => this.#tables.get(serviceId),
    });
    this.#loop = new Reconciler({ name: "routes", pass: () => this.#pass(), log, clock, resyncMs: RESYNC_MS });
  }

  async run(signal: AbortSignal): Promise<void> {
    const stopListening = this.#options.changes.onAny((serviceIds) => this.#note(serviceIds));
    try {
      await this.#loop.run(signal);
    } finally {
      stopListening();
    }
  }

  trigger(): void {
    this.#loop.trigger();
  }

  interest(clusterId: string, interest: Interest): void {
    const room = MAX_KEYS - (interest.full ? 0 : this.#fanout.countOf(clusterId));
    const add = interest.add.slice(0, Math.max(0, room));
    if (add.length < interest.add.length) {
      this.#options.log.warn(
        { clusterId, max: MAX_KEYS, ignored: interest.add.length - add.length },
        "interest too wide",
      );
    }
    const { gained, lost } = this.#fanout.interest(clusterId, { ...interest, add });
    for (const key of gained) this.#newKeys.add(key);
    for (const key of lost) this.#forget(key);
    this.#loop.trigger();
  }

  /** Instances of these applications were handed to the cluster: it will want their routes, and a round trip is saved if it need not ask. */
  assigned(clusterId: string, applicationIds: readonly string[]): void {
    // Its first message tells everything it wants, and would undo this.
    if (!this.#fanout.knows(clusterId)) return;
    this.interest(clusterId, { full: false, add: applicationIds.map(interestIn.application), remove: [] });
  }

  /** The cluster's link has ended. */
  leave(clusterId: string): void {
    for (const key of this.#fanout.leave(clusterId)) this.#forget(key);
  }

  #note(serviceIds: ReadonlySet<string>): void {
    if (this.#fanout.keys().next().done) return;
    for (const id of serviceIds) this.#changed.add(id);
    this.#loop.trigger();
  }

  async #pass(): Promise<undefined> {
    const { store } = this.#options;
    this.#nextGeneration ??= generations(await store.nextEpoch());
    // Sets are emptied only when what they list is known, so that a failed pass is repeated in full.
    const keys = [...this.#newKeys];
    const found = await store.servicesOf(keys);
    for (const [key, serviceIds] of found) {
      if (this.#newKeys.delete(key) && this.#fanout.wants(key)) this.#mean(key, serviceIds);
    }
    const ids = [...this.#changed];
    this.#changed.clear();
    try {
      await this.#load(ids);
    } catch (error) {
      for (const id of ids) this.#changed.add(id);
      throw error;
    }
    this.#push();
    return undefined;
  }

  #mean(key: InterestKey, serviceIds: readonly string[]): void {
    const before = this.#meaning.get(key) ?? [];
    this.#meaning.set(key, serviceIds);
    for (const id of before) if (!serviceIds.includes(id)) this.#unlink(key, id);
    for (const id of serviceIds) {
      this.#keysOf.set(id, (this.#keysOf.get(id) ?? new Set()).add(key));
      if (!this.#tables.has(id)) this.#changed.add(id);
    }
    this.#fanout.keyChanged(key);
  }

  async #load(ids: readonly string[]): Promise<void> {
    const routed = await this.#options.store.routed(ids);
    const found = new Map(routed.map((one) => [one.service.id, one]));
    for (const id of ids) {
      const one = found.get(id);
      this.#take(id, one && routeTable(one.service, one.instances, 0));
    }
  }

  /** @param content undefined: there is no such service any more */
  #take(id: string, content: ServiceRoute | undefined): void {
    const wanted = new Set((content ? keysOf(content) : []).filter((key) => this.#fanout.wants(key)));
    for (const key of this.#keysOf.get(id) ?? []) {
      if (wanted.has(key)) continue;
      this.#mean(
        key,
        this.#meaning.get(key)!.filter((other) => other !== id),
      );
    }
    const known = this.#tables.get(id);
    if (!content || wanted.size === 0) this.#tables.delete(id);
    else if (!known || !isSameRoute(known, content)) {
      this.#tables.set(id, { ...content, generation: this.#nextGeneration!() });
    }
    if (known !== this.#tables.get(id)) this.#fanout.serviceChanged(id);
    for (const key of wanted) {
      const meaning = this.#meaning.get(key);
      // A key that is not known yet is looked up by itself.
      if (meaning && !meaning.includes(id)) this.#mean(key, [...meaning, id]);
    }
  }

  #push(): void {
    const { canSend, send } = this.#options;
    for (const clusterId of this.#fanout.pending()) {
      if (!canSend(clusterId)) continue;
      const update = this.#fanout.take(clusterId);
      for (const part of update ? updateParts(update) : []) send(clusterId, part);
    }
  }

  #forget(key: InterestKey): void {
    this.#newKeys.delete(key);
    for (const id of this.#meaning.get(key) ?? []) this.#unlink(key, id);
    this.#meaning.delete(key);
  }

  /** A service that no key stands for any more is not kept. */
  #unlink(key: InterestKey, serviceId: string): void {
    const keys = this.#keysOf.get(serviceId);
    keys?.delete(key);
    if (keys?.size !== 0) return;
    this.#keysOf.delete(serviceId);
    this.#tables.delete(serviceId);
    this.#changed.delete(serviceId);
  }
}
