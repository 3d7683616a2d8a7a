/** What a cluster keeps: plain immutable data. */
import { type Tries, withTry } from "../hierarchy/tries.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import type { Assignment, InstanceReport } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";

export interface Worker {
  readonly id: string;
  /** Unique in the cluster: `direct` constraints name workers by it. */
  readonly hostname: string;
  readonly keyDigest: string;
  readonly info: WorkerInfo;
  /** Revision of the manifest that says what it must run; part of the desired state, so it is stored with it. */
  readonly manifestRevision: number;
}

export interface Placement {
  readonly workerId: string;
  /**
   * Counted over the whole cluster, so it grows whenever an instance is placed again; the worker knows it as the generation.
   * The root's own generation stays in the assignment.
   */
  readonly number: number;
}

/** Where an instance is to move: the worker starts it on standby, while the present one goes on. */
export interface Successor {
  readonly placement: Placement;
  /** Why the instance moves. */
  readonly reason: string;
  /** The worker's last word about this very placement. */
  readonly report?: InstanceReport | undefined;
  /** Monotonic ms since when this cluster has seen its status. */
  readonly seenAt: number;
  /** The same moment as epoch ms. */
  readonly since: number;
}

/** Where an instance was: kept running until everybody has heard that traffic goes elsewhere, and as long as it may have to come back. */
export interface Predecessor {
  readonly placement: Placement;
  readonly report?: InstanceReport | undefined;
  /** Monotonic ms of the switch. */
  readonly seenAt: number;
}

/** An instance that the root handed to this cluster. */
export interface Instance {
  readonly assignment: Assignment;
  /** The one in charge: its worker takes the traffic, and speaks for the instance. */
  readonly placement?: Placement | undefined;
  readonly successor?: Successor | undefined;
  readonly predecessor?: Predecessor | undefined;
  /** How its last move went, told with its status for as long as that lasts. */
  readonly moveNote?: string | undefined;
  /** The worker's last word about this very placement. */
  readonly report?: InstanceReport | undefined;
  /** Why it should be in another cluster: no worker of this one keeps what was promised. In memory only: it is seen again. */
  readonly brokenPromise?: string | undefined;
  /** Why it has no placement. */
  readonly refusal?: Refusal | undefined;
  /** Monotonic ms since when this cluster has seen its status. */
  readonly seenAt: number;
  /** The same moment as epoch ms. */
  readonly since: number;
  /** Times that it was reported FAILED under this placement. */
  readonly failures: number;
  /** Workers that had their try, with the reason that it ended; forgotten when it is made anew, or has moved as it should. */
  readonly tried: ReadonlyMap<string, string>;
  /** Workers that could not take it over while it ran elsewhere. In memory only: after a restart each may try once more. */
  readonly failedMoves?: Tries | undefined;
}

export interface Refusal {
  /** `waiting`: a withdrawn instance is about to make room. `declined`: it is the root's again. */
  readonly kind: "waiting" | "declined";
  readonly detail: string;
}

/** What a worker no longer should have, but has: its capacity and ports stay reserved until it says that all is gone. */
export interface Withdrawal {
  readonly instanceId: string;
  readonly workerId: string;
  /** Of the placement that it had; the same instance may be placed there again before the old one is gone. */
  readonly number: number;
  /** Of the first manifest without it. */
  readonly revision: number;
  readonly request: PlacementRequest;
}

export function idOf({ assignment }: Instance): string {
  return assignment.instanceId;
}

/** An instance, and one of its placements. */
export interface Placed {
  readonly instance: Instance;
  readonly placement: Placement;
}

/** All workers that have it, or are to have it: the one in charge first. Each is another worker. */
export function placementsOf(instance: Instance): Placement[] {
  const { placement, successor, predecessor } = instance;
  // Nearly all, and asked of each again and again.
  if (!isMoving(instance)) return placement ? [placement] : [];
  return [placement, successor?.placement, predecessor?.placement].filter((one) => one !== undefined);
}

/** Others than the one in charge take no traffic, unless routes still lead to them. */
export function isStandby({ placement }: Instance, { number }: Placement): boolean {
  return placement?.number !== number;
}

/** Another cluster is in charge of it: traffic goes there, and what it is near to counts there. */
export function isElsewhere({ assignment }: Pick<Instance, "assignment">): boolean {
  return assignment.standby === true;
}

export function isMoving({ successor, predecessor }: Instance): boolean {
  return successor !== undefined || predecessor !== undefined;
}

/** The instance once its successor is in charge. @param now monotonic ms */
export function succeeded(instance: Instance, successor: Successor, moveNote: string, now: number): Instance {
  const { assignment, placement: left, report: leftReport, failedMoves } = instance;
  const { placement, report, seenAt, since } = successor;
  return {
    ...{ assignment, placement, report, seenAt, since, moveNote, failures: 0, tried: new Map(), failedMoves },
    ...(left ? { predecessor: { placement: left, report: leftReport, seenAt: now } } : {}),
  };
}

/** The instance once it is clear that it does not move to this worker, which then rests. @param now monotonic ms */
export function abandoned(instance: Instance, workerId: string, reason: string, now: number): Instance {
  return {
    ...instance,
    successor: undefined,
    failedMoves: withTry(instance.failedMoves ?? NONE, workerId, reason, now),
  };
}

/** The instance once its predecessor is in charge again, and why that is; the other worker rests. @param now monotonic ms */
export function returned(
  instance: Instance,
  { placement, report }: Predecessor,
  { reason, moveNote }: { readonly reason: string; readonly moveNote: string },
  now: number,
): Instance {
  const { assignment, placement: left, tried, since, failedMoves: before = NONE } = instance;
  const failedMoves = left ? withTry(before, left.workerId, reason, now) : before;
  return { assignment, placement, report, seenAt: now, since, moveNote, failures: 0, tried, failedMoves };
}

const NONE: Tries = new Map();

/** It ran once and ended well: it uses nothing any more and never runs again. */
export function isCompleted({ report }: Instance): boolean {
  return report?.status === "COMPLETED";
}
