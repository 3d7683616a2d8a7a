/**
 * Workers, instances and withdrawals: held in memory, written to the store first. Every change of the desired state of a worker
 * raises its manifest's revision in the same transaction, so what is published can always be made again from the store.
 */
import type { Clock } from "../base/clock.ts";
import { objectId } from "../base/random.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import type { Assignment, InstanceReport } from "../protocol/instance.ts";
import {
  type Instance,
  isCompleted,
  type Placed,
  type Placement,
  placementsOf,
  type Withdrawal,
  type Worker,
} from "./model.ts";
import { applyMove, withoutWorker } from "./moving.ts";
import type { Step } from "./plan.ts";
import { isNews, isStatusChange } from "./reports.ts";
import { StateChange, withdrawalKey } from "./state-change.ts";
import type { ClusterStore } from "./store/cluster-store.ts";

/** No honest worker has seen more; what a liar claims must still count up safely. */
const MAX_REVISION = 2 ** 50;

export interface DesiredChange {
  readonly full: boolean;
  readonly assignments: readonly Assignment[];
  readonly removed: readonly string[];
}

export interface ClusterStateOptions {
  readonly store: ClusterStore;
  readonly clock: Clock;
  /** What the root is told of this instance may have changed. `isNews` is false for mere measurements. */
  readonly onChanged: (instanceId: string, isNews: boolean) => void;
}

export class ClusterState {
  readonly #store: ClusterStore;
  readonly #clock: Clock;
  readonly #onChanged: ClusterStateOptions["onChanged"];
  readonly #workers = new Map<string, Worker>();
  readonly #instances = new Map<string, Instance>();
  /** Ids of the instances that each worker has, or is to have. */
  readonly #idsByWorker = new Map<string, Set<string>>();
  readonly #withdrawals = new Map<string, Withdrawal>();
  /** The same, by worker: each of its reports asks for them. */
  readonly #withdrawalsOn = new Map<string, Map<string, Withdrawal>>();
  /** Reports not on disk yet: they are written together, a little later. */
  readonly #unsaved = new Set<string>();

  constructor({ store, clock, onChanged }: ClusterStateOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#onChanged = onChanged;
  }

  load(): void {
    for (const worker of this.#store.workers()) this.#workers.set(worker.id, worker);
    for (const { successor, predecessor, ...stored } of this.#store.instances()) {
      this.#keep(stored.assignment.instanceId, {
        ...this.#fresh(stored.assignment),
        ...stored,
        ...(successor ? { successor: { ...successor, ...this.#now() } } : {}),
        ...(predecessor ? { predecessor: { ...predecessor, seenAt: this.#clock.monotonic() } } : {}),
      });
    }
    for (const one of this.#store.withdrawals()) this.#keepWithdrawal(withdrawalKey(one), one);
  }

  get workers(): Worker[] {
    return [...this.#workers.values()];
  }

  get instances(): Instance[] {
    return [...this.#instances.values()];
  }

  get withdrawals(): Withdrawal[] {
    return [...this.#withdrawals.values()];
  }

  worker(id: string): Worker | undefined {
    return this.#workers.get(id);
  }

  instance(id: string): Instance | undefined {
    return this.#instances.get(id);
  }

  /** What this worker no longer should have, but has. */
  withdrawalsOn(workerId: string): Withdrawal[] {
    return [...(this.#withdrawalsOn.get(workerId)?.values() ?? [])];
  }

  /** Those of which this worker is in charge. */
  instancesOn(workerId: string): Instance[] {
    return this.placedOn(workerId).flatMap(({ instance, placement }) =>
      instance.placement === placement ? [instance] : [],
    );
  }

  /** All that this worker is to have, also on standby. */
  placedOn(workerId: string): Placed[] {
    return [...(this.#idsByWorker.get(workerId) ?? [])].flatMap((id) => {
      const instance = this.#instances.get(id)!;
      const placement = placementsOf(instance).find((one) => one.workerId === workerId);
      return placement ? [{ instance, placement }] : [];
    });
  }

  /** The instance is placed on this worker, or not yet gone from it. */
  concerns(workerId: string, instanceId: string): boolean {
    const instance = this.#instances.get(instanceId);
    if (instance && placementsOf(instance).some((one) => one.workerId === workerId)) return true;
    return this.withdrawalsOn(workerId).some((one) => one.instanceId === instanceId);
  }

  /** @param vouch spends what lets it in, in the same transaction; nothing is spent or added when it throws */
  addWorker(worker: { readonly keyDigest: string; readonly info: WorkerInfo }, vouch: () => void = () => {}): Worker {
    const added: Worker = { ...worker, id: objectId(), hostname: worker.info.hostname, manifestRevision: 0 };
    this.#write((change) => {
      vouch();
      change.putWorker(added);
    });
    return added;
  }

  /** Writes only what is new. The caller has seen to it that the host name is free. */
  updateWorker(id: string, info: WorkerInfo): void {
    const worker = this.#workers.get(id);
    if (!worker || JSON.stringify(info) === JSON.stringify(worker.info)) return;
    this.#write((change) => change.putWorker({ ...worker, info, hostname: info.hostname }));
  }

  /** A worker that already has a later manifest than ours (our disk lost some writes) gets one that is later still. */
  outgrow(workerId: string, manifestRevision: number): void {
    const worker = this.#workers.get(workerId);
    if (!worker || manifestRevision <= worker.manifestRevision || manifestRevision > MAX_REVISION) return;
    this.#write((change) => change.putWorker({ ...worker, manifestRevision: manifestRevision + 1 }));
  }

  /** Its instances are without a placement then, but for those that were about to leave; what it had reserved is forgotten. */
  removeWorker(id: string): void {
    this.#write((change) => {
      for (const { instance } of this.placedOn(id)) withoutWorker(change, instance, id, this.#now());
      change.removeWorker(id);
    });
  }

  /** Takes over what the root wants. Older generations than known ones are late messages. */
  applyDesired({ full, assignments, removed }: DesiredChange): void {
    const wanted = new Set(assignments.map(({ instanceId }) => instanceId));
    const gone = full ? [...this.#instances.keys()].filter((id) => !wanted.has(id)) : removed;
    this.#write((change) => {
      for (const id of gone) {
        const instance = this.#instances.get(id);
        if (!instance) continue;
        change.withdraw(instance);
        change.removeInstance(id);
      }
      for (const assignment of assignments) {
        const known = this.#instances.get(assignment.instanceId);
        if (!known || assignment.generation > known.assignment.generation) {
          if (known) change.withdraw(known);
          change.putInstance(this.#fresh(assignment));
        } else if (
          assignment.generation === known.assignment.generation &&
          JSON.stringify(assignment) !== JSON.stringify(known.assignment)
        ) {
          // The worker is told nothing of the request, which changes when what it is to be near to moves.
          if (!isSameForWorker(assignment, known.assignment)) {
            for (const { workerId } of placementsOf(known)) change.revise(workerId);
          }
          change.putInstance({ ...known, assignment });
        }
      }
    });
  }

  applySteps(steps: readonly Step[]): void {
    this.#write((change) => {
      for (const step of steps) {
        const instance = change.instance(step.instanceId);
        if (!instance) continue;
        switch (step.do) {
          case "withdraw": {
            change.withdraw(instance);
            const before = step.startsOver ? [] : instance.tried;
            const tried = new Map(before).set(step.workerId, step.reason);
            change.putInstance({ ...this.#fresh(instance.assignment), tried });
            break;
          }
          case "place": {
            const placement = change.reserve(step.workerId);
            change.putInstance({ ...this.#fresh(instance.assignment), tried: instance.tried, placement });
            break;
          }
          case "prepare":
          case "switch":
          case "abandon":
          case "return":
          case "retire":
            applyMove(change, instance, step, { ...this.#now(), nameOf: this.#nameOf });
            break;
          case "wait":
          case "decline": {
            const kind = step.do === "wait" ? "waiting" : "declined";
            // A waiting instance waits from its start, whatever it waits for.
            const when = step.do === "wait" ? {} : this.#now();
            change.remember({ ...instance, ...when, refusal: { kind, detail: step.detail } });
          }
        }
      }
    });
  }

  /** A worker's word about an instance; about a placement that is not its own, or not any more, it means nothing. */
  observe(workerId: string, report: InstanceReport): void {
    const known = this.#instances.get(report.instanceId);
    if (!known) return;
    const { placement, successor, predecessor } = known;
    const isAbout = (one: Placement | undefined) => one?.workerId === workerId && one.number === report.generation;
    if (successor && isAbout(successor.placement)) {
      const when = successor.report?.status === report.status ? {} : this.#now();
      this.#noteOther({ ...known, successor: { ...successor, ...when, report } }, successor.report, report);
      return;
    }
    if (predecessor && isAbout(predecessor.placement)) {
      this.#noteOther({ ...known, predecessor: { ...predecessor, report } }, predecessor.report, report);
      return;
    }
    if (!isAbout(placement)) return;
    // It never runs again, whatever is said later.
    if (isCompleted(known)) return;
    const news = isNews(known.report, report);
    const hasFailed = report.status === "FAILED" && isStatusChange(known.report, report);
    this.#keep(report.instanceId, {
      ...known,
      ...(known.report?.status === report.status ? {} : { ...this.#now(), moveNote: undefined }),
      report,
      failures: known.failures + (hasFailed ? 1 : 0),
    });
    if (news) this.#unsaved.add(report.instanceId);
    this.#onChanged(report.instanceId, news);
  }

  /** The root hears nothing of it: of an instance that moves, only the one in charge speaks. */
  #noteOther(instance: Instance, before: InstanceReport | undefined, report: InstanceReport): void {
    this.#keep(report.instanceId, instance);
    if (isNews(before, report)) this.#unsaved.add(report.instanceId);
  }

  /** By instance, what this cluster cannot mend; of the others it can, or there is nothing to mend. */
  noteBrokenPromises(reasons: ReadonlyMap<string, string>): void {
    for (const [id, instance] of this.#instances) {
      const brokenPromise = reasons.get(id);
      if (instance.brokenPromise === brokenPromise) continue;
      this.#keep(id, { ...instance, brokenPromise });
      this.#onChanged(id, true);
    }
  }

  /** Nothing of it is left on the worker. */
  settle(withdrawal: Withdrawal): void {
    this.#write((change) => change.removeWithdrawal(withdrawal));
  }

  /** Writes reports that came since the last time. */
  save(): void {
    const ids = [...this.#unsaved];
    if (ids.length === 0) return;
    this.#store.write(() => {
      for (const id of ids) {
        const instance = this.#instances.get(id);
        if (instance) this.#store.putInstance(instance);
      }
    });
    for (const id of ids) this.#unsaved.delete(id);
  }

  /** What the root is told of these may have changed for a reason outside this state. */
  touch(instanceIds: Iterable<string>): void {
    for (const id of instanceIds) this.#onChanged(id, true);
  }

  #keep(id: string, instance: Instance | undefined): void {
    const workersOf = (one: Instance | undefined) => (one ? placementsOf(one).map(({ workerId }) => workerId) : []);
    const before = workersOf(this.#instances.get(id));
    const after = workersOf(instance);
    set(this.#instances, id, instance);
    for (const workerId of before) if (!after.includes(workerId)) this.#idsByWorker.get(workerId)?.delete(id);
    for (const workerId of after) {
      if (!before.includes(workerId))
        this.#idsByWorker.set(workerId, (this.#idsByWorker.get(workerId) ?? new Set()).add(id));
    }
  }

  #keepWithdrawal(key: string, withdrawal: Withdrawal | undefined): void {
    const { workerId } = withdrawal ?? this.#withdrawals.get(key) ?? {};
    set(this.#withdrawals, key, withdrawal);
    if (workerId === undefined) return;
    const there = this.#withdrawalsOn.get(workerId) ?? new Map<string, Withdrawal>();
    set(there, key, withdrawal);
    set(this.#withdrawalsOn, workerId, there.size > 0 ? there : undefined);
  }

  readonly #nameOf = (workerId: string): string => `worker "${this.#workers.get(workerId)?.hostname ?? workerId}"`;

  #now(): { readonly seenAt: number; readonly since: number } {
    return { seenAt: this.#clock.monotonic(), since: this.#clock.now() };
  }

  #fresh(assignment: Assignment): Instance {
    return { assignment, ...this.#now(), failures: 0, tried: new Map() };
  }

  /** One transaction; memory follows when it is on disk. */
  #write(work: (change: StateChange) => void): void {
    const change = new StateChange(this.#store, this.#workers, this.#instances);
    this.#store.write(() => {
      work(change);
      change.finish();
    });
    for (const [id, worker] of change.workers) {
      set(this.#workers, id, worker);
      if (!worker) this.#idsByWorker.delete(id);
    }
    for (const [id, instance] of change.instances) this.#keep(id, instance);
    for (const [key, withdrawal] of change.withdrawals) this.#keepWithdrawal(key, withdrawal);
    // Withdrawals of a worker that is gone went with it.
    for (const [id, worker] of change.workers) {
      if (!worker) for (const one of this.withdrawalsOn(id)) this.#keepWithdrawal(withdrawalKey(one), undefined);
    }
    for (const id of change.instances.keys()) this.#onChanged(id, true);
  }
}

function isSameForWorker({ request: _one, ...now }: Assignment, { request: _other, ...before }: Assignment): boolean {
  return JSON.stringify(now) === JSON.stringify(before);
}

function set<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}
