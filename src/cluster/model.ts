/** What a cluster keeps: plain immutable data. */
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

/** An instance that the root handed to this cluster. */
export interface Instance {
  readonly assignment: Assignment;
  readonly placement?: Placement | undefined;
  /** The worker's last word about this very placement. */
  readonly report?: InstanceReport | undefined;
  /** Why it has no placement. */
  readonly refusal?: Refusal | undefined;
  /** Monotonic ms since when this cluster has seen its status. */
  readonly seenAt: number;
  /** The same moment as epoch ms. */
  readonly since: number;
  /** Times that it was reported FAILED under this placement. */
  readonly failures: number;
  /** Workers it was moved away from, with the reason: each gets one try a generation. */
  readonly tried: ReadonlyMap<string, string>;
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

/** It ran once and ended well: it uses nothing any more and never runs again. */
export function isCompleted({ report }: Instance): boolean {
  return report?.status === "COMPLETED";
}
