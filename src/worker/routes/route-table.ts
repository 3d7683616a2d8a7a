/**
 * What this worker knows of services: their routes, and the interests that bring them. Pushed state: a table is kept as long as
 * some interest stands for its service. No input or output; the owner sends what `connected` and `takeChanges` give, in order.
 */
import type { Clock } from "../../base/clock.ts";
import { FairShare } from "../../base/fair-share.ts";
import {
  type Interest,
  type InterestKey,
  interestIn,
  type RouteUpdate,
  type ServiceRoute,
} from "../../protocol/route.ts";
import { RouteIndex, type RouteTarget } from "./route-index.ts";

export interface RouteTableOptions {
  readonly clock: Clock;
  /** There is something to send: `takeChanges`. */
  readonly onInterest: () => void;
  /** Tables of these services came, changed or went. */
  readonly onRoutes: (serviceIds: ReadonlySet<string>) => void;
}

interface Entry {
  /** Instances of the application are to run here. */
  isDesired: boolean;
  /** Monotonic ms of the last lookup. */
  usedAt: number;
  answer: readonly string[] | undefined;
  /** No longer wanted; what it brought is kept until the cluster is told, which from then on sends no changes. */
  isDropped: boolean;
}

const UNUSED_MS = 5 * 60_000;
/** Unanswered questions that nobody repeats. */
const ABANDONED_MS = 10_000;
const REFUSED_MS = 5000;
/** Packets to random addresses must cost neither memory nor messages without end, nor keep the questions of other sandboxes out. */
const UNANSWERED = { max: 256, share: 256, beyond: "refuse" } as const;
const NOBODY = "";
const MAX_REFUSED = 4096;

export class RouteTable {
  readonly #options: RouteTableOptions;
  readonly #entries = new Map<InterestKey, Entry>();
  readonly #index = new RouteIndex();
  readonly #keysByService = new Map<string, Set<InterestKey>>();
  /** Monotonic ms of the last flow to the service. */
  readonly #usedAt = new Map<string, number>();
  /** Monotonic ms until which a key is known to stand for nothing; oldest first. */
  readonly #refusedUntil = new Map<InterestKey, number>();
  readonly #waiting = new Map<InterestKey, Set<() => void>>();
  /** Keys that the cluster has been told on this connection. */
  #told = new Set<InterestKey>();
  /** Services whose table came on this connection: from now on only newer generations count. */
  readonly #fresh = new Set<string>();
  readonly #unanswered = new FairShare<InterestKey>(UNANSWERED);

  constructor(options: RouteTableOptions) {
    this.#options = options;
  }

  get tables(): ReadonlyMap<string, ServiceRoute> {
    return this.#index.tables;
  }

  byAddress(address: string): RouteTarget | undefined {
    return this.#index.byAddress(address);
  }

  /** Without regard to letter case. */
  byName(jobName: string): ServiceRoute | undefined {
    return this.tables.get(this.#index.serviceNamed(jobName) ?? "");
  }

  servicesOf(applicationId: string): ServiceRoute[] {
    const answer = this.#entries.get(interestIn.application(applicationId))?.answer ?? [];
    return answer.flatMap((serviceId) => this.tables.get(serviceId) ?? []);
  }

  /**
   * Somebody needs what the key stands for. `known`: look it up. `refused`: it stands for nothing, or too much is being asked.
   * `asked`: the answer will come, see `settled`.
   * @param asker address of the sandbox for which it is
   */
  want(key: InterestKey, asker = NOBODY): "known" | "refused" | "asked" {
    const now = this.#options.clock.monotonic();
    const serviceId = this.#lookUp(key);
    if (serviceId !== undefined) this.#usedAt.set(serviceId, now);
    const entry = this.#entries.get(key);
    if (entry?.answer?.length === 0 && !entry.isDesired) return "refused";
    if (entry) {
      entry.usedAt = now;
      this.#keep(entry);
      return serviceId !== undefined || this.#isSettled(entry) ? "known" : "asked";
    }
    if (serviceId !== undefined) return "known";
    if (this.isRefused(key) || !this.#count(key, asker)) return "refused";
    this.#add(key, { isDesired: false, usedAt: now, answer: undefined, isDropped: false });
    return "asked";
  }

  /** The key was found to stand for nothing, a moment ago. */
  isRefused(key: InterestKey): boolean {
    return (this.#refusedUntil.get(key) ?? 0) > this.#options.clock.monotonic();
  }

  /** Resolves when the key is answered and its tables are there, or it stands for nothing. @throws the signal's reason on abort */
  async settled(key: InterestKey, signal: AbortSignal): Promise<void> {
    const entry = this.#entries.get(key);
    if (!entry || this.#isSettled(entry)) return;
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting.add(resolve));
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      waiting.delete(resolve);
      if (waiting.size === 0 && this.#waiting.get(key) === waiting) this.#waiting.delete(key);
    }
  }

  /** Applications that have instances here: everything of theirs is kept at hand. Others go when they are not in use any more. */
  keepApplications(applicationIds: Iterable<string>): void {
    const desired = new Set([...applicationIds].map(interestIn.application));
    const now = this.#options.clock.monotonic();
    for (const [key, entry] of this.#entries) {
      if (!entry.isDesired || desired.has(key)) continue;
      this.#replace(key, entry, () => {
        entry.isDesired = false;
        entry.usedAt = now;
      });
    }
    for (const key of desired) {
      const entry = this.#entries.get(key);
      if (entry) {
        this.#replace(key, entry, () => {
          entry.isDesired = true;
        });
        this.#keep(entry);
      } else this.#add(key, { isDesired: true, usedAt: now, answer: undefined, isDropped: false });
    }
  }

  /** Addresses to which packets have flowed of late. */
  used(addresses: Iterable<string>): void {
    const now = this.#options.clock.monotonic();
    for (const address of addresses) {
      const serviceId = this.#index.serviceAt(address);
      if (serviceId !== undefined) this.#usedAt.set(serviceId, now);
    }
  }

  /** Drops interests that are not in use any more; to be called every minute or so. */
  expire(): void {
    const now = this.#options.clock.monotonic();
    for (const [key, until] of this.#refusedUntil) if (until <= now) this.#refusedUntil.delete(key);
    for (const entry of this.#entries.values()) {
      if (entry.isDesired) continue;
      const limitMs = this.#isSettled(entry) ? UNUSED_MS : ABANDONED_MS;
      if (now - this.#lastUse(entry) >= limitMs) this.#drop(entry);
    }
  }

  /** A new connection: the cluster knows nothing of us, and whatever it says counts, also after its restoration from a backup. */
  connected(): Interest {
    this.#forgetDropped();
    this.#fresh.clear();
    this.#told = new Set(this.#entries.keys());
    return { full: true, add: [...this.#told], remove: [] };
  }

  /** What the cluster must be told now; it counts as told. After a failure to send it, begin again with `connected`. */
  takeChanges(): Interest | undefined {
    const add = [...this.#entries].flatMap(([key, { isDropped }]) => (isDropped || this.#told.has(key) ? [] : [key]));
    // An assignment was an interest in its application, told or not.
    const remove = this.#forgetDropped().filter((key) => this.#told.delete(key) || key.startsWith("application:"));
    for (const key of add) this.#told.add(key);
    return add.length + remove.length > 0 ? { full: false, add, remove } : undefined;
  }

  apply({ tables, answers, gone }: RouteUpdate): void {
    const changed = new Set<string>();
    for (const { key, serviceIds } of answers) this.#answer(key, serviceIds, changed);
    for (const table of tables) this.#take(table, changed);
    this.#bury(new Set(gone), changed);
    this.#wake();
    if (changed.size > 0) this.#options.onRoutes(changed);
  }

  /** Everything worth keeping on disk; `restore` takes it. */
  snapshot(): RouteUpdate {
    const answers = [...this.#entries].flatMap(([key, { answer, isDropped }]) =>
      answer && !isDropped ? [{ key, serviceIds: [...answer] }] : [],
    );
    return { tables: [...this.tables.values()], answers, gone: [] };
  }

  /** What an earlier run knew; interests go on, and expire as ever. */
  restore(stored: RouteUpdate): void {
    const usedAt = this.#options.clock.monotonic();
    for (const { key } of stored.answers) {
      if (!this.#entries.has(key)) this.#add(key, { isDesired: false, usedAt, answer: undefined, isDropped: false });
    }
    this.apply(stored);
    this.#fresh.clear();
  }

  #lookUp(key: InterestKey): string | undefined {
    const [kind, value = ""] = key.split(":", 2);
    if (kind === "address") return this.#index.serviceAt(value);
    return kind === "name" ? this.#index.serviceNamed(value) : undefined;
  }

  #add(key: InterestKey, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#options.onInterest();
  }

  /** False: too much is being asked. */
  #count(key: InterestKey, asker: string): boolean {
    const { isAdmitted, evicted } = this.#unanswered.add(asker, key);
    const entry = evicted && this.#entries.get(evicted);
    if (!entry) return isAdmitted;
    if (this.#told.has(evicted)) this.#drop(entry);
    else this.#entries.delete(evicted);
    for (const resolve of this.#waiting.get(evicted) ?? []) resolve();
    return isAdmitted;
  }

  /** Wanted again before the cluster was told otherwise. */
  #keep(entry: Entry): void {
    if (entry.isDropped) this.#options.onInterest();
    entry.isDropped = false;
  }

  #drop(entry: Entry): void {
    if (entry.isDropped) return;
    entry.isDropped = true;
    this.#options.onInterest();
  }

  #replace(key: InterestKey, entry: Entry, change: () => void): void {
    const before = isQuestion(entry);
    change();
    if (!isQuestion(entry)) this.#unanswered.delete(key);
    else if (!before) this.#count(key, NOBODY);
  }

  #lastUse({ usedAt, answer = [] }: Entry): number {
    return answer.reduce((last, serviceId) => Math.max(last, this.#usedAt.get(serviceId) ?? 0), usedAt);
  }

  #isSettled({ answer }: Entry): boolean {
    return answer?.every((serviceId) => this.tables.has(serviceId)) ?? false;
  }

  #answer(key: InterestKey, serviceIds: readonly string[], changed: Set<string>): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    const before = entry.answer ?? [];
    this.#replace(key, entry, () => {
      entry.answer = [...serviceIds];
    });
    for (const serviceId of serviceIds) {
      const keys = this.#keysByService.get(serviceId);
      if (keys) keys.add(key);
      else this.#keysByService.set(serviceId, new Set([key]));
    }
    const now = new Set(serviceIds);
    const lost = before.filter((serviceId) => !now.has(serviceId));
    this.#uncover(key, lost, changed);
    if (serviceIds.length > 0) this.#keep(entry);
    else if (!entry.isDesired) this.#refuse(key, entry);
  }

  #refuse(key: InterestKey, entry: Entry): void {
    this.#refusedUntil.delete(key);
    this.#refusedUntil.set(key, this.#options.clock.monotonic() + REFUSED_MS);
    if (this.#refusedUntil.size > MAX_REFUSED) {
      const [oldest] = this.#refusedUntil.keys();
      this.#refusedUntil.delete(oldest!);
    }
    this.#drop(entry);
  }

  #take(table: ServiceRoute, changed: Set<string>): void {
    const { serviceId, generation } = table;
    if (!this.#keysByService.has(serviceId)) return;
    const known = this.tables.get(serviceId);
    if (known && this.#fresh.has(serviceId) && generation <= known.generation) return;
    this.#fresh.add(serviceId);
    if (known?.generation === generation) return;
    this.#index.put(table);
    changed.add(serviceId);
  }

  /** The services are no more: nothing stands for them. */
  #bury(gone: ReadonlySet<string>, changed: Set<string>): void {
    const keys = new Set([...gone].flatMap((serviceId) => [...(this.#keysByService.get(serviceId) ?? [])]));
    for (const key of keys) {
      const left = (this.#entries.get(key)?.answer ?? []).filter((serviceId) => !gone.has(serviceId));
      this.#answer(key, left, changed);
    }
  }

  /** The key does not stand for these any more; what no key stands for goes. */
  #uncover(key: InterestKey, serviceIds: readonly string[], changed: Set<string>): void {
    for (const serviceId of serviceIds) {
      const keys = this.#keysByService.get(serviceId);
      keys?.delete(key);
      if (keys && keys.size > 0) continue;
      this.#keysByService.delete(serviceId);
      this.#usedAt.delete(serviceId);
      this.#fresh.delete(serviceId);
      if (this.#index.remove(serviceId)) changed.add(serviceId);
    }
  }

  #forgetDropped(): InterestKey[] {
    const changed = new Set<string>();
    const dropped = [...this.#entries].filter(([, { isDropped }]) => isDropped);
    for (const [key, entry] of dropped) {
      this.#entries.delete(key);
      this.#unanswered.delete(key);
      this.#uncover(key, entry.answer ?? [], changed);
    }
    this.#wake();
    if (changed.size > 0) this.#options.onRoutes(changed);
    return dropped.map(([key]) => key);
  }

  #wake(): void {
    for (const [key, waiting] of this.#waiting) {
      const entry = this.#entries.get(key);
      if (!entry || this.#isSettled(entry)) for (const resolve of waiting) resolve();
    }
  }
}

/** Of those of which only so many may be asked at once. */
function isQuestion({ isDesired, answer }: Entry): boolean {
  return !isDesired && answer === undefined;
}
