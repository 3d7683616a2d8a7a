/** Which cluster each instance goes to. Pure: same input, same placements; none once they are carried out. */
import { liveness, lostChildren } from "../hierarchy/children.ts";
import { type DelegateStep, delegate } from "../hierarchy/delegate.ts";
import { type InstanceStatus, isTerminal, STATUS } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { UPLINK_SILENCE_MS } from "../protocol/uplink.ts";
import type { ScheduleOptions, Verdict } from "../scheduler/candidate.ts";
import { describeVerdicts } from "../scheduler/schedule.ts";
import { type ClusterView, candidate, pendingOf } from "./candidates.ts";
import type { Declines } from "./declines.ts";
import type { Instance, Service } from "./model.ts";
import { pinnedTo, placementRequest } from "./request.ts";

export interface Placement {
  readonly id: string;
  /** Undefined: it stays, or becomes, unplaced. */
  readonly clusterId: string | undefined;
  readonly status: InstanceStatus;
  readonly detail: string;
}

export interface PlacementInput {
  readonly services: ReadonlyMap<string, Service>;
  /** In the order in which they were asked for. */
  readonly instances: readonly Instance[];
  readonly clusters: readonly ClusterView[];
  readonly declines: Declines;
  readonly strategy: ScheduleOptions["strategy"];
  /** Epoch ms. */
  readonly now: number;
}

export const CLUSTER_LIVENESS = { suspectAfterMs: UPLINK_SILENCE_MS, lostAfterMs: 60_000 } as const;

export function planPlacements(input: PlacementInput): Placement[] {
  const { services, instances, clusters, now } = input;
  const lost = lostChildren(clusters, now, CLUSTER_LIVENESS);
  const requestOf = (instance: Instance): PlacementRequest | undefined => {
    const descriptor = instance.descriptor ?? services.get(instance.serviceId)?.descriptor;
    return descriptor && placementRequest(descriptor);
  };
  const pending = pendingOf(instances, clusters, requestOf);
  const placements: Placement[] = [];
  for (const instance of instances) {
    if (!isToPlace(instance, clusters, lost, now)) continue;
    // Placed anew, it gets what its service says now.
    const descriptor = services.get(instance.serviceId)?.descriptor;
    if (!descriptor) continue;
    const request = placementRequest(descriptor);
    const steps = decide(instance, request, { input, lost, pending });
    const placement = toPlacement(instance, request, steps, clusters);
    if (!placement) continue;
    placements.push(placement);
    if (placement.clusterId !== undefined) pending.get(placement.clusterId)?.push(request);
  }
  return placements;
}

/** Most instances are where they should be, and cost nothing. */
function isToPlace(
  instance: Instance,
  clusters: readonly ClusterView[],
  lost: ReadonlySet<string>,
  now: number,
): boolean {
  const { clusterId, status } = instance;
  if (isTerminal(status)) return false;
  if (clusterId === undefined || status === "NO_WORKER_CAPACITY" || lost.has(clusterId)) return true;
  return isUnanswered(instance, now) || !clusters.some(({ id }) => id === clusterId);
}

/** Handed over, and not a word since. */
function isUnanswered({ status, report, since }: Instance, now: number): boolean {
  return status === "CLUSTER_SCHEDULED" && !report && now - since >= STATUS.CLUSTER_SCHEDULED.deadlineMs;
}

function decide(
  instance: Instance,
  request: PlacementRequest,
  context: {
    readonly input: PlacementInput;
    readonly lost: ReadonlySet<string>;
    readonly pending: ReadonlyMap<string, readonly PlacementRequest[]>;
  },
): DelegateStep[] {
  const { clusters, declines, strategy, now } = context.input;
  const declinedBy = [...(declines.get(instance.id) ?? [])];
  return delegate({
    instances: [
      {
        instanceId: instance.id,
        request,
        childId: instance.clusterId,
        pinnedTo: pinnedTo(request),
        excluded: new Map(declinedBy.map(([clusterId, { reason }]) => [clusterId, reason])),
        takeBack: instance.status === "NO_WORKER_CAPACITY" ? instance.detail : undefined,
        moveIfPossible: isUnanswered(instance, now) ? "the cluster has not answered" : undefined,
      },
    ],
    candidates: clusters.map((cluster) =>
      candidate(
        cluster,
        liveness(cluster, now, CLUSTER_LIVENESS) === "active",
        context.pending.get(cluster.id) ?? [],
        request.architectures,
      ),
    ),
    lost: context.lost,
    strategy,
  });
}

function toPlacement(
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
  const refusal = refuse(
    request,
    last.verdicts.map((verdict) => explainEmpty(verdict, clusters)),
    clusters,
  );
  const isKnown = steps.length === 1 && refusal.status === status && refusal.detail === detail;
  return isKnown ? undefined : { id, clusterId: undefined, ...refusal };
}

/** Without workers a cluster lacks everything: say that, not what it lacks first. */
function explainEmpty(verdict: Verdict, clusters: readonly ClusterView[]): Verdict {
  const cluster = clusters.find(({ name }) => name === verdict.candidate);
  const isEmpty = cluster?.aggregate?.all.workers === 0 && ["virtualization", "architecture"].includes(verdict.rule);
  return isEmpty ? { ...verdict, rule: "workers", needed: "an active one", had: "none" } : verdict;
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
