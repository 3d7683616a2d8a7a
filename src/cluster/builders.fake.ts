/** A cluster's state without links, for tests: liveness, positions and broken promises are what the test says. */
import assert from "node:assert/strict";
import { ManualClock } from "../base/clock.fake.ts";
import type { Liveness } from "../hierarchy/children.ts";
import type { Assignment, InstanceReport, InstanceStatus } from "../protocol/instance.ts";
import type { PlacementRequest, Position } from "../protocol/placement-request.ts";
import { ClusterState } from "./cluster-state.ts";
import { type Instance, type Placement, placementsOf } from "./model.ts";
import { type PlanInput, plan, type Step } from "./plan.ts";
import { ClusterStore } from "./store/cluster-store.ts";

export const port80 = [{ hostPort: 80, containerPort: 80, protocol: "tcp" as const }];

export function assignment(number: number, change: Partial<PlacementRequest> = {}): Assignment {
  const serviceId = number.toString(16).padStart(24, "0");
  return {
    instanceId: `${serviceId}-0`,
    generation: 1,
    serviceId,
    applicationId: serviceId,
    jobName: `a.n.s${number}.n`,
    instanceNumber: 0,
    request: {
      memoryBytes: 0,
      cpuMillis: 0,
      gpus: 0,
      virtualization: "container",
      architectures: [],
      ports: [],
      ...change,
    },
    workload: {
      image: "i",
      command: [],
      environment: [],
      oneShot: false,
      fuse: false,
      stopGraceMs: 0,
      memoryBytes: 0,
      cpuMillis: 0,
      ports: [],
    },
  };
}

export const idOf = (number: number) => assignment(number).instanceId;

export class Bench {
  readonly clock = new ManualClock();
  readonly liveness = new Map<string, Liveness>();
  readonly positions = new Map<string, Position>();
  readonly liars = new Set<string>();
  /** Why an instance should move, by its number; told with the next plan only. */
  readonly broken = new Map<number, string>();
  readonly #store = new ClusterStore(":memory:");
  state = this.#open();
  isAutonomous = false;

  #open(): ClusterState {
    return new ClusterState({ store: this.#store, clock: this.clock, onChanged: () => {} });
  }

  /** As after a kill: what was not written is lost. */
  restart(): void {
    this.state = this.#open();
    this.state.load();
  }

  worker(hostname: string, cpuMillis = 1000, memoryBytes = 1000): string {
    const { id } = this.state.addWorker({
      keyDigest: hostname,
      info: {
        hostname,
        architecture: "amd64",
        cpuMillis,
        memoryBytes,
        gpus: 0,
        virtualization: ["container"],
        publicIp: "",
        runtime: "",
        version: "",
        labels: {},
      },
    });
    this.liveness.set(id, "active");
    return id;
  }

  want(...assignments: Assignment[]): void {
    this.state.applyDesired({ full: false, assignments, removed: [] });
  }

  unwant(...numbers: number[]): void {
    this.state.applyDesired({ full: false, assignments: [], removed: numbers.map(idOf) });
  }

  input(): PlanInput {
    return {
      now: this.clock.monotonic(),
      workers: this.state.workers,
      instances: this.state.instances,
      withdrawals: this.state.withdrawals,
      livenessOf: (id) => this.liveness.get(id) ?? "lost",
      lost: new Set([...this.liveness].filter(([, is]) => is === "lost").map(([id]) => id)),
      strategy: "best-fit",
      isAutonomous: this.isAutonomous,
      positionOf: ({ id }) => this.positions.get(id),
      isBelieved: (id) => !this.liars.has(id),
      brokenPromises: new Map([...this.broken].map(([number, reason]) => [idOf(number), reason])),
    };
  }

  /** Plans and applies, and sees to it that there is nothing left to do then. */
  pass(): Step[] {
    const steps = plan(this.input());
    this.broken.clear();
    this.state.applySteps(steps);
    assert.deepEqual(plan(this.input()), [], "a plan is empty after it was applied");
    this.#checkIndex();
    return steps;
  }

  #checkIndex(): void {
    for (const { id } of this.state.workers) {
      const has = (instance: Instance) => placementsOf(instance).some(({ workerId }) => workerId === id);
      const found = this.state.placedOn(id).map(({ instance }) => instance.assignment.instanceId);
      const expected = this.state.instances.filter(has).map(({ assignment: { instanceId } }) => instanceId);
      assert.deepEqual(found.sort(), expected.sort(), "each worker's instances are found without looking at all");
      const left = this.state.withdrawals.filter(({ workerId }) => workerId === id);
      assert.deepEqual(this.state.withdrawalsOn(id), left, "and so is what is to leave it");
    }
  }

  /** Its workers say that nothing is left of its withdrawn placements. */
  gone(number: number): void {
    for (const one of this.state.withdrawals) if (one.instanceId === idOf(number)) this.state.settle(one);
  }

  instance(number: number): Instance {
    return this.state.instance(idOf(number))!;
  }

  at(number: number): string | undefined {
    return this.state.instance(idOf(number))?.placement?.workerId;
  }

  /** The worker says so about the present placement. */
  says(number: number, status: InstanceStatus, since = 0, change: Partial<InstanceReport> = {}): void {
    this.#says(number, this.instance(number).placement!, { status, since, ...change });
  }

  /** The worker that it is to move to says so. */
  successorSays(number: number, status: InstanceStatus, change: Partial<InstanceReport> = {}): void {
    this.#says(number, this.instance(number).successor!.placement, { status, ...change });
  }

  /** The worker that it has just moved from says so. */
  predecessorSays(number: number, status: InstanceStatus, change: Partial<InstanceReport> = {}): void {
    this.#says(number, this.instance(number).predecessor!.placement, { status, ...change });
  }

  #says(number: number, placement: Placement, change: Pick<InstanceReport, "status"> & Partial<InstanceReport>): void {
    const { workerId, number: generation } = placement;
    const plain = { instanceId: idOf(number), generation, detail: "", since: 0, restarts: 0 };
    this.state.observe(workerId, { ...plain, ...change });
  }
}
