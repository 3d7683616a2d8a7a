/**
 * The cluster's part in the overlay's routes: tells workers what they are interested in, from what the root told and from what
 * it knows itself, and tells the root what its workers want. Without the root it goes on with the two.
 */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import { RouteFanout } from "../hierarchy/route-fanout.ts";
import { generations, isSameRoute } from "../hierarchy/route-keys.ts";
import { type Interest, type InterestKey, interestIn, type RouteUpdate, type ServiceRoute } from "../protocol/route.ts";
import { interestParts, updateParts, updateText } from "../protocol/route-parts.ts";
import type { ClusterState } from "./cluster-state.ts";
import type { OwnServices } from "./own-services.ts";
import { RootInterest } from "./root-interest.ts";
import type { RouteBook } from "./route-book.ts";
import { mergeRoutes } from "./route-merge.ts";

export interface RoutesOptions {
  readonly state: Pick<ClusterState, "worker">;
  readonly own: OwnServices;
  readonly book: RouteBook;
  readonly nextEpoch: () => number;
  readonly isConnected: () => boolean;
  /** Towards the root. */
  readonly sendInterest: (interest: Interest) => void;
  /** Towards a worker; resolves when more may follow. */
  readonly deliver: (workerId: string, update: string) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long the root may take to answer; after it, what the cluster knows itself is the answer. */
export const ANSWER_MS = 1_000;
/** Of one worker. */
const MAX_KEYS = 50_000;
const RESYNC_MS = 10_000;

export class Routes {
  readonly #options: RoutesOptions;
  readonly #loop: Reconciler;
  readonly #fanout: RouteFanout;
  readonly #rootInterest: RootInterest;
  readonly #tables = new Map<string, ServiceRoute>();
  readonly #changed = new Set<string>();
  /** Keys that the root has yet to answer, with the monotonic ms at which they were asked. */
  readonly #waiting = new Map<InterestKey, number>();
  /** By worker, what it has not asked for itself: its assignments stand for it. */
  readonly #given = new Map<string, Set<InterestKey>>();
  /** Workers that are being written to; what comes up meanwhile is told together afterwards. */
  readonly #busy = new Set<string>();
  #nextGeneration = generations(0);

  constructor(options: RoutesOptions) {
    const { log, clock, book } = options;
    this.#options = options;
    this.#rootInterest = new RootInterest(book);
    this.#fanout = new RouteFanout({
      resolve: (key) => this.#resolve(key),
      table: (serviceId) => this.#table(serviceId),
    });
    this.#loop = new Reconciler({
      ...{ name: "routes", pass: () => this.#pass(), log, clock },
      ...{ resyncMs: RESYNC_MS, maxShare: 0.5 },
    });
  }

  load(): void {
    const { own, book, nextEpoch, clock } = this.#options;
    this.#nextGeneration = generations(nextEpoch());
    own.load();
    book.load();
    this.#rootInterest.load(clock.monotonic());
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal);
  }

  /** The worker's own word. */
  interest(workerId: string, interest: Interest): void {
    if (interest.full) this.#given.delete(workerId);
    else this.#ungive(workerId, [...interest.add, ...interest.remove]);
    this.#takeInterest(workerId, interest);
  }

  #takeInterest(workerId: string, interest: Interest): void {
    const { clock, log, book } = this.#options;
    const room = MAX_KEYS - (interest.full ? 0 : this.#fanout.countOf(workerId));
    const add = interest.add.slice(0, Math.max(0, room));
    if (add.length < interest.add.length) {
      log.warn({ workerId, max: MAX_KEYS, ignored: interest.add.length - add.length }, "interest too wide");
    }
    const { gained, lost } = this.#fanout.interest(workerId, { ...interest, add });
    for (const key of gained) {
      this.#rootInterest.want(key);
      if (!book.isConfirmed(key)) this.#waiting.set(key, clock.monotonic());
    }
    this.#lose(lost);
    this.#loop.trigger();
  }

  /**
   * The worker was told to run instances of these applications: it will want their routes, and a round trip is saved if it need not
   * ask. Call it after the worker was told, since it drops routes that it does not expect.
   */
  assigned(workerId: string, applicationIds: readonly string[]): void {
    // Without the overlay it never asks, and what it asks first would undo this.
    if (!this.#fanout.knows(workerId)) return;
    const add = applicationIds.map(interestIn.application).filter((key) => !this.#fanout.isWantedBy(workerId, key));
    if (add.length === 0) return;
    this.#given.set(workerId, new Set([...(this.#given.get(workerId) ?? []), ...add]));
    this.#takeInterest(workerId, { full: false, add, remove: [] });
  }

  /**
   * The worker is to run nothing of these applications any more. What it has asked for itself it gives up itself; of an assignment
   * that was withdrawn before it looked it may know nothing, and would never ask.
   */
  withdrawn(workerId: string, applicationIds: readonly string[]): void {
    const remove = this.#ungive(workerId, applicationIds.map(interestIn.application));
    if (remove.length > 0) this.#takeInterest(workerId, { full: false, add: [], remove });
  }

  /** Those of the keys that the worker had not asked for itself. */
  #ungive(workerId: string, keys: readonly InterestKey[]): InterestKey[] {
    const given = this.#given.get(workerId);
    if (!given) return [];
    const ungiven = keys.filter((key) => given.delete(key));
    if (given.size === 0) this.#given.delete(workerId);
    return ungiven;
  }

  /** The worker is lost or removed; one that is only away for a moment tells its interest anew. */
  leave(workerId: string): void {
    this.#given.delete(workerId);
    this.#lose(this.#fanout.leave(workerId));
    this.#loop.trigger();
  }

  /** An instance of this cluster has come, changed or gone. */
  instanceChanged(instanceId: string): void {
    const { serviceId, keys } = this.#options.own.note(instanceId);
    this.#changed.add(serviceId);
    for (const key of keys) this.#fanout.keyChanged(key);
    this.#loop.trigger();
  }

  /** There is a link to the root: all of the interest is told, and all of it will be answered. */
  linkUp(): void {
    this.#options.book.startSession();
    this.#rootInterest.startSession();
    this.#loop.trigger();
  }

  /** What the root has told. @throws STORAGE_FULL | STORAGE_FAILED */
  take(update: RouteUpdate): void {
    const { keys, serviceIds } = this.#options.book.take(update);
    for (const serviceId of serviceIds) this.#changed.add(serviceId);
    for (const key of keys) {
      if (!this.#fanout.wants(key)) this.#rootInterest.offered(key, this.#options.clock.monotonic());
      this.#waiting.delete(key);
      this.#fanout.keyChanged(key);
    }
    this.#loop.trigger();
  }

  #lose(keys: readonly InterestKey[]): void {
    const now = this.#options.clock.monotonic();
    for (const key of keys) {
      this.#waiting.delete(key);
      this.#rootInterest.unwant(key, now);
    }
  }

  async #pass(): Promise<{ againInMs: number } | undefined> {
    const { clock, book, isConnected } = this.#options;
    const now = clock.monotonic();
    for (const [key, since] of this.#waiting) {
      if (now - since < ANSWER_MS) continue;
      this.#waiting.delete(key);
      this.#fanout.keyChanged(key);
    }
    if (isConnected()) {
      const expired = this.#rootInterest.expire(now);
      book.forget(expired);
      if (expired.length > 0) this.#evict();
      const interest = this.#rootInterest.next(this.#fanout.keys());
      for (const part of interest ? interestParts(interest) : []) this.#options.sendInterest(part);
    }
    this.#refresh();
    this.#push();
    const [oldest] = this.#waiting.values();
    const next = Math.min(
      oldest === undefined ? Number.POSITIVE_INFINITY : oldest + ANSWER_MS - now,
      isConnected() ? this.#rootInterest.untilNextMs(now) : Number.POSITIVE_INFINITY,
    );
    return next === Number.POSITIVE_INFINITY ? undefined : { againInMs: Math.max(0, next) };
  }

  #refresh(): void {
    for (const serviceId of this.#changed) {
      if (!this.#fanout.covers(serviceId)) this.#tables.delete(serviceId);
      else if (this.#update(serviceId)) this.#fanout.serviceChanged(serviceId);
    }
    this.#changed.clear();
  }

  #table(serviceId: string): ServiceRoute | undefined {
    if (!this.#tables.has(serviceId)) this.#update(serviceId);
    return this.#tables.get(serviceId);
  }

  /** Makes the service's table anew. True when it says something else now. */
  #update(serviceId: string): boolean {
    const { book, own, state } = this.#options;
    const elsewhere = own.numbersElsewhere(serviceId);
    const isRepeated = (workerId: string, number: number) =>
      state.worker(workerId) !== undefined && !elsewhere.has(number);
    const content = mergeRoutes(book.table(serviceId), own.route(serviceId), isRepeated);
    const known = this.#tables.get(serviceId);
    if (!content) return this.#tables.delete(serviceId);
    if (known && isSameRoute(known, content)) return false;
    this.#tables.set(serviceId, { ...content, generation: this.#nextGeneration() });
    return true;
  }

  /** Tables that nobody below is told of are made again when somebody is. */
  #evict(): void {
    for (const serviceId of this.#tables.keys()) {
      if (!this.#fanout.covers(serviceId)) this.#tables.delete(serviceId);
    }
  }

  /** Undefined: not known yet. */
  #resolve(key: InterestKey): readonly string[] | undefined {
    const { own, book, isConnected } = this.#options;
    const here = own.servicesOf(key);
    const told = book.answer(key);
    // A whole application is told once the root has, unless that takes too long: half of it would look like all of it.
    const isWhole = here.length > 0 && !key.startsWith("application:");
    const isEnough = isWhole || (told !== undefined && !isConnected());
    if (this.#waiting.has(key) && !isEnough) return undefined;
    return [...new Set([...(told ?? []), ...here])];
  }

  #push(): void {
    const texts = new Map<ServiceRoute, string>();
    // The same table goes to many workers: it is encoded once.
    const textOf = (table: ServiceRoute) => {
      const text = texts.get(table) ?? JSON.stringify(table);
      texts.set(table, text);
      return text;
    };
    for (const workerId of this.#fanout.pending()) {
      if (this.#busy.has(workerId)) continue;
      const update = this.#fanout.take(workerId);
      if (!update) continue;
      // Goes on by itself: a worker that reads slowly must not hold up the others.
      void this.#deliver(
        workerId,
        updateParts(update).map((part) => updateText(part, textOf)),
      );
    }
  }

  async #deliver(workerId: string, texts: readonly string[]): Promise<void> {
    this.#busy.add(workerId);
    try {
      for (const text of texts) await this.#options.deliver(workerId, text);
    } catch (error) {
      // It will connect again, and tell its whole interest then.
      this.#options.log.warn({ workerId, error }, "routes not delivered");
    } finally {
      this.#busy.delete(workerId);
      if (this.#fanout.isPending(workerId)) this.#loop.trigger();
    }
  }
}
