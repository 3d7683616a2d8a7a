/** What the steps of a move, and the removal of a worker in the middle of one, change in the cluster's state. */
import { abandoned, type Instance, isCompleted, returned, succeeded } from "./model.ts";
import type { MoveStep } from "./moves.ts";
import type { StateChange } from "./state-change.ts";

interface Moment {
  /** Monotonic ms. */
  readonly seenAt: number;
  /** The same as epoch ms. */
  readonly since: number;
}

/** @param nameOf a worker, as a sentence names it */
export function applyMove(
  change: StateChange,
  instance: Instance,
  step: MoveStep,
  { seenAt, since, nameOf }: Moment & { readonly nameOf: (workerId: string) => string },
): void {
  const { placement, successor, predecessor } = instance;
  const { workerId } = step;
  if (step.do === "prepare") {
    const next = { placement: change.reserve(workerId), reason: step.reason, seenAt, since };
    change.putInstance({ ...instance, successor: next, moveNote: undefined });
  } else if (step.do === "switch" && placement && successor) {
    // Both are told who takes the traffic.
    for (const one of [placement, successor.placement]) change.revise(one.workerId);
    const moveNote = `moved from ${nameOf(placement.workerId)}: ${step.reason}`;
    change.putInstance(succeeded(instance, successor, moveNote, seenAt));
  } else if (step.do === "abandon" && successor) {
    change.release(instance, successor.placement);
    const moveNote = `not moved to ${nameOf(workerId)}: ${step.reason}`;
    change.putInstance({ ...abandoned(instance, workerId, step.reason, seenAt), moveNote });
  } else if (step.do === "return" && placement && predecessor) {
    const { reason } = step;
    change.release(instance, placement);
    change.revise(workerId);
    const moveNote = `back from ${nameOf(placement.workerId)}: ${reason}`;
    change.putInstance(returned(instance, predecessor, { reason, moveNote }, seenAt));
  } else if (step.do === "retire" && predecessor) {
    change.release(instance, predecessor.placement);
    change.putInstance({ ...instance, predecessor: undefined });
  }
}

/** The instance once one of its workers is no more. */
export function withoutWorker(change: StateChange, instance: Instance, workerId: string, now: Moment): void {
  const { assignment, placement, successor, predecessor } = instance;
  if (successor?.placement.workerId === workerId) change.putInstance({ ...instance, successor: undefined });
  else if (predecessor?.placement.workerId === workerId) change.putInstance({ ...instance, predecessor: undefined });
  // What has completed stays so, without a worker.
  else if (isCompleted(instance)) change.putInstance({ ...instance, placement: undefined });
  else if (placement && successor) {
    change.revise(successor.placement.workerId);
    const moveNote = `moved from a worker that was removed: ${successor.reason}`;
    change.putInstance(succeeded({ ...instance, placement: undefined }, successor, moveNote, now.seenAt));
  } else if (predecessor?.report?.status === "RUNNING") {
    change.revise(predecessor.placement.workerId);
    const reason = "the worker was removed";
    const moveNote = "back from a worker that was removed";
    const left = { ...instance, placement: undefined };
    change.putInstance(returned(left, predecessor, { reason, moveNote }, now.seenAt));
  } else {
    if (predecessor) change.release(instance, predecessor.placement);
    change.putInstance({ assignment, ...now, failures: 0, tried: new Map() });
  }
}
