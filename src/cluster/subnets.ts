/**
 * Gives workers the subnets of their sandboxes, out of the blocks that the root gave to this cluster. A worker keeps what it was
 * given until it is removed, also across restarts of either side.
 */
import { ADDRESSES_IN_SUBNET, formatPiece, SUBNET_SIZE, subnetPool } from "../addressing/address-plan.ts";
import { nextPiece, type Pool } from "../addressing/pool.ts";
import { rangeFinder } from "../addressing/range-finder.ts";
import { parseSubnet, sizeOf } from "../addressing/subnet.ts";
import type { Clock } from "../base/clock.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { topics, type WorkerNetwork } from "../protocol/mqtt.ts";
import { MIN_SUBNETS_FREE } from "../protocol/uplink.ts";
import type { ClusterState } from "./cluster-state.ts";
import { placementsOf } from "./model.ts";
import type { ClusterStore } from "./store/cluster-store.ts";
import type { StoredNetwork, StoredSubnet } from "./store/overlay-store.ts";

export interface SubnetsOptions {
  readonly state: Pick<ClusterState, "workers" | "instances" | "withdrawals">;
  readonly store: Pick<ClusterStore, "write" | "overlay">;
  /** Publishes a retained message; the empty one removes the topic. */
  readonly retain: (topic: string, payload: string) => Promise<void>;
  /** There are few left, which the root should know now. */
  readonly onFewLeft: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Ranges {
  readonly pool: Pool;
  readonly blockOf: ReturnType<typeof rangeFinder>;
  /** Of blocks and services. */
  readonly rangeOf: ReturnType<typeof rangeFinder>;
}

const NO_RANGES: Ranges = { pool: subnetPool([]), blockOf: rangeFinder([]), rangeOf: rangeFinder([]) };

/** A worker with fewer free addresses than this gets another subnet. */
const MIN_ADDRESSES_FREE = 8;
/** What a worker says of its addresses may be older than its newest subnet. */
const PATIENCE_MS = 10_000;
/** Beyond what its instances need, since addresses that are just freed rest there. */
const MAX_SPARE = 4;
/** A removed worker may run on for a while, out of our reach, with its addresses. */
const QUARANTINE_MS = 600_000;

/** Subnets that so many instances need. Pure. */
export function subnetsFor(instances: number): number {
  return Math.ceil((instances + MIN_ADDRESSES_FREE) / ADDRESSES_IN_SUBNET);
}

/** @throws SUBNET_INVALID */
function rangesOf({ serviceRange, blocks }: StoredNetwork): Ranges {
  const pool = subnetPool(blocks);
  return {
    pool,
    blockOf: rangeFinder(pool.ranges),
    rangeOf: rangeFinder([parseSubnet(serviceRange), ...pool.ranges]),
  };
}

export class Subnets {
  readonly #options: SubnetsOptions;
  readonly #queue = new KeyedQueue();
  readonly #subnets = new Map<number, StoredSubnet>();
  /** First addresses of the subnets that each worker has. */
  readonly #basesOf = new Map<string, Set<number>>();
  /** Subnets beyond what its instances need, and the monotonic ms at which the last one was granted. */
  readonly #spare = new Map<string, { readonly count: number; readonly at: number }>();
  /** Workers that have yet to be told. */
  readonly #untold = new Set<string>();
  /** By worker, as text; made when it is asked for. */
  readonly #given = new Map<string, ReadonlySet<string>>();
  #network: StoredNetwork | undefined;
  #ranges: Ranges = NO_RANGES;

  constructor(options: SubnetsOptions) {
    this.#options = options;
  }

  load(): void {
    const { store, clock } = this.#options;
    for (const one of store.overlay.subnets()) {
      // Its worker was removed, and then everything ended before the subnet was freed.
      const isOrphan = one.workerId === undefined && one.freedAt === undefined;
      this.#keep(isOrphan ? { ...one, freedAt: clock.now() } : one);
    }
    this.#network = store.overlay.network();
    this.#ranges = this.#network ? rangesOf(this.#network) : NO_RANGES;
    this.#tellAll();
  }

  /** The root's word. Subnets of blocks that it does not list any more stay with their workers, and go to nobody else. */
  takeNetwork(network: StoredNetwork): void {
    const { store, log } = this.#options;
    // First: what cannot be read must not be kept.
    const ranges = rangesOf(network);
    store.write(() => store.overlay.putNetwork(network));
    this.#network = network;
    this.#ranges = ranges;
    this.#tellAll();
    const strangers = [...this.#subnets.values()].filter(({ base, workerId }) => workerId && !this.#isUsable(base));
    if (strangers.length > 0) {
      const subnets = strangers.map(({ base }) => formatPiece(this.#ranges.pool, base));
      log.warn({ subnets }, "the root does not know these subnets of our workers; it may give them to another cluster");
    }
  }

  /** The worker's subnets, as it was told. */
  given(workerId: string): ReadonlySet<string> {
    const known = this.#given.get(workerId);
    if (known) return known;
    const given = new Set(this.#of(workerId).map(({ base }) => formatPiece(this.#ranges.pool, base)));
    this.#given.set(workerId, given);
    return given;
  }

  /** Whether the address is one of services, or of the sandboxes of this cluster. */
  isOverlay(address: number): boolean {
    return this.#ranges.rangeOf(address) !== undefined;
  }

  /** How many could be given out now. */
  get free(): number {
    const all = this.#ranges.pool.ranges.reduce((sum, range) => sum + sizeOf(range) / SUBNET_SIZE, 0);
    const taken = [...this.#subnets.values()].filter((one) => this.#isUsable(one.base) && !this.#isRested(one));
    return all - taken.length;
  }

  /** What a worker says it has left. */
  reported(workerId: string, addressesFree: number): void {
    const now = this.#options.clock.monotonic();
    const { count = 0, at = Number.NEGATIVE_INFINITY } = this.#spare.get(workerId) ?? {};
    if (addressesFree >= MIN_ADDRESSES_FREE || count >= MAX_SPARE || now - at < PATIENCE_MS) return;
    this.#spare.set(workerId, { count: count + 1, at: now });
  }

  /** The worker is about to be removed. */
  release(workerId: string): void {
    const freedAt = this.#options.clock.now();
    this.#put(this.#of(workerId).map(({ base }) => ({ base, freedAt })));
    this.#untold.add(workerId);
    this.#spare.delete(workerId);
    this.#basesOf.delete(workerId);
    this.#given.delete(workerId);
  }

  /** Gives what is missing, and publishes what has changed. Never rejects: what fails is tried again with the next call. */
  async sync(): Promise<void> {
    const { onFewLeft, log } = this.#options;
    try {
      const given = this.#missing();
      if (given.length > 0) {
        this.#put(given);
        log.info(
          { subnets: given.map(({ base, workerId }) => [formatPiece(this.#ranges.pool, base), workerId]) },
          "subnets given",
        );
        if (this.free < MIN_SUBNETS_FREE) onFewLeft();
      }
    } catch (error) {
      log.warn({ error }, "subnets not given");
    }
    const untold = [...this.#untold];
    this.#untold.clear();
    await Promise.all(untold.map((id) => this.#publish(id)));
  }

  /** Pieces for workers that have fewer than they need. */
  #missing(): StoredSubnet[] {
    const { state } = this.#options;
    const counts = new Map<string, number>();
    // On standby it has an address, too.
    for (const { workerId } of [...state.instances.flatMap(placementsOf), ...state.withdrawals]) {
      counts.set(workerId, (counts.get(workerId) ?? 0) + 1);
    }
    const given = new Map<number, StoredSubnet>();
    // Where the search for one that was never given starts: all before it are taken.
    let cursor: number | undefined;
    // Looked for only once: what is given meanwhile is the first of them.
    let rested: number[] | undefined;
    for (const { id: workerId } of state.workers) {
      const wanted = subnetsFor(counts.get(workerId) ?? 0) + (this.#spare.get(workerId)?.count ?? 0);
      for (let has = this.#basesOf.get(workerId)?.size ?? 0; has < wanted; has++) {
        rested ??= this.#rested();
        const isTaken = (piece: number) => this.#subnets.has(piece) || given.has(piece);
        const base = nextPiece(this.#ranges.pool, { isTaken, cursor, rested: rested[0] });
        if (base === undefined) return [...given.values()];
        if (base === rested[0]) rested.shift();
        else cursor = base;
        given.set(base, { base, workerId });
      }
    }
    return [...given.values()];
  }

  /** Those that may be given again, the longest free first. */
  #rested(): number[] {
    return [...this.#subnets.values()]
      .filter((one) => this.#isRested(one) && this.#isUsable(one.base))
      .sort((one, other) => one.freedAt! - other.freedAt!)
      .map(({ base }) => base);
  }

  #isRested({ freedAt }: StoredSubnet): boolean {
    // Freed in the future: a clock that was ahead has been set. That must not keep it back for a year.
    return freedAt !== undefined && Math.abs(this.#options.clock.now() - freedAt) >= QUARANTINE_MS;
  }

  #isUsable(base: number): boolean {
    return this.#ranges.blockOf(base) !== undefined;
  }

  #of(workerId: string): StoredSubnet[] {
    return [...(this.#basesOf.get(workerId) ?? [])].map((base) => this.#subnets.get(base)!);
  }

  #keep(one: StoredSubnet): void {
    const { workerId: before } = this.#subnets.get(one.base) ?? {};
    this.#subnets.set(one.base, one);
    if (before !== undefined) {
      this.#basesOf.get(before)?.delete(one.base);
      this.#given.delete(before);
    }
    if (one.workerId === undefined) return;
    this.#basesOf.set(one.workerId, (this.#basesOf.get(one.workerId) ?? new Set()).add(one.base));
    this.#given.delete(one.workerId);
  }

  #put(subnets: readonly StoredSubnet[]): void {
    const { store } = this.#options;
    store.write(() => {
      for (const one of subnets) store.overlay.putSubnet(one);
    });
    for (const one of subnets) {
      this.#keep(one);
      if (one.workerId !== undefined) this.#untold.add(one.workerId);
    }
  }

  #tellAll(): void {
    for (const { workerId } of this.#subnets.values()) if (workerId !== undefined) this.#untold.add(workerId);
  }

  async #publish(workerId: string): Promise<void> {
    const network = this.#networkOf(workerId);
    const text = network ? JSON.stringify(network) : "";
    try {
      await this.#queue.run(workerId, () => this.#options.retain(topics.network(workerId), text));
    } catch (error) {
      this.#untold.add(workerId);
      this.#options.log.warn({ workerId, error }, "network of a worker not published");
    }
  }

  #networkOf(workerId: string): WorkerNetwork | undefined {
    const subnets = this.#of(workerId).toSorted((one, other) => one.base - other.base);
    if (!this.#network || subnets.length === 0) return undefined;
    const { serviceRange, key } = this.#network;
    const texts = subnets.map(({ base }) => formatPiece(this.#ranges.pool, base));
    return { serviceRange, subnets: texts, ...(key === undefined ? {} : { key }) };
  }
}
