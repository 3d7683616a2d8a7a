/** Tells workers what to measure, and keeps what they measured. Memory only: after a restart they measure again. */
import type { Clock } from "../base/clock.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import type { Landmark } from "../protocol/capacity.ts";
import { type Measure, type Measurement, topics } from "../protocol/mqtt.ts";
import type { NetworkCoordinate, UserSample } from "../protocol/placement-request.ts";
import { ORIGIN } from "../scheduler/vivaldi.ts";
import { type MeasureInput, measurePlan } from "./measure-plan.ts";
import type { Measured } from "./whereabouts.ts";

export interface MeasuringOptions {
  /** Publishes a retained message; the empty one removes the topic. */
  readonly retain: (topic: string, payload: string) => Promise<void>;
  readonly coordinateOf: (workerId: string) => NetworkCoordinate | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Asked {
  /** Monotonic ms. */
  readonly askedAt: number;
  readonly last?: Sample | undefined;
}

interface Sample {
  /** Absent: no answer. */
  readonly rttMs: number | undefined;
  /** Monotonic ms. */
  readonly at: number;
}

/** Older measurements say nothing. */
const FRESH_MS = 60_000;
/** An answer that has not come by then is not waited for. */
const ANSWER_MS = 6_000;
const NOWHERE: NetworkCoordinate = { ...ORIGIN, position: [0, 0, 0] };
const NOTHING = JSON.stringify({ peers: [], targets: [] });

export class Measuring {
  readonly #options: MeasuringOptions;
  readonly #queue = new KeyedQueue();
  /** Text of what each worker was told; one that has never been told measures nothing. */
  readonly #told = new Map<string, string>();
  /** Host → the workers that are to measure it. */
  readonly #hosts = new Map<string, Map<string, Asked>>();
  #foreign: readonly Landmark[] = [];
  /** What the last plan came from, if the same comes to the same. */
  #plannedFrom: readonly unknown[] | undefined;

  constructor(options: MeasuringOptions) {
    this.#options = options;
  }

  /** Landmarks of other clusters, from the root. */
  takeForeign(peers: readonly Landmark[]): void {
    this.#foreign = peers;
  }

  take(workerId: string, measured: readonly Measurement[]): void {
    const at = this.#options.clock.monotonic();
    for (const { host, rttMs } of measured) {
      const workers = this.#hosts.get(host);
      const asked = workers?.get(workerId);
      if (asked) workers!.set(workerId, { ...asked, last: { rttMs, at } });
    }
  }

  measuredOf = (host: string): Measured => {
    const { clock, coordinateOf } = this.#options;
    const now = clock.monotonic();
    const samples: UserSample[] = [];
    let tried = 0;
    let pending = 0;
    for (const [workerId, { askedAt, last }] of this.#hosts.get(host) ?? []) {
      if (!last && now - askedAt < ANSWER_MS) pending += 1;
      if (!last || now - last.at > FRESH_MS) continue;
      tried += 1;
      const { rttMs } = last;
      // Without a coordinate it counts for its worker alone.
      if (rttMs !== undefined) samples.push({ workerId, from: coordinateOf(workerId) ?? NOWHERE, rttMs });
    }
    return { samples, tried, pending };
  };

  last(host: string, workerId: string): Sample | undefined {
    return this.#hosts.get(host)?.get(workerId)?.last;
  }

  /** Publishes whatever differs. */
  sync(input: Omit<MeasureInput, "foreign">): void {
    const { workers, active = workers, instances } = input;
    // Nearly every pass comes to the same: without users, whose hosts are to be measured, the plan goes by who is there.
    const hasUsers = instances.some(({ assignment }) => assignment.request.users?.length);
    const from = hasUsers ? undefined : [this.#foreign, workers.length, ...workers, ...active];
    const isSame =
      from?.length === this.#plannedFrom?.length && from?.every((one, at) => one === this.#plannedFrom![at]);
    if (isSame) return;
    this.#plannedFrom = from;
    const plan = measurePlan({ ...input, foreign: this.#foreign });
    this.#ask(plan);
    for (const [workerId, measure] of plan) this.#tell(workerId, JSON.stringify(measure));
  }

  /** The worker was removed. */
  forget(workerId: string): void {
    this.#tell(workerId, "");
    this.#told.delete(workerId);
    for (const workers of this.#hosts.values()) workers.delete(workerId);
  }

  /** Remembers who is asked from now on, and forgets who is not any more. */
  #ask(plan: ReadonlyMap<string, Measure>): void {
    const askedAt = this.#options.clock.monotonic();
    const wanted = new Map<string, Set<string>>();
    for (const [workerId, { targets }] of plan) {
      for (const { host } of targets) wanted.set(host, (wanted.get(host) ?? new Set()).add(workerId));
    }
    for (const host of this.#hosts.keys()) if (!wanted.has(host)) this.#hosts.delete(host);
    for (const [host, workerIds] of wanted) {
      const before = this.#hosts.get(host);
      this.#hosts.set(host, new Map([...workerIds].map((id) => [id, before?.get(id) ?? { askedAt }])));
    }
  }

  #tell(workerId: string, text: string): void {
    if ((this.#told.get(workerId) ?? NOTHING) === text) return;
    this.#told.set(workerId, text);
    const { retain, log } = this.#options;
    void this.#queue
      .run(workerId, () => retain(topics.measure(workerId), text))
      .catch((error: unknown) => {
        this.#told.delete(workerId);
        this.#plannedFrom = undefined;
        log.warn({ workerId, error }, "what to measure not published");
      });
  }
}
