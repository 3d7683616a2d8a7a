/**
 * How an instance moves while it runs: start the new one, switch the routes, drain the old one. Pure, and by state alone: whatever
 * dies in between, the next pass goes on from what there is.
 *
 *     prepare ─► both have it, the old one in charge ─► switch ─► both have it, the new one in charge ─► retire
 *                                └─► abandon: the old one stays                  └─► return: it is in charge again
 */
import type { Liveness } from "../hierarchy/children.ts";
import {
  type Handover,
  type Holder,
  isAway,
  isReady,
  mayRetire,
  overdue,
  whyAbandoned,
  whyReturned,
} from "../hierarchy/handover.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import { describeRange, nearnessOf } from "../scheduler/nearness.ts";
import type { Live } from "./live.ts";
import {
  abandoned,
  type Instance,
  idOf,
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
  const handover = handoverTo(instance, successor, around);
  const mustSwitch = hasToGo(instance, handover.inCharge, around);
  const isDue = mustSwitch || isReady(handover);
  // Whether it is near enough there counts at the switch only: until then it may be measured once too far.
  const isFar = isDue && !mustSwitch ? brokenThere(instance, successor, around) : undefined;
  const failure = whyAbandoned(handover) ?? isFar;
  if (failure !== undefined) {
    const step = { do: "abandon", instanceId, workerId, reason: failure } as const;
    return { step, instance: abandoned(instance, workerId, failure, around.now) };
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
  const handover = handoverTo(instance, predecessor, around);
  const reason = whyReturned(handover);
  if (reason !== undefined) {
    const step = { do: "return", instanceId, workerId, reason } as const;
    return { step, instance: returned(instance, predecessor, { reason, moveNote: reason }, around.now) };
  }
  if (!mayRetire(handover)) return { instance };
  return { step: { do: "retire", instanceId, workerId }, instance: { ...instance, predecessor: undefined } };
}

/** Why the one in charge should not be, wherever else it could run. */
export function reasonToMove(instance: Instance, now: number): string | undefined {
  const { report, seenAt, failures } = instance;
  if (failures >= FAILURES_BEFORE_MOVE) return `failed ${failures} times here`;
  return overdue(report?.status ?? "NODE_SCHEDULED", now - seenAt);
}

function hasToGo(instance: Instance, inCharge: Holder, around: Around): boolean {
  if (isAway(inCharge)) return true;
  return inCharge.status !== "RUNNING" && reasonToMove(instance, around.now) !== undefined;
}

function handoverTo(instance: Instance, other: Successor | Predecessor, around: Around): Handover {
  const { healthcheck } = instance.assignment.workload;
  return {
    kind: "worker",
    inCharge: holder(instance, around),
    other: holder(other, around),
    isChecked: healthcheck !== undefined,
    startPeriodMs: healthcheck?.startPeriodMs ?? 0,
  };
}

function holder({ placement, report, seenAt }: Pick<Instance, "placement" | "report" | "seenAt">, around: Around) {
  return {
    reach: reachOf(placement, around),
    status: report?.status ?? "NODE_SCHEDULED",
    detail: report?.detail ?? "",
    takesTraffic: placement !== undefined && takesTraffic(placement, report, around),
    forMs: around.now - seenAt,
  } as const;
}

function reachOf(placement: Placement | undefined, { lost, candidateOf, livenessOf }: Around): Holder["reach"] {
  if (!placement || candidateOf(placement.workerId) === undefined) return "gone";
  if (lost.has(placement.workerId)) return "lost";
  return livenessOf(placement.workerId) === "active" ? "active" : "silent";
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

function takesTraffic({ workerId }: Placement, report: InstanceReport | undefined, { isBelieved }: Around): boolean {
  return report?.live !== undefined && isBelieved(workerId, report.live);
}
