/** Decides which worker each instance of the cluster goes to. Pure: same input, same steps; after applying them there are none. */
import type { Liveness } from "../hierarchy/children.ts";
import { type Decided, type Delegated, delegate, reserve } from "../hierarchy/delegate.ts";
import { resting } from "../hierarchy/tries.ts";
import type { PlacementRequest, Position } from "../protocol/placement-request.ts";
import type { Candidate, PluginVote, ScheduleOptions } from "../scheduler/candidate.ts";
import type { Target } from "../scheduler/links.ts";
import type { PluginSnapshot } from "../scheduler/plugin.ts";
import { describeVerdicts, pluginQuestion, schedule } from "../scheduler/schedule.ts";
import { candidates } from "./capacity.ts";
import { type Instance, idOf, isCompleted, isMoving, type Withdrawal, type Worker } from "./model.ts";
import { type Around, advance, canBePrepared, type MoveStep, reasonToMove } from "./moves.ts";
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
  | { readonly do: "decline"; readonly instanceId: string; readonly detail: string }
  | MoveStep;

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
  /** Whether traffic will go where a worker says; absent: it will. */
  readonly isBelieved?: Around["isBelieved"] | undefined;
  /** What a plugin said, by instance. */
  readonly votes?: ReadonlyMap<string, PluginVote> | undefined;
  /** Ids of the only ones that are decided; absent: all that are open. */
  readonly only?: ReadonlySet<string> | undefined;
  /** How much is decided at once; absent: everything. */
  readonly portion?: Portion | undefined;
  /** For the time budget of searches. */
  readonly monotonic?: (() => number) | undefined;
  readonly onDecision?: ((decided: Decided) => void) | undefined;
}

/** A part of what is to be decided: of a mass move all would be too much at once. */
export interface Portion {
  /** Instances; at least 2, so that each queue gets its share. */
  readonly max: number;
  /** Where the pass before has ended; the search goes on behind it. Undefined: with the first. */
  readonly after: Turn | undefined;
  /** There is more, behind these. */
  readonly onMore: (last: Turn) => void;
}

/** The last instance that was looked at in each queue. */
interface Turn {
  /** Of those that have no place yet. */
  readonly waiting: string | undefined;
  /** Of those that have one, and of those that were declined: they may stay as they are for ever. */
  readonly others: string | undefined;
}

/** How long an instance waits for a withdrawn one to make room, or for a suspect worker, before it is declined. */
export const WAIT_MS = 15_000;

export function plan(input: PlanInput): Step[] {
  const { strategy, lost, monotonic, onDecision, brokenPromises } = input;
  const { open, delegated, candidates: all, steps } = survey(input);
  const byId = new Map(open.map((instance) => [idOf(instance), instance]));
  const requests = new Map(delegated.map(({ instanceId, request }) => [instanceId, request]));
  const moves = new Map<string, string>();
  const refused: Refused[] = [];
  for (const step of delegate({ instances: delegated, candidates: all, lost, strategy, monotonic, onDecision })) {
    const { instanceId } = step;
    if (step.do === "assign") {
      const reason = moves.get(instanceId);
      const what = reason === undefined ? { do: "place" as const } : { do: "prepare" as const, reason };
      steps.push({ ...what, instanceId, workerId: step.childId });
    } else if (step.do === "takeBack") {
      const { childId: workerId, reason } = step;
      const isPromise = brokenPromises?.get(instanceId) === reason;
      // Then another worker can take it: it starts there before it ends here.
      if (isPromise && canBePrepared(byId.get(instanceId)!)) moves.set(instanceId, reason);
      else steps.push({ do: "withdraw", instanceId, workerId, reason, ...(isPromise ? { startsOver: true } : {}) });
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
  const { measuredOf = () => NOT_MEASURED } = input;
  const all = once(() => candidates(input));
  const targets = once(() => targetsOf(input));
  const resolved = (request: PlacementRequest) => resolve(request, request.links ? targets() : NO_TARGETS, measuredOf);
  const { steps, instances } = advanceAll(input, all, resolved);
  const known = new Set(input.workers.map(({ id }) => id));
  const { only } = input;
  const asked = only ? instances.filter((instance) => only.has(idOf(instance))) : instances;
  // What is on its way has a place; where it goes next is asked when it has arrived, or has not.
  const unsettled = asked.filter(
    (instance) => isOpen(instance, input.isAutonomous) && !instance.successor && !isSettled(instance, known, input),
  );
  const open = portionOf(unsettled, instances, input.portion);
  const delegated = open.map((instance) => describe(instance, resolved(instance.assignment.request), input));
  // With what the instances hold before the steps: what is taken from a worker is gone from it later.
  return { open, delegated, candidates: open.length > 0 ? all() : [], steps };
}

/** Nearly all are where they should be: of them there is nothing to decide. */
function isSettled(instance: Instance, known: ReadonlySet<string>, { now, lost, brokenPromises }: PlanInput): boolean {
  const { placement } = instance;
  if (!placement || !known.has(placement.workerId) || lost.has(placement.workerId)) return false;
  return reasonToMove(instance, now) === undefined && !brokenPromises?.has(idOf(instance));
}

/** @param all in their order, with those that were the last of the portion before, which may be settled by now */
function portionOf(unsettled: readonly Instance[], all: readonly Instance[], portion: Portion | undefined) {
  if (!portion || unsettled.length <= portion.max) return unsettled;
  const { max, after, onMore } = portion;
  const isWaiting = ({ placement, refusal }: Instance) => !placement && refusal?.kind !== "declined";
  const waiting = unsettled.filter(isWaiting);
  const others = unsettled.filter((one) => !isWaiting(one));
  // What has no place goes first; but the others must have their turn, however many keep coming.
  const share = Math.max(Math.ceil(max / 2), max - others.length);
  const first = nextOf(waiting, share, all, after?.waiting);
  const rest = nextOf(others, max - first.length, all, after?.others);
  const lastOf = (part: readonly Instance[], before: string | undefined) =>
    part.length > 0 ? idOf(part.at(-1)!) : before;
  onMore({ waiting: lastOf(first, after?.waiting), others: lastOf(rest, after?.others) });
  return [...first, ...rest];
}

/** The next ones in their turn. */
function nextOf(queue: readonly Instance[], max: number, all: readonly Instance[], after: string | undefined) {
  if (queue.length <= max) return queue;
  const before = new Set(all.slice(0, all.findIndex((one) => idOf(one) === after) + 1));
  return [...queue.filter((one) => !before.has(one)), ...queue.filter((one) => before.has(one))].slice(0, max);
}

function targetsOf({ workers, instances, positionOf }: PlanInput): ReadonlyMap<string, Target[]> {
  const positions = new Map(workers.map((worker) => [worker.id, positionOf?.(worker)]));
  return ownTargets(instances, (id) => positions.get(id));
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function advanceAll(input: PlanInput, all: () => readonly Candidate[], resolved: Around["resolved"]) {
  const { now, livenessOf, lost, isBelieved = () => true } = input;
  const steps: Step[] = [];
  if (!input.instances.some(isMoving)) return { steps, instances: input.instances };
  const byId = new Map(all().map((candidate) => [candidate.id, candidate]));
  const around: Around = { now, livenessOf, lost, candidateOf: (id) => byId.get(id), isBelieved, resolved };
  const instances = input.instances.map((before) => {
    const { step, instance } = advance(before, around);
    if (step) steps.push(step);
    return instance;
  });
  return { steps, instances };
}

const NO_TARGETS: ReadonlyMap<string, Target[]> = new Map();
const NOT_MEASURED: Measured = { samples: [], tried: 0, pending: 0 };

function isOpen(instance: Instance, isAutonomous: boolean): boolean {
  return !isCompleted(instance) && (instance.refusal?.kind !== "declined" || isAutonomous);
}

function describe(instance: Instance, request: PlacementRequest, input: PlanInput): Delegated {
  const { now, lost, brokenPromises, votes } = input;
  const { assignment, placement, tried, failedMoves } = instance;
  const { instanceId } = assignment;
  const failure = placement && reasonToMove(instance, now);
  const moveIfPossible = failure ?? (placement && brokenPromises?.get(instanceId));
  // Who tried it and failed is better than a worker that is lost, or than none.
  const isChoosy = placement && !lost.has(placement.workerId);
  // While it runs on where it is, trying costs little: only who has just failed so is left out.
  const isSafe = failure === undefined && canBePrepared(instance);
  const excluded = isSafe ? resting(failedMoves ?? new Map(), now) : tried;
  return {
    instanceId,
    request,
    childId: placement?.workerId,
    pinnedTo: request.directWorkers,
    plugin: votes?.get(instanceId),
    ...(isChoosy ? { excluded } : {}),
    ...(moveIfPossible ? { moveIfPossible } : {}),
  };
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
    return refusal ? [] : [{ do: "wait", instanceId, detail: `${why}, for at most ${WAIT_MS / 1000} s` }];
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
    if (step.do !== "place" && step.do !== "prepare") continue;
    soon.set(step.workerId, reserve(soon.get(step.workerId)!, step.instanceId, requests.get(step.instanceId)!));
  }
  return soon;
}

function describeWait({ id, name }: Candidate, { livenessOf, withdrawals }: PlanInput): string {
  if (livenessOf(id) !== "active") return `waiting to hear from worker "${name}" again`;
  const leaving = withdrawals.filter(({ workerId }) => workerId === id).map(({ instanceId }) => instanceId);
  return `waiting until worker "${name}" has removed ${leaving.slice(0, 5).join(", ")}`;
}
