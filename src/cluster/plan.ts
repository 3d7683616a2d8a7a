/** Decides which worker each instance of the cluster goes to. Pure: same input, same steps; after applying them there are none. */
import type { Liveness } from "../hierarchy/children.ts";
import { type Delegated, delegate, reserve } from "../hierarchy/delegate.ts";
import { type InstanceStatus, STATUS } from "../protocol/instance.ts";
import type { Candidate, ScheduleOptions } from "../scheduler/candidate.ts";
import { describeVerdicts, schedule } from "../scheduler/schedule.ts";
import { candidates } from "./capacity.ts";
import { type Instance, idOf, isCompleted, type Withdrawal, type Worker } from "./model.ts";

export type Step =
  | { readonly do: "place"; readonly instanceId: string; readonly workerId: string }
  | { readonly do: "withdraw"; readonly instanceId: string; readonly workerId: string; readonly reason: string }
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
}

/** How long an instance waits for a withdrawn one to make room, or for a suspect worker, before it is declined. */
export const WAIT_MS = 15_000;
/** Failures under one placement after which another worker gets its try. */
export const FAILURES_BEFORE_MOVE = 5;

export function plan(input: PlanInput): Step[] {
  const { instances, strategy, lost } = input;
  const all = candidates(input);
  const open = instances.filter((instance) => isOpen(instance, input.isAutonomous));
  const delegated = open.map((instance) => describe(instance, input));
  const byId = new Map(open.map((instance) => [idOf(instance), instance]));
  const steps: Step[] = [];
  const refused: { instance: Instance; detail: string }[] = [];
  for (const step of delegate({ instances: delegated, candidates: all, lost, strategy })) {
    const { instanceId } = step;
    if (step.do === "assign") steps.push({ do: "place", instanceId, workerId: step.childId });
    else if (step.do === "takeBack")
      steps.push({ do: "withdraw", instanceId, workerId: step.childId, reason: step.reason });
    else refused.push({ instance: byId.get(instanceId)!, detail: describeVerdicts(step.verdicts, "worker") });
  }
  return refused.length === 0 ? steps : [...steps, ...refuse(refused, steps, input)];
}

function isOpen(instance: Instance, isAutonomous: boolean): boolean {
  return !isCompleted(instance) && (instance.refusal?.kind !== "declined" || isAutonomous);
}

function describe(instance: Instance, { now, lost }: PlanInput): Delegated {
  const { assignment, placement, tried } = instance;
  const moveIfPossible = placement && reasonToMove(instance, now);
  // Who tried it and failed is better than a worker that is lost, or than none.
  const isChoosy = placement && !lost.has(placement.workerId);
  return {
    instanceId: assignment.instanceId,
    request: assignment.request,
    childId: placement?.workerId,
    pinnedTo: assignment.request.directWorkers,
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

/** What nobody can take waits if somebody is about to be able to, else it is declined. */
function refuse(
  refused: readonly { instance: Instance; detail: string }[],
  placed: readonly Step[],
  input: PlanInput,
): Step[] {
  const soon = soonCandidates(placed, input);
  return refused.flatMap(({ instance, detail }): Step[] => {
    const { refusal, assignment, seenAt } = instance;
    const { instanceId, request } = assignment;
    const mayWait = refusal === undefined || (refusal.kind === "waiting" && input.now - seenAt < WAIT_MS);
    const decision = mayWait
      ? schedule(request, [...soon.values()], { strategy: input.strategy, pinnedTo: request.directWorkers })
      : undefined;
    if (!decision?.placed) return refusal?.kind === "declined" ? [] : [{ do: "decline", instanceId, detail }];
    const worker = soon.get(decision.candidateId)!;
    soon.set(worker.id, reserve(worker, instanceId, request));
    // Told once: what else it may wait for in these seconds is not worth a message.
    return refusal ? [] : [{ do: "wait", instanceId, detail: describeWait(worker, input) }];
  });
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
