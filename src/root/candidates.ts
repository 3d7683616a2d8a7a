/** Clusters as the scheduler sees them, made of what they told and of what was handed to them since. Pure. */
import { type Aggregate, type AggregateGroup, type Spread, upperBound } from "../protocol/capacity.ts";
import { isTerminal } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Candidate, Quantities } from "../scheduler/candidate.ts";
import type { Instance, Standby } from "./model.ts";
import { canonicalVirtualization } from "./request.ts";

/** A cluster as the root knows it at this moment. */
export interface ClusterView {
  readonly id: string;
  readonly name: string;
  readonly connected: boolean;
  /** Epoch ms. */
  readonly heardAt: number;
  readonly aggregate?: Aggregate | undefined;
  /** Instances, with their generation, whose needs the aggregate has already been reduced by. */
  readonly counted: ReadonlyMap<string, number>;
}

/** It runs in its cluster, or is about to. */
export function isPlaced(instance: Instance): instance is Instance & { readonly clusterId: string } {
  const { clusterId, status } = instance;
  return clusterId !== undefined && !isTerminal(status) && status !== "NO_WORKER_CAPACITY";
}

/** Every cluster that has it, or is to have it, and with which generation: the one in charge first. */
export function holdersOf(instance: Instance): Pick<Standby, "clusterId" | "generation">[] {
  const { clusterId, generation, move } = instance;
  const inCharge = clusterId === undefined ? [] : [{ clusterId, generation }];
  return move ? [...inCharge, ...[move.successor, move.predecessor].filter((one) => one !== undefined)] : inCharge;
}

/** By cluster, what it holds without having told so in its aggregate: a burst must not be handed the same room twice. */
export function pendingOf(
  instances: readonly Instance[],
  clusters: readonly ClusterView[],
  requestOf: (instance: Instance) => PlacementRequest | undefined,
): Map<string, PlacementRequest[]> {
  const pending = new Map<string, PlacementRequest[]>(clusters.map(({ id }) => [id, []]));
  const countedBy = new Map(clusters.map(({ id, counted }) => [id, counted]));
  for (const instance of instances) {
    if (!isPlaced(instance)) continue;
    for (const { clusterId, generation } of holdersOf(instance)) {
      if (countedBy.get(clusterId)?.get(instance.id) === generation) continue;
      const request = requestOf(instance);
      if (request) pending.get(clusterId)?.push(request);
    }
  }
  return pending;
}

/**
 * @param context `pending`: handed to it and not told in its aggregate; `applications`: of which it has instances
 * @param architectures of the request; only workers of these count. Empty: all.
 */
export function candidate(
  cluster: ClusterView,
  context: {
    readonly active: boolean;
    readonly pending: readonly PlacementRequest[];
    readonly applications: ReadonlySet<string>;
  },
  architectures: readonly string[],
): Candidate {
  const { id, name, aggregate } = cluster;
  const { active, pending, applications } = context;
  const groups = aggregate ? groupsFor(aggregate, architectures) : [];
  const reserved = sumOf(pending);
  return {
    id,
    name,
    active,
    free: room(groups, reserved),
    total: meanTotal(groups),
    architectures: Object.keys(aggregate?.byArchitecture ?? {}),
    virtualization: [...new Set((aggregate?.virtualization ?? []).map(canonicalVirtualization))],
    heldPorts: new Map(),
    position: aggregate?.zone,
    aggregated: { groups, reserved },
    applications,
  };
}

function sumOf(requests: readonly PlacementRequest[]): Quantities {
  const sum = (pick: (request: PlacementRequest) => number) => requests.reduce((total, one) => total + pick(one), 0);
  return {
    cpuMillis: sum(({ cpuMillis }) => cpuMillis),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    gpus: sum(({ gpus }) => gpus),
  };
}

function groupsFor(aggregate: Aggregate, architectures: readonly string[]): readonly AggregateGroup[] {
  if (architectures.length === 0) return [aggregate.all];
  return architectures.flatMap((one) => aggregate.byArchitecture[one] ?? []);
}

/**
 * What the roomiest worker may have, and never more than all workers have together after what is pending.
 * Pending requests may have gone to workers of other architectures: then this is too low for a moment, never too high.
 */
function room(groups: readonly AggregateGroup[], reserved: Quantities): Quantities {
  const least = (pick: (group: AggregateGroup) => Spread, used: number) => {
    const roomiest = Math.max(0, ...groups.map((group) => upperBound(pick(group), group.workers)));
    const together = groups.reduce((sum, group) => sum + pick(group).sum, 0);
    // The bound goes through a square root, whose last digits may be missing.
    return Math.min(Math.round(roomiest), together - used);
  };
  return {
    cpuMillis: least((group) => group.cpuMillisFree, reserved.cpuMillis),
    memoryBytes: least((group) => group.memoryBytesFree, reserved.memoryBytes),
    gpus: least((group) => group.gpusFree, reserved.gpus),
  };
}

/** Of one worker on average, since `free` is that of one worker. */
function meanTotal(groups: readonly AggregateGroup[]): Quantities {
  const workers = groups.reduce((sum, group) => sum + group.workers, 0);
  const mean = (pick: (group: AggregateGroup) => number) =>
    workers === 0 ? 0 : groups.reduce((sum, group) => sum + pick(group), 0) / workers;
  return {
    cpuMillis: mean((group) => group.cpuMillisTotal),
    memoryBytes: mean((group) => group.memoryBytesTotal),
    gpus: 0,
  };
}

/** Whether something may fit now that did not fit then; measured load plays no part. */
export function isRoomier(now: Aggregate | undefined, then: Aggregate | undefined): boolean {
  if (!now) return false;
  if (!then) return true;
  const grew = (after: AggregateGroup, before: AggregateGroup | undefined) =>
    !before ||
    after.workers > before.workers ||
    (["cpuMillisFree", "memoryBytesFree", "gpusFree"] as const).some(
      (key) =>
        after[key].sum > before[key].sum ||
        upperBound(after[key], after.workers) > upperBound(before[key], before.workers) + 0.5,
    );
  return (
    now.virtualization.some((one) => !then.virtualization.includes(one)) ||
    Object.entries(now.byArchitecture).some(([name, group]) => grew(group, then.byArchitecture[name])) ||
    grew(now.all, then.all)
  );
}
