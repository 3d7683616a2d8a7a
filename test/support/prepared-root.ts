/** The database of a root as a restart finds it: clusters known by their keys, instances placed and running. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { addressPlan, DEFAULT_ADDRESSES } from "../../src/addressing/address-plan.ts";
import { systemClock } from "../../src/base/clock.ts";
import { secretDigest, secretToken } from "../../src/base/random.ts";
import { SqliteRootStore } from "../../src/root/store/sqlite-root-store.ts";
import { clusterName, DEMAND } from "./simulated-cluster.ts";

/** The default ranges have room for 768 clusters. */
export const SERVICE_RANGE = "10.32.0.0/12";
export const WORKER_RANGE = "10.64.0.0/10";
const INSTANCES_EACH = 2;

/** In `<folder>/state`. Returns the ids of the services. */
export async function prepareRoot(folder: string, keys: readonly string[], instances: number): Promise<string[]> {
  mkdirSync(join(folder, "state"));
  const plan = addressPlan({ ...DEFAULT_ADDRESSES, serviceRange: SERVICE_RANGE, workerRange: [WORKER_RANGE] });
  const store = new SqliteRootStore(join(folder, "state/root.db"), systemClock, plan);
  const now = systemClock.now();
  const clusterIds: string[] = [];
  for (const [index, key] of keys.entries()) {
    const name = clusterName(index);
    const joinTokenDigest = secretDigest(secretToken());
    await store.addJoinToken(joinTokenDigest, now + 60_000);
    const hello = { name, location: "", ip: "127.0.0.1", keyDigest: secretDigest(key), joinTokenDigest, now };
    clusterIds.push((await store.admitCluster(hello)).id);
  }
  const services = Math.ceil(instances / INSTANCES_EACH);
  await store.addApplications(
    "Admin",
    Array.from({ length: Math.ceil(services / 10) }, (_, application) => ({
      application_name: `app${application}`,
      application_namespace: "prod",
      microservices: Array.from({ length: Math.min(10, services - application * 10) }, (_, service) => ({
        ...{ microservice_name: `service${service}`, microservice_namespace: "prod", virtualization: "docker" },
        ...{ code: "docker.io/library/nginx:alpine", environment: ["MODE=production"] },
        ...{ cpu_millis: DEMAND.cpuMillis, memory: DEMAND.memoryBytes / 2 ** 20 },
      })),
    })),
  );
  const ids = (await store.services()).map(({ id }) => id);
  const placements: Parameters<SqliteRootStore["placeInstances"]>[0][number][] = [];
  for (let number = 0; number < instances; number++) {
    const { id } = await store.addInstance(ids[number % ids.length]!, now);
    const clusterId = clusterIds[number % clusterIds.length]!;
    placements.push({ id, clusterId, status: "CLUSTER_SCHEDULED", detail: "handed to its cluster" });
  }
  await store.placeInstances(placements, now);
  for (const clusterId of clusterIds) {
    const placed = await store.instances({ clusterId });
    const running = { status: "RUNNING", detail: "running", since: 1, restarts: 0 } as const;
    const reports = placed.map(({ id, generation }) => ({ instanceId: id, generation, ...running }));
    await store.reportInstances(clusterId, reports);
  }
  store.close();
  return ids;
}
