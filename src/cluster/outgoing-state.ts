/** What one link still has to tell the root: compares with what it was told, so that nothing is told twice. */
import type { Clock } from "../base/clock.ts";
import type { Aggregate, Landmark } from "../protocol/capacity.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { ClusterMessage } from "../protocol/uplink.ts";

/** Where to look up what to tell. */
export interface OutgoingView {
  instanceIds(): readonly string[];
  /** Undefined: there is no such instance any more. */
  report(instanceId: string): InstanceReport | undefined;
  aggregate(): Aggregate;
  /** Subnets that could still be given to workers. */
  subnetsFree(): number;
  landmarks(): Landmark[];
}

type Report = Extract<ClusterMessage, { type: "report" }>;

/** A changed aggregate is told at most this often, */
const AGGREGATE_MS = 3_000;
/** or, when workers come and go, at once, but not before so many times what the last look took: thousands may come together; */
const URGENT_REST = 9;
/** and after this at the latest while instances change: the root counts what they need until an aggregate does. */
const BUSY_MS = 10_000;
/** The machines' load alone. That we are there, pings tell. */
const IDLE_MS = 60_000;

export class OutgoingState {
  readonly #view: OutgoingView;
  readonly #clock: Clock;
  #revision = 0;
  #isFull = true;
  readonly #changed = new Set<string>();
  /** Text of the last report of each instance. */
  readonly #told = new Map<string, string>();
  /** Monotonic ms at which what comes of all workers together was looked at last; it costs the more, the more they are. */
  #lookedAt = Number.NEGATIVE_INFINITY;
  #lookMs = 0;
  #isUrgent = false;
  #aggregate = "";
  #aggregateAt = Number.NEGATIVE_INFINITY;
  /** Something of an instance was told after the last aggregate. */
  #isBusy = false;
  #subnetsFree: number | undefined;
  #landmarks = "[]";

  constructor(view: OutgoingView, clock: Clock) {
    this.#view = view;
    this.#clock = clock;
  }

  mark(instanceId: string): void {
    this.#changed.add(instanceId);
  }

  /** A worker came or went: the next message tells of it, unless many do. */
  urge(): void {
    this.#isUrgent = true;
    this.#aggregateAt = Number.NEGATIVE_INFINITY;
  }

  /** The next message tells everything. */
  startOver(): void {
    this.#isFull = true;
  }

  /** The message that brings the root up to date, or undefined when it is. */
  next(): Report | undefined {
    const full = this.#isFull;
    const ofAll = this.#nextOfAll(full);
    const { instances, removed } = this.#nextInstances(full);
    if (Object.keys(ofAll).length === 0 && instances.length === 0 && removed.length === 0) return undefined;
    this.#isFull = false;
    this.#revision += 1;
    return { type: "report", revision: this.#revision, full, instances, removed, ...ofAll };
  }

  /** What is news of all workers together. */
  #nextOfAll(full: boolean): Pick<Report, "aggregate" | "subnetsFree" | "landmarks"> {
    const now = this.#clock.monotonic();
    const restMs = this.#isUrgent ? Math.min(AGGREGATE_MS, this.#lookMs * URGENT_REST) : AGGREGATE_MS;
    if (!full && now - this.#lookedAt < restMs) return {};
    this.#isUrgent = false;
    const aggregate = this.#nextAggregate(full, now);
    const subnetsFree = this.#view.subnetsFree();
    const isOther = full || subnetsFree !== this.#subnetsFree;
    this.#subnetsFree = subnetsFree;
    const landmarks = this.#nextLandmarks(full);
    this.#lookedAt = this.#clock.monotonic();
    this.#lookMs = this.#lookedAt - now;
    return {
      ...(aggregate ? { aggregate } : {}),
      ...(isOther ? { subnetsFree } : {}),
      ...(landmarks ? { landmarks } : {}),
    };
  }

  #nextInstances(full: boolean): { instances: InstanceReport[]; removed: string[] } {
    if (full) this.#told.clear();
    const instances: InstanceReport[] = [];
    const removed: string[] = [];
    for (const id of full ? this.#view.instanceIds() : this.#changed) {
      const report = this.#view.report(id);
      if (!report) {
        if (this.#told.delete(id)) removed.push(id);
        continue;
      }
      const text = JSON.stringify(report);
      if (this.#told.get(id) === text) continue;
      this.#told.set(id, text);
      instances.push(report);
    }
    this.#changed.clear();
    if (instances.length + removed.length > 0) this.#isBusy = true;
    return { instances, removed };
  }

  #nextLandmarks(full: boolean): Landmark[] | undefined {
    const landmarks = this.#view.landmarks();
    const text = JSON.stringify(landmarks);
    if (full) this.#landmarks = "[]";
    if (text === this.#landmarks) return undefined;
    this.#landmarks = text;
    return landmarks;
  }

  #nextAggregate(full: boolean, now: number): Aggregate | undefined {
    const elapsed = now - this.#aggregateAt;
    const aggregate = this.#view.aggregate();
    // Load changes all the time; only room is worth a message of its own.
    const room = JSON.stringify({ ...aggregate, cpuPercent: 0, memoryPercent: 0 });
    if (!full && elapsed < (this.#isBusy ? BUSY_MS : IDLE_MS) && room === this.#aggregate) return undefined;
    this.#isBusy = false;
    this.#aggregate = room;
    this.#aggregateAt = now;
    return aggregate;
  }
}
