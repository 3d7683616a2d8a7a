/** Which clusters have lately declined which instance, so that it is offered to the others first. Pure. */
import type { Aggregate } from "../protocol/capacity.ts";
import { type ClusterView, isRoomier } from "./candidates.ts";
import type { Instance } from "./model.ts";

export interface Decline {
  readonly reason: string;
  /** Epoch ms. */
  readonly at: number;
  /** What the cluster said it had when it declined. */
  readonly aggregate: Aggregate | undefined;
}

/** instance id → cluster id → decline. */
export type Declines = ReadonlyMap<string, ReadonlyMap<string, Decline>>;

export const RETRY_DECLINED_MS = 15_000;

/** Adds what is declined now; leaves out what has expired, or whose cluster has more room than when it declined. */
export function updateDeclines(
  declines: Declines,
  instances: readonly Instance[],
  clusters: readonly ClusterView[],
  now: number,
): Declines {
  const clustersById = new Map(clusters.map((cluster) => [cluster.id, cluster]));
  const next = new Map<string, Map<string, Decline>>();
  for (const { id, clusterId, status, detail } of instances) {
    if (status !== "NO_WORKER_CAPACITY" && !declines.has(id)) continue;
    const kept = new Map(
      [...(declines.get(id) ?? [])].filter(([cluster, { at, aggregate }]) => {
        const view = clustersById.get(cluster);
        return view && now >= at && now - at < RETRY_DECLINED_MS && !isRoomier(view.aggregate, aggregate);
      }),
    );
    if (status === "NO_WORKER_CAPACITY" && clusterId !== undefined) {
      kept.set(clusterId, { reason: detail, at: now, aggregate: clustersById.get(clusterId)?.aggregate });
    }
    if (kept.size > 0) next.set(id, kept);
  }
  return next;
}

/** The time until the first decline expires; undefined: there is none. */
export function untilRetryMs(declines: Declines, now: number): number | undefined {
  const times = [...declines.values()].flatMap((byCluster) => [...byCluster.values()].map(({ at }) => at));
  return times.length === 0 ? undefined : Math.max(0, Math.min(...times) + RETRY_DECLINED_MS - now);
}
