/** A decision as a status with a reason. Pure. */
import type { DelegateStep } from "../hierarchy/delegate.ts";
import type { InstanceStatus } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Verdict } from "../scheduler/candidate.ts";
import { describeVerdicts } from "../scheduler/schedule.ts";
import type { ClusterView } from "./candidates.ts";
import type { Instance } from "./model.ts";
import { pinnedTo } from "./request.ts";

export interface Placement {
  readonly id: string;
  /** Undefined: it stays, or becomes, unplaced. */
  readonly clusterId: string | undefined;
  readonly status: InstanceStatus;
  readonly detail: string;
}

/** Undefined: everything stays as it is. */
export function toPlacement(
  { id, status, detail }: Instance,
  request: PlacementRequest,
  steps: readonly DelegateStep[],
  clusters: readonly ClusterView[],
): Placement | undefined {
  const last = steps.at(-1);
  if (last?.do === "assign") {
    const name = clusters.find((cluster) => cluster.id === last.childId)!.name;
    return { id, clusterId: last.childId, status: "CLUSTER_SCHEDULED", detail: `handed to cluster "${name}"` };
  }
  if (last?.do !== "refuse") return undefined;
  const verdicts = last.verdicts.map((verdict) => explainEmpty(verdict, clusters));
  const refusal = last.waitsFor ? waiting(last.waitsFor, verdicts) : refuse(request, verdicts, clusters);
  const isKnown = steps.length === 1 && refusal.status === status && refusal.detail === detail;
  return isKnown ? undefined : { id, clusterId: undefined, ...refusal };
}

/** Without workers a cluster lacks everything: say that, not what it lacks first. */
function explainEmpty(verdict: Verdict, clusters: readonly ClusterView[]): Verdict {
  const cluster = clusters.find(({ name }) => name === verdict.candidate);
  const isEmpty = cluster?.aggregate?.all.workers === 0 && ["virtualization", "architecture"].includes(verdict.rule);
  return isEmpty ? { ...verdict, rule: "workers", needed: "an active one", had: "none" } : verdict;
}

function waiting(
  waitsFor: readonly string[],
  verdicts: readonly Verdict[],
): { status: InstanceStatus; detail: string } {
  // The others would be refused anyway; what it waits for says the rest.
  const other = verdicts.filter(({ needed }) => !waitsFor.includes(needed));
  const more = other.length > 0 ? `; ${describeVerdicts(other, "other cluster")}` : "";
  return { status: "REQUESTED", detail: `waits for ${waitsFor.join(" and ")}${more}` };
}

function refuse(
  request: PlacementRequest,
  verdicts: readonly Verdict[],
  clusters: readonly ClusterView[],
): { status: InstanceStatus; detail: string } {
  const pinned = pinnedTo(request);
  if (!pinned) return { status: "NoActiveClusterWithCapacity", detail: describeVerdicts(verdicts, "cluster") };
  const known = clusters.filter(({ name }) => pinned.includes(name));
  if (known.length === 0) {
    const names = pinned.map((name) => `"${name}"`).join(" or ");
    const detail = names ? `there is no cluster ${names}` : "its constraints allow no cluster: they exclude each other";
    return { status: "TargetClusterNotFound", detail };
  }
  const own = verdicts.filter(({ candidate: name }) => pinned.includes(name));
  const isAway = own.every(({ rule }) => rule === "active");
  return {
    status: isAway ? "TargetClusterNotActive" : "TargetClusterNoCapacity",
    detail: describeVerdicts(own, "cluster"),
  };
}
