/**
 * When whoever has an instance that runs is relieved by another, and when not: the same between the workers of a cluster and
 * between clusters. Pure, and by what is known now alone.
 */
import { type InstanceStatus, STATUS } from "../protocol/instance.ts";

/** One of the two that have the instance: a worker, or a cluster. */
export interface Holder {
  /** `silent`: it may come back. `lost`: what it has is placed anew. `gone`: it was removed. */
  readonly reach: "active" | "silent" | "lost" | "gone";
  /** Its last word about the instance. */
  readonly status: InstanceStatus;
  readonly detail: string;
  /** It says that it takes traffic, and is believed. */
  readonly takesTraffic: boolean;
  /** How long it has been seen in this status, ms; of one that was relieved, how long ago that was. */
  readonly forMs: number;
}

export interface Handover {
  readonly kind: "worker" | "cluster";
  readonly inCharge: Holder;
  readonly other: Holder;
  /** The instance has a healthcheck. */
  readonly isChecked: boolean;
  /** That its healthcheck grants to a start, ms. */
  readonly startPeriodMs: number;
}

/** What has no healthcheck needs a moment from its start until it listens. */
export const SETTLE_MS = 3_000;
/** So long the old one is left running, until others have heard, too, where traffic goes now. */
export const LINGER_MS = 3_000;
/** How long the new one may run without being ready, beyond what its healthcheck grants to its start. */
export const READY_MS = 120_000;

/** Of the new one nothing is expected but that it runs; whatever else it does, the old one is better. */
const ENDED: ReadonlySet<InstanceStatus> = new Set(["FAILED", "DEAD", "COMPLETED", "UNDEPLOYED", "NO_WORKER_CAPACITY"]);

/** Why the one on standby will not be in charge. */
export function whyAbandoned({ kind, inCharge, other, startPeriodMs }: Handover): string | undefined {
  const { reach, status, detail, forMs } = other;
  if (inCharge.status === "COMPLETED") return "it has completed";
  if (reach === "gone") return `the ${kind} is gone`;
  if (reach === "lost") return `the ${kind} has not been heard from for too long`;
  if (ENDED.has(status)) return `${status} there: ${detail}`;
  // One that runs without being ready is better than one that nobody hears.
  return overdue(status, forMs) ?? (inCharge.reach === "active" ? unready(other, startPeriodMs) : undefined);
}

/** Traffic of the old one that serves is taken over only by one that does, too. */
export function isReady({ inCharge, other, isChecked }: Handover): boolean {
  if (other.status !== "RUNNING" || other.reach !== "active") return false;
  if ((isChecked || inCharge.takesTraffic) && !other.takesTraffic) return false;
  // An old one that does not run is worth no patience.
  return isChecked || inCharge.status !== "RUNNING" || other.forMs >= SETTLE_MS;
}

/** Why the old one, which still serves, is better than the new one after all. */
export function whyReturned({ kind, inCharge, other: old }: Handover): string | undefined {
  if (old.status !== "RUNNING" || old.reach !== "active") return undefined;
  if (isAway(inCharge)) return `the ${kind} has not been heard from for too long`;
  // After a restart the last word of both is an old one until they have connected again.
  if (inCharge.reach !== "active") return undefined;
  if (inCharge.status !== "RUNNING") return `${inCharge.status} there: ${inCharge.detail}`;
  return old.takesTraffic && !inCharge.takesTraffic ? `not ready there: ${inCharge.detail}` : undefined;
}

/** Whether the old one may end: everybody has heard of the new one, which serves, or the old one cannot. */
export function mayRetire({ inCharge, other: old }: Handover): boolean {
  if (old.forMs < LINGER_MS) return false;
  if (inCharge.status === "RUNNING" && inCharge.reach === "active") return true;
  // What a silent one does nobody knows; its last word may be an old one.
  return isAway(old) || (old.reach === "active" && old.status !== "RUNNING");
}

export function isAway({ reach }: Pick<Holder, "reach">): boolean {
  return reach === "lost" || reach === "gone";
}

/** Why a status has lasted too long. */
export function overdue(status: InstanceStatus, forMs: number): string | undefined {
  const row = STATUS[status];
  const deadlineMs = "deadlineMs" in row ? row.deadlineMs : Number.POSITIVE_INFINITY;
  return forMs > deadlineMs ? `${status} for more than ${deadlineMs / 1000} s` : undefined;
}

function unready({ status, forMs }: Holder, startPeriodMs: number): string | undefined {
  if (status !== "RUNNING") return undefined;
  const limitMs = READY_MS + startPeriodMs;
  return forMs > limitMs ? `not ready for more than ${limitMs / 1000} s` : undefined;
}
