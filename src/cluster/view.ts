/** State and membership together, as the root and operators see them. */
import { AppError } from "../base/errors.ts";
import { aggregate } from "../hierarchy/capacity.ts";
import type { Aggregate, Landmark } from "../protocol/capacity.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { Position } from "../protocol/placement-request.ts";
import { candidates } from "./capacity.ts";
import type { ClusterState } from "./cluster-state.ts";
import { landmarksOf } from "./measure-plan.ts";
import { type Instance, idOf, isElsewhere, isStandby, type Placed, type Worker } from "./model.ts";
import type { Overlay } from "./overlay.ts";
import { reportOfSuccessor, reportToRoot } from "./reports.ts";
import { type WorkerDocument, workerDocument } from "./worker-document.ts";
import type { Workers } from "./workers.ts";

export class ClusterView {
  readonly #state: ClusterState;
  readonly #workers: Workers;
  readonly #overlay: () => Pick<Overlay, "own" | "subnets">;
  readonly #positionOf: (worker: Worker) => Position;

  constructor(parts: {
    readonly state: ClusterState;
    readonly workers: Workers;
    /** Made later than this. */
    readonly overlay: () => Pick<Overlay, "own" | "subnets">;
    readonly positionOf: (worker: Worker) => Position;
  }) {
    this.#state = parts.state;
    this.#workers = parts.workers;
    this.#overlay = parts.overlay;
    this.#positionOf = parts.positionOf;
  }

  /** @throws AppError NOT_FOUND */
  worker(id: string): Worker {
    const worker = this.#state.worker(id);
    if (!worker) throw new AppError("NOT_FOUND", `There is no worker "${id}" in this cluster`);
    return worker;
  }

  instanceIds(): string[] {
    return this.#state.instances.map(idOf);
  }

  /** What the root is told of it; undefined when there is no such instance any more. */
  report(instanceId: string): InstanceReport | undefined {
    const instance = this.#state.instance(instanceId);
    return instance && this.#report(instance);
  }

  subnetsFree(): number {
    return this.#overlay().subnets.free;
  }

  aggregate(): Aggregate {
    const active = this.#candidates().filter((candidate) => candidate.active);
    return aggregate(
      active.map(({ id, total, free, virtualization, position }) => {
        const { architecture } = this.worker(id).info;
        const { cpuPercent, memoryPercent } = this.#workers.contact(id);
        return { architecture, virtualization, total, free, cpuPercent, memoryPercent, position };
      }),
    );
  }

  landmarks(): Landmark[] {
    return landmarksOf(this.#state.workers.filter(({ id }) => this.#workers.livenessOf(id) === "active"));
  }

  /** Of the instance's worker, when it can be asked for something. */
  reachableWorkerOf(instanceId: string): string | undefined {
    const workerId = this.#state.instance(instanceId)?.placement?.workerId;
    return workerId !== undefined && this.#workers.livenessOf(workerId) === "active" ? workerId : undefined;
  }

  workerDocuments(): WorkerDocument[] {
    return this.#candidates().map(({ id, free }) =>
      workerDocument({
        worker: this.worker(id),
        contact: this.#workers.contact(id),
        status: this.#workers.livenessOf(id),
        free,
        instances: this.#state.placedOn(id).map((placed) => ({ ...placed, report: this.#reportOn(placed) })),
      }),
    );
  }

  /** Of the instance on the very worker. */
  #reportOn({ instance, placement }: Placed): Pick<InstanceReport, "status" | "detail"> {
    const { successor } = instance;
    if (!isStandby(instance, placement)) {
      const { status, detail } = this.#report(instance);
      return { status, detail: isElsewhere(instance) ? `${detail}; on standby: another cluster is in charge` : detail };
    }
    if (successor?.placement === placement) return reportOfSuccessor(successor);
    return { status: "RUNNING", detail: "has moved, and ends here in a moment" };
  }

  #report(instance: Instance): InstanceReport {
    const { placement, successor } = instance;
    if (!placement) return reportToRoot(instance, {});
    const worker = this.#state.worker(placement.workerId);
    const nextWorker = successor && this.#state.worker(successor.placement.workerId);
    const silentSince = this.#workers.silentSince(placement.workerId);
    const live = this.#overlay().own.liveOf(idOf(instance));
    const position = worker && this.#positionOf(worker);
    return reportToRoot(instance, { worker, nextWorker, silentSince, live, position });
  }

  #candidates() {
    return candidates({
      workers: this.#state.workers,
      instances: this.#state.instances,
      withdrawals: this.#state.withdrawals,
      livenessOf: this.#workers.livenessOf,
      positionOf: this.#positionOf,
    });
  }
}
