/** The cluster's loop: who is there, what should be where, carry it out. It decides nothing itself: plan.ts does. */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Decided } from "../hierarchy/delegate.ts";
import type { History } from "../hierarchy/history.ts";
import type { Position } from "../protocol/placement-request.ts";
import type { PlannedInstance } from "../protocol/uplink.ts";
import type { ScheduleOptions } from "../scheduler/candidate.ts";
import type { PlacementVoter } from "../transport/placement-voter.ts";
import { candidates } from "./capacity.ts";
import type { ClusterState } from "./cluster-state.ts";
import type { DesiredTopics } from "./desired-topics.ts";
import { type Forecast, forecast } from "./forecast.ts";
import type { Live } from "./live.ts";
import type { Measuring } from "./measuring.ts";
import type { Worker } from "./model.ts";
import { type PlanInput, type Portion, plan, pluginQuestions, type Step } from "./plan.ts";
import { Promises, type PromisesInput, type Round } from "./promises.ts";
import type { Subnets } from "./subnets.ts";
import { ownTargets, resolve } from "./whereabouts.ts";
import type { Workers } from "./workers.ts";

/** In one pass, looks of an instance at a worker: more would keep everybody waiting. What is left comes with the next pass. */
const MAX_LOOKS = 500_000;

export interface PlacementOptions {
  readonly state: ClusterState;
  readonly workers: Pick<Workers, "changes" | "livenessOf" | "lost" | "trustChanges">;
  readonly desired: Pick<DesiredTopics, "sync">;
  readonly subnets: Pick<Subnets, "sync">;
  readonly measuring: Pick<Measuring, "sync" | "measuredOf" | "last">;
  readonly history: Pick<History, "decided" | "retain">;
  readonly positionOf: (worker: Worker) => Position;
  /** Whether traffic will go where a worker says. */
  readonly isBelieved: (workerId: string, live: Live) => boolean;
  /** Absent: the strategy alone decides. */
  readonly voter?: Pick<PlacementVoter, "votes"> | undefined;
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
  readonly #promises: Promises;
  /** Where the last pass ended, if there was too much for one. */
  #last: Portion["after"];

  constructor(options: PlacementOptions) {
    this.#options = options;
    this.#promises = new Promises({ measured: (host, workerId) => options.measuring.last(host, workerId) });
  }

  async pass(): Promise<{ againInMs: number } | undefined> {
    const { state, workers, desired, subnets, clock, voter, history } = this.#options;
    history.retain((id) => state.instance(id) !== undefined);
    for (const { workerId, now } of workers.changes()) {
      state.touch(state.instancesOn(workerId).map(({ assignment }) => assignment.instanceId));
      this.#options.onLiveness(workerId, now === "active");
    }
    for (const workerId of workers.trustChanges()) this.#options.onTrust(workerId);
    const round = this.#watch();
    const questions = voter ? pluginQuestions(this.#observe(round)) : new Map();
    const votes = questions.size > 0 ? await voter!.votes(questions) : undefined;
    // Observed again: while a plugin thinks, the world goes on.
    const observed = this.#observe(round);
    const decided = new Set<string>();
    let last: Portion["after"];
    const steps = plan({
      ...observed,
      portion: { ...observed.portion, onMore: (id) => (last = id) },
      votes,
      monotonic: () => clock.monotonic(),
      onDecision: (one) => {
        decided.add(one.instanceId);
        this.#noteDecision(one);
      },
    });
    this.#last = last;
    const tried = [...round.moves.keys()].filter((id) => decided.has(id));
    this.#promises.tried(tried, new Set(steps.map(({ instanceId }) => instanceId)), clock.monotonic());
    if (steps.length > 0) state.applySteps(steps);
    state.noteBrokenPromises(this.#promises.unmended(state.instances));
    for (const step of steps) this.#note(step);
    this.#measure(round);
    // Both go on by themselves: a worker that reads slowly must not hold up the others.
    void subnets.sync();
    void desired.sync();
    // Where there was nothing to do, the rest can wait: those whom nobody can take stay for ever.
    return last === undefined || steps.length === 0 ? undefined : { againInMs: 0 };
  }

  /** What would become of instances if they came now, of no more than a pass looks at. Nothing changes; a plugin is not asked. */
  forecast(question: Forecast): PlannedInstance[] {
    const observed = this.#observe({ moves: new Map() });
    return forecast({ ...observed, isAutonomous: false, portion: undefined }, question, observed.portion.max);
  }

  #observe({ moves }: Pick<Round, "moves">): PlanInput & { readonly portion: Portion } {
    const { state, workers, clock, strategy, measuring, positionOf, isBelieved, isAutonomous } = this.#options;
    const all = state.workers;
    return {
      now: clock.monotonic(),
      workers: all,
      instances: state.instances,
      withdrawals: state.withdrawals,
      livenessOf: workers.livenessOf,
      lost: workers.lost(),
      portion: { max: Math.ceil(MAX_LOOKS / (all.length + 1)), after: this.#last, onMore: () => {} },
      strategy,
      isAutonomous: isAutonomous(),
      positionOf,
      isBelieved,
      measuredOf: measuring.measuredOf,
      brokenPromises: moves,
    };
  }

  #watch(): Round {
    const { state, clock, measuring, positionOf, workers } = this.#options;
    const { instances } = state;
    const isWatched = instances.some(({ assignment: { request } }) => request.links ?? request.users);
    if (!isWatched) return this.#promises.round({ now: clock.monotonic(), instances: [], ...NOBODY });
    const { withdrawals } = state;
    const { livenessOf } = workers;
    const all = candidates({ workers: state.workers, instances, withdrawals, livenessOf, positionOf });
    const byId = new Map(all.map((one) => [one.id, one]));
    const targets = ownTargets(instances, (id) => byId.get(id)?.position);
    return this.#promises.round({
      now: clock.monotonic(),
      instances,
      candidateOf: (id) => byId.get(id),
      resolved: (request) => resolve(request, targets, measuring.measuredOf),
    });
  }

  #measure({ broken }: Round): void {
    const { state, workers, measuring } = this.#options;
    const there = state.workers.filter(({ id }) => workers.livenessOf(id) !== "lost");
    const active = there.filter(({ id }) => workers.livenessOf(id) === "active");
    measuring.sync({ workers: there, active, instances: state.instances, restless: broken });
  }

  #noteDecision(decided: Decided): void {
    const { history, clock, log } = this.#options;
    history.decided(decided, clock.now());
    for (const warning of decided.decision.warnings ?? []) {
      log.warn({ instanceId: decided.instanceId, warning }, "placement decided without its plugin");
    }
  }

  #note(step: Step): void {
    const { log, state } = this.#options;
    const jobName = state.instance(step.instanceId)?.assignment.jobName;
    const { do: decision, ...fields } = step;
    log.info({ decision, jobName, ...fields }, "placement decided");
  }
}

const NOBODY: Pick<PromisesInput, "candidateOf" | "resolved"> = {
  candidateOf: () => undefined,
  resolved: (request) => request,
};
