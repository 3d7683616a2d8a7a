/** The database of a cluster as a restart finds it: workers known by their keys, instances placed and running. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { objectId, secretDigest } from "../../src/base/random.ts";
import { ClusterStore } from "../../src/cluster/store/cluster-store.ts";
import type { Assignment } from "../../src/protocol/instance.ts";
import { workerInfo } from "./simulated-worker.ts";

/** In `<folder>/state`; each worker's key in `<folder>/<hostname>.key`. Each worker runs instances of an application of its own. */
export function prepareCluster(folder: string, keys: readonly string[], instancesEach: number): Assignment[] {
  mkdirSync(join(folder, "state"));
  const store = new ClusterStore(join(folder, "state/cluster.db"));
  const assignments: Assignment[] = [];
  store.write(() => {
    for (const [index, key] of keys.entries()) {
      writeFileSync(join(folder, `worker${index}.key`), key, { mode: 0o600 });
      const info = workerInfo(index);
      const id = objectId();
      store.putWorker({ id, hostname: info.hostname, keyDigest: secretDigest(key), info, manifestRevision: 1 });
      const applicationId = objectId();
      for (let service = 0; service < instancesEach; service++) {
        const assignment = newAssignment(applicationId, assignments.length);
        assignments.push(assignment);
        const placement = { workerId: id, number: store.nextPlacement() };
        const ids = { instanceId: assignment.instanceId, generation: placement.number };
        const report = { ...ids, status: "RUNNING", detail: "running", since: 1, restarts: 0 } as const;
        store.putInstance({ assignment, placement, report });
      }
    }
  });
  store.close();
  return assignments;
}

export function newAssignment(applicationId: string, index: number): Assignment {
  const serviceId = objectId();
  const size = { memoryBytes: 64 * 2 ** 20, cpuMillis: 100 };
  const jobName = `app${index}.prod.service${index}.prod`;
  const address = (third: number) => `10.30.${third + Math.floor(index / 250)}.${1 + (index % 250)}`;
  return {
    ...{ instanceId: `${serviceId}-0`, generation: 1, serviceId, applicationId, jobName, instanceNumber: 0 },
    request: {
      ...size,
      ...{ gpus: 0, virtualization: "container", architectures: [], ports: [] },
      ...{ serviceName: jobName, applicationId },
    },
    workload: {
      ...size,
      ...{ image: "docker.io/library/nginx:alpine", command: [], environment: ["MODE=production"], ports: [] },
      ...{ oneShot: false, fuse: false, stopGraceMs: 10_000 },
    },
    network: { instanceAddress: address(0), roundRobin: address(70), closest: address(140) },
  };
}
