/**
 * What the worker knows of its instances beyond containers and sandboxes: status and its reason, for the report; failures and
 * progress of the way to running, for the plan. Lives in memory: after a restart of the agent it is learnt again.
 */
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type InstanceReport, type InstanceStatus, mayFollow } from "../protocol/instance.ts";
import type { WorkerReport } from "../protocol/mqtt.ts";
import type { DesiredSet } from "./desired.ts";
import type { Completions } from "./desired-file.ts";

export interface InstanceRecord {
  readonly instanceId: string;
  readonly generation: number;
  readonly status: InstanceStatus;
  readonly detail: string;
  /** Epoch ms. */
  readonly since: number;
  readonly restarts: number;
  readonly exitCode?: number | undefined;
  readonly startedAt?: number | undefined;
  readonly logTail?: string | undefined;
  readonly cpuPercent?: number | undefined;
  readonly memoryBytes?: number | undefined;
  /** No longer desired: only its removal is left. */
  readonly isWithdrawn: boolean;
  /** In a row; what the back-off grows with. */
  readonly failures: number;
  /** Monotonic ms before which nothing is tried. */
  readonly notBefore: number;
  /** Monotonic ms since when the container runs, as far as this agent has seen. */
  readonly runningSince?: number | undefined;
  /** It ran when this agent found it, started by an earlier one. */
  readonly isAdopted?: boolean;
  /** The image is present for the next start; undefined: not looked for yet. */
  readonly hasImage: boolean | undefined;
  /** Generation whose host ports are published; undefined: not known. */
  readonly ports: number | "none" | undefined;
  /**
   * Whether packets may be sent to its container. `unknown`: nothing has been found out yet, and routes stay as they were;
   * `ending`: no more, but what is on its way must arrive before it is stopped.
   */
  readonly traffic: "unknown" | "on" | "ending" | "off";
  /** `exitedAt` of the container's end that has been dealt with. */
  readonly endNotedAt?: number | undefined;
}

export type Change = Partial<Omit<InstanceRecord, "instanceId" | "generation" | "since">>;

export type Live = NonNullable<InstanceReport["live"]>;

const REPORTED = ["status", "detail", "restarts", "exitCode", "startedAt", "logTail", "traffic"] as const;

export interface InstanceUsage {
  /** 100 is one core. */
  readonly cpuPercent: number;
  readonly memoryBytes: number;
}

const NOTABLE = { share: 0.1, cpuPercent: 1, memoryBytes: 1024 * 1024 } as const;

/** Whether what an instance uses is so different from what was told that anybody would care. */
export function isNotable(told: InstanceUsage | undefined, now: InstanceUsage | undefined): boolean {
  if (!told || !now) return told !== now;
  return (["cpuPercent", "memoryBytes"] as const).some(
    (field) => Math.abs(now[field] - told[field]) >= Math.max(NOTABLE[field], NOTABLE.share * told[field]),
  );
}

export class Instances {
  readonly #records = new Map<string, InstanceRecord>();
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #onChange: () => void;
  readonly #live: () => ReadonlyMap<string, Live>;
  readonly #toldUsage = new Map<string, InstanceUsage>();
  #changed = new Set<string>();
  #removed = new Set<string>();
  #problem: string | undefined;
  /** Of the desired set whose instances all have their records here, and all that must go as well. */
  #revision = 0;

  /**
   * @param options.onChange something that the cluster should hear of soon
   * @param options.live where the traffic of each is to go, if it takes any; asked when a report is made
   */
  constructor(options: {
    readonly log: Logger;
    readonly clock: Clock;
    readonly onChange: () => void;
    readonly live?: () => ReadonlyMap<string, Live>;
  }) {
    this.#live = options.live ?? (() => new Map());
    this.#log = options.log;
    this.#clock = options.clock;
    this.#onChange = options.onChange;
  }

  get records(): ReadonlyMap<string, InstanceRecord> {
    return this.#records;
  }

  /** Why nothing can be done at the moment, whatever the instance; shown with every detail. */
  get problem(): string | undefined {
    return this.#problem;
  }

  set problem(problem: string | undefined) {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.reportAll();
  }

  /** What is told of each of them has changed. */
  reportAll(): void {
    for (const instanceId of this.#records.keys()) this.#changed.add(instanceId);
    this.#onChange();
  }

  /** Gives every desired instance its record. @param besides those that may run already, as long as nobody can look */
  expect(desired: DesiredSet, completed: Completions, besides?: ReadonlySet<string>): void {
    for (const [instanceId, { generation }] of desired.instances) {
      if (besides?.has(instanceId)) continue;
      const record = this.#records.get(instanceId);
      if (record?.generation === generation && !record.isWithdrawn) continue;
      const isDone = completed[instanceId]?.generation === generation;
      // A new life, not a transition of the old one.
      this.#records.delete(instanceId);
      this.#put({
        ...this.#fresh(instanceId, generation),
        ...(isDone ? { status: "COMPLETED", detail: "ended with exit code 0", exitCode: 0 } : {}),
        ports: record?.ports,
        traffic: record ? ending(record) : "unknown",
      });
    }
  }

  /** Gives every desired instance, and everything found that is not desired, its record. */
  sync(desired: DesiredSet, completed: Completions, found: Iterable<string>): void {
    this.expect(desired, completed);
    for (const instanceId of new Set([...this.#records.keys(), ...found])) {
      const record = this.#records.get(instanceId) ?? this.#fresh(instanceId, 0);
      if (desired.instances.has(instanceId) || record.isWithdrawn) continue;
      this.#put({
        ...record,
        isWithdrawn: true,
        traffic: ending(record),
        detail: "not wanted any more: being removed",
        notBefore: 0,
        failures: 0,
      });
    }
    if (this.#revision === desired.revision) return;
    this.#revision = desired.revision;
    this.#onChange();
  }

  /** @param generation of the work that found this out: a record of another generation is not touched. */
  update(instanceId: string, generation: number | undefined, change: Change): void {
    const record = this.#records.get(instanceId);
    if (!record || (generation !== undefined && record.generation !== generation)) return;
    this.#put({ ...record, ...change });
  }

  /**
   * Measurements go with the next report of the beat; they do not cause one. What an idle instance uses is never quite the same:
   * small changes wait until they have added up, or until something else of the instance is told.
   */
  measure(instanceId: string, usage: InstanceUsage | undefined): void {
    const record = this.#records.get(instanceId);
    if (!record || (record.cpuPercent === usage?.cpuPercent && record.memoryBytes === usage?.memoryBytes)) return;
    this.#records.set(instanceId, { ...record, cpuPercent: usage?.cpuPercent, memoryBytes: usage?.memoryBytes });
    if (isNotable(this.#toldUsage.get(instanceId), usage)) this.#changed.add(instanceId);
  }

  forget(instanceId: string): void {
    this.#records.delete(instanceId);
    this.#toldUsage.delete(instanceId);
    this.#changed.delete(instanceId);
    this.#removed.add(instanceId);
    this.#log.info({ instanceId }, "instance removed");
    this.#onChange();
  }

  /** What is to be reported since the last call; everything with `all`. */
  takeReport(all: boolean): Pick<WorkerReport, "manifest" | "instances" | "removed"> {
    const ids = all ? [...this.#records.keys()] : [...this.#changed];
    const removed = [...this.#removed].filter((instanceId) => !this.#records.has(instanceId));
    this.#changed = new Set();
    this.#removed = new Set();
    const records = ids.flatMap((instanceId) => this.#records.get(instanceId) ?? []);
    for (const { instanceId, cpuPercent, memoryBytes } of records) {
      if (cpuPercent === undefined || memoryBytes === undefined) this.#toldUsage.delete(instanceId);
      else this.#toldUsage.set(instanceId, { cpuPercent, memoryBytes });
    }
    const live = records.length > 0 ? this.#live() : undefined;
    const reports = records.map((record) => report(record, this.#problem, live?.get(record.instanceId)));
    return { manifest: this.#revision, instances: reports, removed };
  }

  #put(record: InstanceRecord): void {
    const { instanceId, generation } = record;
    const before = this.#records.get(instanceId);
    const isSame = before?.generation === generation;
    if (isSame && !mayFollow(before.status, record.status)) {
      throw new AppError(
        "STATUS_ILLEGAL",
        `Instance "${instanceId}" cannot go from ${before.status} to ${record.status}`,
      );
    }
    const { status, detail } = record;
    if (before?.status !== status) this.#log.info({ instanceId, generation, status, detail }, "instance status");
    const since = isSame && before.status === status ? before.since : this.#clock.now();
    this.#records.set(instanceId, { ...record, since });
    if (isSame && REPORTED.every((field) => before[field] === record[field])) return;
    this.#changed.add(instanceId);
    this.#onChange();
  }

  #fresh(instanceId: string, generation: number): InstanceRecord {
    return {
      instanceId,
      generation,
      status: "NODE_SCHEDULED",
      detail: "waiting for its turn on the worker",
      since: this.#clock.now(),
      restarts: 0,
      isWithdrawn: false,
      failures: 0,
      notBefore: 0,
      hasImage: undefined,
      ports: undefined,
      traffic: "unknown",
    };
  }
}

function report(record: InstanceRecord, problem: string | undefined, live: Live | undefined): InstanceReport {
  const { instanceId, generation, status, detail, since, restarts } = record;
  const { exitCode, startedAt, logTail, cpuPercent, memoryBytes } = record;
  return {
    ...{ instanceId, generation, status, since, restarts },
    detail: problem ? `${detail} (${problem})` : detail,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(logTail === undefined ? {} : { logTail }),
    ...(cpuPercent === undefined ? {} : { cpuPercent }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(live && { live }),
  };
}

function ending({ traffic }: InstanceRecord): InstanceRecord["traffic"] {
  return traffic === "off" ? "off" : "ending";
}
