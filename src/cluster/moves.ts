/**
 * How an instance moves while it runs: start the new one, switch the routes, drain the old one. Pure, and by state alone: whatever
 * dies in between, the next pass goes on from what there is.
 *
 *     prepare ─► both have it, the old one in charge ─► switch ─► both have it, the new one in charge ─► retire
 *                                └─► abandon: the old one stays                  └─► return: it is in charge again
 */
import type { Liveness } from "../hierarchy/children.ts";
import { type InstanceReport, type InstanceStatus, STATUS } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import { describeRange, nearnessOf } from "../scheduler/nearness.ts";
import type { Live } from "./live.ts";
import {
  type Instance,
  idOf,
  isCompleted,
  type Placement,
  type Predecessor,
  returned,
  type Successor,
  succeeded,
} from "./model.ts";

export type MoveStep =
  /** Another worker starts it, too. */
  | { readonly do: "prepare"; readonly instanceId: string; readonly workerId: string; readonly reason: string }
  /** That worker is in charge from now on. */
  | { readonly do: "switch"; readonly instanceId: string; readonly workerId: string; readonly reason: string }
  /** It does not get to be: the worker has had its try. */
  | { readonly do: "abandon"; readonly instanceId: string; readonly workerId: string; readonly reason: string }
  /** The new one does not stand the test: the worker that was in charge is so again. */
  | { readonly do: "return"; readonly instanceId: string; readonly workerId: string; readonly reason: string }
  /** The worker that was in charge stops it. */
  | { readonly do: "retire"; readonly instanceId: string; readonly workerId: string };

export interface Around {
  /** Monotonic ms. */
  readonly now: number;
  readonly livenessOf: (workerId: string) => Liveness;
  /** From `lostChildren`. */
  readonly lost: ReadonlySet<string>;
  /** Undefined: there is no such worker. */
  readonly candidateOf: (workerId: string) => Candidate | undefined;
  /** Whether traffic will go where the worker says. */
  readonly isBelieved: (workerId: string, live: Live) => boolean;
  /** With all that is known of what it is to be near to. */
  readonly resolved: (request: PlacementRequest) => PlacementRequest;
}

/** What has no healthcheck needs a moment from its start until it listens. */
export const SETTLE_MS = 3_000;
/** So long the old one is left running, until other clusters have heard, too, where traffic goes now. */
export const LINGER_MS = 3_000;
/** How long the new one may run without being ready, beyond what its healthcheck grants to its start. */
export const READY_MS = 120_000;
/** Failures under one placement after which another worker gets its try. */
export const FAILURES_BEFORE_MOVE = 5;

/** Only what serves can be relieved without a gap; what runs once and ends must not run twice at a time. */
export function canBePrepared({ assignment, report, successor, predecessor }: Instance): boolean {
  return report?.status === "RUNNING" && !assignment.workload.oneShot && !successor && !predecessor;
}

interface Advanced {
  readonly step?: MoveStep;
  /** As the step leaves it. */
  readonly instance: Instance;
}

/** The next step of the instance's move, if there is one now. */
export function advance(instance: Instance, around: Around): Advanced {
  const { successor, predecessor } = instance;
  if (predecessor) return conclude(instance, predecessor, around);
  if (!successor) return { instance };
  const instanceId = idOf(instance);
  const { workerId } = successor.placement;
  const mustSwitch = hasToGo(instance, around);
  const isDue = mustSwitch || isReady(instance, successor, around);
  // Whether it is near enough there counts at the switch only: until then it may be measured once too far.
  const isFar = isDue && !mustSwitch ? brokenThere(instance, successor, around) : undefined;
  const failure = whyAbandoned(instance, successor, around) ?? isFar;
  if (failure !== undefined) {
    const tried = new Map(instance.tried).set(workerId, failure);
    const step = { do: "abandon", instanceId, workerId, reason: failure } as const;
    return { step, instance: { ...instance, successor: undefined, tried } };
  }
  if (!isDue) return { instance };
  const { reason } = successor;
  const step = { do: "switch", instanceId, workerId, reason } as const;
  return { step, instance: succeeded(instance, successor, reason, around.now) };
}

/** After the switch. */
function conclude(instance: Instance, predecessor: Predecessor, around: Around): Advanced {
  const instanceId = idOf(instance);
  const { workerId } = predecessor.placement;
  const reason = whyReturned(instance, predecessor, around);
  if (reason !== undefined) {
    const step = { do: "return", instanceId, workerId, reason } as const;
    return { step, instance: returned(instance, predecessor, { reason, moveNote: reason }, around.now) };
  }
  if (around.now - predecessor.seenAt < LINGER_MS) return { instance };
  return { step: { do: "retire", instanceId, workerId }, instance: { ...instance, predecessor: undefined } };
}

/** Why the one in charge should not be, wherever else it could run. */
export function reasonToMove(instance: Instance, now: number): string | undefined {
  const { report, seenAt, failures } = instance;
  if (failures >= FAILURES_BEFORE_MOVE) return `failed ${failures} times here`;
  return overdue(report?.status, seenAt, now);
}

function overdue(status: InstanceStatus = "NODE_SCHEDULED", seenAt: number, now: number): string | undefined {
  const row = STATUS[status];
  const deadlineMs = "deadlineMs" in row ? row.deadlineMs : Number.POSITIVE_INFINITY;
  return now - seenAt > deadlineMs ? `${status} for more than ${deadlineMs / 1000} s` : undefined;
}

function hasToGo(instance: Instance, around: Around): boolean {
  if (isAway(instance.placement!, around)) return true;
  return instance.report?.status !== "RUNNING" && reasonToMove(instance, around.now) !== undefined;
}

function isAway({ workerId }: Placement, { lost, candidateOf }: Around): boolean {
  return candidateOf(workerId) === undefined || lost.has(workerId);
}

/** Why the old one, which still serves, is better than the new one after all. */
function whyReturned(instance: Instance, { placement, report: old }: Predecessor, around: Around): string | undefined {
  const isHeard = ({ workerId }: Placement) => around.livenessOf(workerId) === "active";
  if (old?.status !== "RUNNING" || !isHeard(placement)) return undefined;
  const { report, placement: present } = instance;
  if (present && isAway(present, around)) return "the worker has not been heard from for too long";
  // After a restart of the cluster the last word of both is an old one until they have connected again.
  if (present && !isHeard(present)) return undefined;
  if (report?.status !== "RUNNING") return `${report?.status ?? "NODE_SCHEDULED"} there: ${report?.detail ?? ""}`;
  const isWorse = takesTraffic(placement, old, around) && !takesTraffic(present!, report, around);
  return isWorse ? `not ready there: ${report.detail}` : undefined;
}

function whyAbandoned(instance: Instance, successor: Successor, around: Around): string | undefined {
  const { placement, report, seenAt } = successor;
  const { now, lost, candidateOf } = around;
  if (isCompleted(instance)) return "it has completed";
  if (!candidateOf(placement.workerId)) return "the worker is gone";
  if (lost.has(placement.workerId)) return "the worker has not been heard from for too long";
  if (report && ENDED.has(report.status)) return `${report.status} there: ${report.detail}`;
  return overdue(report?.status, seenAt, now) ?? unready(instance, successor, now);
}

/** Of the new one nothing is expected but that it runs; whatever else it does, the old one is better. */
const ENDED: ReadonlySet<InstanceStatus> = new Set(["FAILED", "DEAD", "COMPLETED", "UNDEPLOYED"]);

function unready({ assignment }: Instance, { report, seenAt }: Successor, now: number): string | undefined {
  if (report?.status !== "RUNNING") return undefined;
  const limitMs = READY_MS + (assignment.workload.healthcheck?.startPeriodMs ?? 0);
  return now - seenAt > limitMs ? `not ready for more than ${limitMs / 1000} s` : undefined;
}

/** What is unknown does not speak against it: that was looked at when it was chosen. */
function brokenThere(
  { assignment }: Instance,
  { placement }: Successor,
  { resolved, candidateOf }: Around,
): string | undefined {
  const candidate = candidateOf(placement.workerId);
  if (!candidate) return undefined;
  const rule = nearnessOf(resolved(assignment.request)).find(({ range, threshold }) => {
    const distance = range(candidate);
    return typeof distance !== "string" && distance.least > threshold;
  });
  return rule && `${rule.rule} is ${describeRange(rule, candidate)} there, too: ${rule.needed} was promised`;
}

/** Traffic of the old one that serves is taken over only by one that does, too. */
function isReady(
  { assignment, placement: left, report: old }: Instance,
  successor: Successor,
  around: Around,
): boolean {
  const { report, seenAt, placement } = successor;
  if (report?.status !== "RUNNING" || around.livenessOf(placement.workerId) !== "active") return false;
  const isChecked = assignment.workload.healthcheck !== undefined;
  const mustTake = isChecked || takesTraffic(left!, old, around);
  if (mustTake && !takesTraffic(placement, report, around)) return false;
  // An old one that does not run is worth no patience.
  return isChecked || old?.status !== "RUNNING" || around.now - seenAt >= SETTLE_MS;
}

function takesTraffic({ workerId }: Placement, report: InstanceReport | undefined, { isBelieved }: Around): boolean {
  return report?.live !== undefined && isBelieved(workerId, report.live);
}
