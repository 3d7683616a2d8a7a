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
/** and at least this often: it is the heartbeat. */
const HEARTBEAT_MS = 10_000;

export class OutgoingState {
  readonly #view: OutgoingView;
  readonly #clock: Clock;
  #revision = 0;
  #isFull = true;
  readonly #changed = new Set<string>();
  /** Text of the last report of each instance. */
  readonly #told = new Map<string, string>();
  #aggregate = "";
  #aggregateAt = Number.NEGATIVE_INFINITY;
  #subnetsFree: number | undefined;
  #landmarks = "[]";

  constructor(view: OutgoingView, clock: Clock) {
    this.#view = view;
    this.#clock = clock;
  }

  mark(instanceId: string): void {
    this.#changed.add(instanceId);
  }

  /** A worker came or went: the next message has the aggregate, however soon it is. */
  urge(): void {
    this.#aggregateAt = Number.NEGATIVE_INFINITY;
  }

  /** The next message tells everything. */
  startOver(): void {
    this.#isFull = true;
  }

  /** The message that brings the root up to date, or undefined when it is. */
  next(): Report | undefined {
    const full = this.#isFull;
    const aggregate = this.#nextAggregate(full);
    const { instances, removed } = this.#nextInstances(full);
    const subnetsFree = this.#view.subnetsFree();
    const isOther = full || subnetsFree !== this.#subnetsFree;
    const landmarks = this.#nextLandmarks(full);
    if (!isOther && !aggregate && !landmarks && instances.length === 0 && removed.length === 0) return undefined;
    this.#subnetsFree = subnetsFree;
    this.#isFull = false;
    this.#revision += 1;
    return {
      type: "report",
      revision: this.#revision,
      full,
      ...(aggregate ? { aggregate } : {}),
      instances,
      removed,
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

  #nextAggregate(full: boolean): Aggregate | undefined {
    const now = this.#clock.monotonic();
    const elapsed = now - this.#aggregateAt;
    if (!full && elapsed < AGGREGATE_MS) return undefined;
    const aggregate = this.#view.aggregate();
    // Load changes all the time; only room is worth a message of its own.
    const room = JSON.stringify({ ...aggregate, cpuPercent: 0, memoryPercent: 0 });
    if (!full && elapsed < HEARTBEAT_MS && room === this.#aggregate) return undefined;
    this.#aggregate = room;
    this.#aggregateAt = now;
    return aggregate;
  }
}
