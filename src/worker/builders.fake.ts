/** Valid values for tests of the worker; what a test is about is given, the rest is filled in. */
import type { DesiredInstance } from "../protocol/mqtt.ts";
import type { Container } from "../runtime/container-runtime.ts";
import type { DesiredSet } from "./desired.ts";

export const SERVICE = "5f0c1a2b3c4d5e6f70819203";

type Workload = DesiredInstance["workload"];

export function desiredInstance(
  change: Partial<Omit<DesiredInstance, "workload">> & { readonly workload?: Partial<Workload> } = {},
): DesiredInstance {
  const { workload, ...rest } = change;
  const serviceId = rest.serviceId ?? SERVICE;
  const instanceNumber = rest.instanceNumber ?? 0;
  return {
    instanceId: `${serviceId}-${instanceNumber}`,
    generation: 1,
    serviceId,
    applicationId: "5f0c1a2b3c4d5e6f70819200",
    jobName: "shop.prod.web.prod",
    instanceNumber,
    ...rest,
    workload: {
      ...{ image: "docker.io/library/web:latest", command: [], environment: [], oneShot: false, fuse: false },
      ...{ stopGraceMs: 1000, memoryBytes: 64 * 1024 * 1024, cpuMillis: 100, ports: [] },
      ...workload,
    },
  };
}

export function desiredSet(instances: readonly DesiredInstance[], revision = 1): DesiredSet {
  return { revision, instances: new Map(instances.map((instance) => [instance.instanceId, instance])) };
}

export function containerOf(instance: DesiredInstance, change: Partial<Container> = {}): Container {
  const { jobName, instanceNumber, instanceId, generation } = instance;
  return {
    containerId: `${jobName}.instance.${instanceNumber}`,
    ...{ instanceId, generation, labels: {}, state: "running", createdAt: 1 },
    ...change,
  };
}
