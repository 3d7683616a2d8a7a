import * as z from "zod/mini";
import { issueClusterToken } from "../../auth/join-tokens.ts";
import { ClusterDocument, clusterDocument } from "../cluster-document.ts";
import { notFound } from "../errors.ts";
import { type ApiDeps, jsonRoute, type Route } from "../route.ts";

const tag = "clusters";

export const CLUSTER_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "GET",
    path: "/api/clusters",
    tag,
    summary: "All clusters that ever joined",
    access: "user",
    schema: z.array(ClusterDocument),
    handle: ({ deps }) => clusterDocuments(deps),
  }),
  jsonRoute({
    method: "GET",
    path: "/api/clusters/active",
    tag,
    summary: "The clusters that are connected",
    access: "user",
    schema: z.array(ClusterDocument),
    handle: async ({ deps }) => (await clusterDocuments(deps)).filter(({ active }) => active),
  }),
  jsonRoute({
    method: "POST",
    path: "/api/cluster/token",
    tag,
    summary: "A token with which one new cluster can join, once, within 15 minutes",
    access: ["Admin", "Infrastructure_Provider"],
    schema: z.object({
      token: z.string(),
      /** Epoch milliseconds. */
      expires_at: z.int(),
    }),
    handle: async ({ deps }) => {
      const { token, expiresAt } = await issueClusterToken(deps.store, deps.tokenClock ?? deps.clock);
      return { token, expires_at: expiresAt };
    },
  }),
  jsonRoute({
    method: "DELETE",
    path: "/api/cluster/:id",
    tag,
    summary: "Forget a cluster; its instances are placed elsewhere, and it needs a new token to come back",
    access: ["Admin", "Infrastructure_Provider"],
    schema: z.object({ message: z.string() }),
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params }) => {
      const { store, orchestration, changes } = deps;
      const id = params.id!;
      if (!(await store.clusters()).some((cluster) => cluster.id === id)) throw notFound("cluster", id);
      const orphans = await store.instances({ clusterId: id });
      await store.removeCluster(id);
      orchestration.disconnect(id);
      orchestration.trigger();
      changes.notify(orphans.map(({ serviceId }) => serviceId));
      return { message: "Cluster removed" };
    },
  }),
];

async function clusterDocuments({ store, orchestration }: ApiDeps): Promise<ClusterDocument[]> {
  return (await store.clusters()).map((cluster) =>
    clusterDocument(cluster, {
      active: orchestration.isActive(cluster.id),
      aggregate: orchestration.aggregateOf(cluster.id) ?? cluster.aggregate,
      heardAt: orchestration.heardAt(cluster.id) ?? cluster.heardAt,
      clockOffMs: orchestration.clockOffMs(cluster.id),
    }),
  );
}
