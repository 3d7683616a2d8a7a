/** The cluster's loop: who is there, what should be where, carry it out. It decides nothing itself: plan.ts does. */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { ScheduleOptions } from "../scheduler/candidate.ts";
import type { ClusterState } from "./cluster-state.ts";
import type { DesiredTopics } from "./desired-topics.ts";
import { plan, type Step } from "./plan.ts";
import type { Subnets } from "./subnets.ts";
import type { Workers } from "./workers.ts";

export interface PlacementOptions {
  readonly state: ClusterState;
  readonly workers: Pick<Workers, "changes" | "livenessOf" | "lost" | "trustChanges">;
  readonly desired: Pick<DesiredTopics, "sync">;
  readonly subnets: Pick<Subnets, "sync">;
  readonly isAutonomous: () => boolean;
  /** A worker went from or to active. */
  readonly onLiveness: (workerId: string, isActive: boolean) => void;
  /** Traffic should come to a worker's instances again, or not any more. */
  readonly onTrust: (workerId: string) => void;
  readonly strategy: ScheduleOptions["strategy"];
  readonly log: Logger;
  readonly clock: Clock;
}

export class PlacementLoop {
  readonly #options: PlacementOptions;

  constructor(options: PlacementOptions) {
    this.#options = options;
  }

  async pass(): Promise<undefined> {
    const { state, workers, desired, subnets, clock, strategy } = this.#options;
    for (const { workerId, now } of workers.changes()) {
      state.touch(state.instancesOn(workerId).map(({ assignment }) => assignment.instanceId));
      this.#options.onLiveness(workerId, now === "active");
    }
    for (const workerId of workers.trustChanges()) this.#options.onTrust(workerId);
    const steps = plan({
      now: clock.monotonic(),
      workers: state.workers,
      instances: state.instances,
      withdrawals: state.withdrawals,
      livenessOf: workers.livenessOf,
      lost: workers.lost(),
      strategy,
      isAutonomous: this.#options.isAutonomous(),
    });
    if (steps.length > 0) state.applySteps(steps);
    for (const step of steps) this.#note(step);
    // Both go on by themselves: a worker that reads slowly must not hold up the others.
    void subnets.sync();
    void desired.sync();
    return undefined;
  }

  #note(step: Step): void {
    const { log, state } = this.#options;
    const jobName = state.instance(step.instanceId)?.assignment.jobName;
    const { do: decision, ...fields } = step;
    log.info({ decision, jobName, ...fields }, "placement decided");
  }
}
