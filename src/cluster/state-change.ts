import {
  type Instance,
  idOf,
  isCompleted,
  isStandby,
  type Placement,
  placementsOf,
  type Withdrawal,
  type Worker,
} from "./model.ts";
import type { ClusterStore } from "./store/cluster-store.ts";

const NOTHING = { memoryBytes: 0, cpuMillis: 0, gpus: 0, ports: [] };

export const withdrawalKey = ({ instanceId, number }: Withdrawal): string => `${instanceId}#${number}`;

/** What one transaction changes: written at once, and collected for memory to follow; undefined stands for removed. */
export class StateChange {
  readonly workers = new Map<string, Worker | undefined>();
  readonly instances = new Map<string, Instance | undefined>();
  readonly withdrawals = new Map<string, Withdrawal | undefined>();
  readonly #store: ClusterStore;
  readonly #knownWorkers: ReadonlyMap<string, Worker>;
  readonly #knownInstances: ReadonlyMap<string, Instance>;
  readonly #revised = new Set<string>();

  constructor(store: ClusterStore, workers: ReadonlyMap<string, Worker>, instances: ReadonlyMap<string, Instance>) {
    this.#store = store;
    this.#knownWorkers = workers;
    this.#knownInstances = instances;
  }

  instance(id: string): Instance | undefined {
    return this.instances.has(id) ? this.instances.get(id) : this.#knownInstances.get(id);
  }

  putWorker(worker: Worker): void {
    this.workers.set(worker.id, worker);
    this.#store.putWorker(worker);
  }

  removeWorker(id: string): void {
    this.workers.set(id, undefined);
    this.#store.removeWorker(id);
  }

  putInstance(instance: Instance): void {
    this.remember(instance);
    this.#store.putInstance(instance);
  }

  /** For what need not survive a restart. */
  remember(instance: Instance): void {
    this.instances.set(idOf(instance), instance);
  }

  removeInstance(id: string): void {
    this.instances.set(id, undefined);
    this.#store.removeInstance(id);
  }

  removeWithdrawal(withdrawal: Withdrawal): void {
    this.withdrawals.set(withdrawalKey(withdrawal), undefined);
    this.#store.removeWithdrawal(withdrawal);
  }

  /** A new place on a worker, for an instance that is to be put with it. */
  reserve(workerId: string): Placement {
    this.revise(workerId);
    return { workerId, number: this.#store.nextPlacement() };
  }

  /** Takes the instance from every worker that has it. */
  withdraw(instance: Instance): void {
    for (const placement of placementsOf(instance)) this.release(instance, placement);
  }

  /** Takes the instance from one of its workers; the caller puts the instance without that placement. */
  release(instance: Instance, placement: Placement): void {
    const { assignment } = instance;
    const revision = this.revise(placement.workerId);
    const instanceId = idOf(instance);
    // What has completed uses nothing: it must not hold again what others were given in the meantime.
    const isOver = isCompleted(instance) && !isStandby(instance, placement);
    const request = isOver ? { ...assignment.request, ...NOTHING } : assignment.request;
    const withdrawal: Withdrawal = { instanceId, ...placement, revision, request };
    this.withdrawals.set(withdrawalKey(withdrawal), withdrawal);
    this.#store.putWithdrawal(withdrawal);
  }

  /** The worker's next manifest revision; one for all that this transaction changes. */
  revise(workerId: string): number {
    const worker = this.workers.get(workerId) ?? this.#knownWorkers.get(workerId)!;
    if (this.#revised.has(workerId)) return worker.manifestRevision;
    this.#revised.add(workerId);
    const revised = { ...worker, manifestRevision: worker.manifestRevision + 1 };
    this.workers.set(workerId, revised);
    return revised.manifestRevision;
  }

  finish(): void {
    for (const id of this.#revised) this.#store.putWorker(this.workers.get(id)!);
  }
}
