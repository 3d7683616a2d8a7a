/** Decides which worker each instance of the cluster goes to. Pure: same input, same steps; after applying them there are none. */
import type { Liveness } from "../hierarchy/children.ts";
import { type Decided, type Delegated, delegate, reserve } from "../hierarchy/delegate.ts";
import { type InstanceStatus, STATUS } from "../protocol/instance.ts";
import type { PlacementRequest, Position } from "../protocol/placement-request.ts";
import type { Candidate, PluginVote, ScheduleOptions } from "../scheduler/candidate.ts";
import type { PluginSnapshot } from "../scheduler/plugin.ts";
import { describeVerdicts, pluginQuestion, schedule } from "../scheduler/schedule.ts";
import { candidates } from "./capacity.ts";
import { type Instance, idOf, isCompleted, type Withdrawal, type Worker } from "./model.ts";
import { type Measured, ownTargets, resolve } from "./whereabouts.ts";

export type Step =
  | { readonly do: "place"; readonly instanceId: string; readonly workerId: string }
  | {
      readonly do: "withdraw";
      readonly instanceId: string;
      readonly workerId: string;
      readonly reason: string;
      /** What happened on other workers does not count any more. */
      readonly startsOver?: true;
    }
  | { readonly do: "wait"; readonly instanceId: string; readonly detail: string }
  | { readonly do: "decline"; readonly instanceId: string; readonly detail: string };

export interface PlanInput {
  /** Monotonic ms. */
  readonly now: number;
  readonly workers: readonly Worker[];
  /** In the order in which they came. */
  readonly instances: readonly Instance[];
  readonly withdrawals: readonly Withdrawal[];
  readonly livenessOf: (workerId: string) => Liveness;
  /** From `lostChildren`. */
  readonly lost: ReadonlySet<string>;
  readonly strategy: ScheduleOptions["strategy"];
  /** No root to hand a declined instance back to: it is tried again here. */
  readonly isAutonomous: boolean;
  /** Absent: nobody knows. */
  readonly positionOf?: ((worker: Worker) => Position | undefined) | undefined;
  readonly measuredOf?: ((host: string) => Measured) | undefined;
  /** Why an instance should move, because a promise about distances is broken. */
  readonly brokenPromises?: ReadonlyMap<string, string> | undefined;
  /** What a plugin said, by instance. */
  readonly votes?: ReadonlyMap<string, PluginVote> | undefined;
  /** For the time budget of searches. */
  readonly monotonic?: (() => number) | undefined;
  readonly onDecision?: ((decided: Decided) => void) | undefined;
}

/** How long an instance waits for a withdrawn one to make room, or for a suspect worker, before it is declined. */
export const WAIT_MS = 15_000;
/** Failures under one placement after which another worker gets its try. */
export const FAILURES_BEFORE_MOVE = 5;

export function plan(input: PlanInput): Step[] {
  const { strategy, lost, monotonic, onDecision, brokenPromises } = input;
  const { open, delegated, candidates: all } = survey(input);
  const byId = new Map(open.map((instance) => [idOf(instance), instance]));
  const requests = new Map(delegated.map(({ instanceId, request }) => [instanceId, request]));
  const steps: Step[] = [];
  const refused: Refused[] = [];
  for (const step of delegate({ instances: delegated, candidates: all, lost, strategy, monotonic, onDecision })) {
    const { instanceId } = step;
    if (step.do === "assign") steps.push({ do: "place", instanceId, workerId: step.childId });
    else if (step.do === "takeBack") {
      const { childId: workerId, reason } = step;
      const startsOver = brokenPromises?.get(instanceId) === reason ? { startsOver: true as const } : {};
      steps.push({ do: "withdraw", instanceId, workerId, reason, ...startsOver });
    } else {
      const { verdicts, waitsFor } = step;
      const detail = describeVerdicts(verdicts, "worker");
      refused.push({ instance: byId.get(instanceId)!, request: requests.get(instanceId)!, detail, waitsFor });
    }
  }
  return refused.length === 0 ? steps : [...steps, ...refuse(refused, steps, input)];
}

/** What a plugin is to be asked before; those of which nothing fits are left out. */
export function pluginQuestions(input: PlanInput): Map<string, PluginSnapshot> {
  const { delegated, candidates: all } = survey(input);
  const questions = new Map<string, PluginSnapshot>();
  for (const { instanceId, childId, request, pinnedTo, excluded } of delegated) {
    if (childId !== undefined && !input.brokenPromises?.has(instanceId)) continue;
    const question = pluginQuestion(request, all, { strategy: input.strategy, pinnedTo, excluded });
    if (question) questions.set(instanceId, question);
  }
  return questions;
}

interface Refused {
  readonly instance: Instance;
  readonly request: PlacementRequest;
  readonly detail: string;
  readonly waitsFor: readonly string[] | undefined;
}

function survey(input: PlanInput) {
  const { instances, workers, positionOf, measuredOf = () => NOT_MEASURED } = input;
  const open = instances.filter((instance) => isOpen(instance, input.isAutonomous));
  const positions = new Map(workers.map((worker) => [worker.id, positionOf?.(worker)]));
  const targets = open.some(({ assignment }) => assignment.request.links)
    ? ownTargets(instances, (id) => positions.get(id))
    : new Map();
  const delegated = open.map((instance) =>
    describe(instance, resolve(instance.assignment.request, targets, measuredOf), input),
  );
  return { open, delegated, candidates: candidates(input) };
}

const NOT_MEASURED: Measured = { samples: [], tried: 0, pending: 0 };

function isOpen(instance: Instance, isAutonomous: boolean): boolean {
  return !isCompleted(instance) && (instance.refusal?.kind !== "declined" || isAutonomous);
}

function describe(instance: Instance, request: PlacementRequest, input: PlanInput): Delegated {
  const { now, lost, brokenPromises, votes } = input;
  const { assignment, placement, tried } = instance;
  const { instanceId } = assignment;
  const moveIfPossible = placement && (reasonToMove(instance, now) ?? brokenPromises?.get(instanceId));
  // Who tried it and failed is better than a worker that is lost, or than none.
  const isChoosy = placement && !lost.has(placement.workerId);
  return {
    instanceId,
    request,
    childId: placement?.workerId,
    pinnedTo: request.directWorkers,
    plugin: votes?.get(instanceId),
    ...(isChoosy ? { excluded: tried } : {}),
    ...(moveIfPossible ? { moveIfPossible } : {}),
  };
}

function reasonToMove({ report, seenAt, failures }: Instance, now: number): string | undefined {
  if (failures >= FAILURES_BEFORE_MOVE) return `failed ${failures} times here`;
  const status = report?.status ?? "NODE_SCHEDULED";
  const deadlineMs = deadlineOf(status);
  return now - seenAt > deadlineMs ? `${status} for more than ${deadlineMs / 1000} s` : undefined;
}

function deadlineOf(status: InstanceStatus): number {
  const row = STATUS[status];
  return "deadlineMs" in row ? row.deadlineMs : Number.POSITIVE_INFINITY;
}

/** What nobody can take waits if somebody is about to be able to, or if something is about to be known; else it is declined. */
function refuse(refused: readonly Refused[], placed: readonly Step[], input: PlanInput): Step[] {
  const soon = soonCandidates(placed, input);
  return refused.flatMap(({ instance, request, detail, waitsFor }): Step[] => {
    const { refusal, assignment, seenAt } = instance;
    const { instanceId } = assignment;
    const mayWait = refusal === undefined || (refusal.kind === "waiting" && input.now - seenAt < WAIT_MS);
    const why = mayWait ? waitsForWhat(instanceId, request, { soon, waitsFor, input }) : undefined;
    if (why === undefined) return refusal?.kind === "declined" ? [] : [{ do: "decline", instanceId, detail }];
    // Told once: what else it may wait for in these seconds is not worth a message.
    return refusal ? [] : [{ do: "wait", instanceId, detail: why }];
  });
}

function waitsForWhat(
  instanceId: string,
  request: PlacementRequest,
  context: {
    readonly soon: Map<string, Candidate>;
    readonly waitsFor: readonly string[] | undefined;
    readonly input: PlanInput;
  },
): string | undefined {
  const { soon, waitsFor, input } = context;
  if (waitsFor) return `waiting for ${waitsFor.join(" and ")}`;
  const options = { strategy: input.strategy, pinnedTo: request.directWorkers };
  const decision = schedule(request, [...soon.values()], options);
  if (!decision.placed) return undefined;
  const worker = soon.get(decision.candidateId)!;
  soon.set(worker.id, reserve(worker, instanceId, request));
  return describeWait(worker, input);
}

/** The workers as they may be in a moment: withdrawn instances gone, suspect workers back. */
function soonCandidates(placed: readonly Step[], input: PlanInput): Map<string, Candidate> {
  const livenessOf = (id: string) => (input.livenessOf(id) === "lost" ? "lost" : "active");
  const soon = new Map(candidates({ ...input, withdrawals: [], livenessOf }).map((one) => [one.id, one]));
  const requests = new Map(input.instances.map(({ assignment }) => [assignment.instanceId, assignment.request]));
  for (const step of placed) {
    if (step.do !== "place") continue;
    soon.set(step.workerId, reserve(soon.get(step.workerId)!, step.instanceId, requests.get(step.instanceId)!));
  }
  return soon;
}

function describeWait({ id, name }: Candidate, { livenessOf, withdrawals }: PlanInput): string {
  if (livenessOf(id) !== "active") return `waiting to hear from worker "${name}" again`;
  const leaving = withdrawals.filter(({ workerId }) => workerId === id).map(({ instanceId }) => instanceId);
  return `waiting until worker "${name}" has removed ${leaving.slice(0, 5).join(", ")}`;
}
