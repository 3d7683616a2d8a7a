/** Clusters, services and instances as the root's placement sees them, for tests. */
import { aggregate } from "../hierarchy/capacity.ts";
import type { MicroserviceDescriptor } from "../protocol/descriptor.ts";
import type { ClusterView } from "./candidates.ts";
import type { Instance, Service } from "./model.ts";
import type { PlacementInput } from "./placement-plan.ts";

export const NOW = 1_700_000_000_000;
export const MB = 1_048_576;

export interface Machine {
  cpuMillis: number;
  memoryMb: number;
  architecture?: string;
}

export const aggregateOf = (machines: readonly Machine[]) =>
  aggregate(
    machines.map(({ cpuMillis, memoryMb, architecture = "amd64" }) => ({
      architecture,
      virtualization: ["docker"],
      total: { cpuMillis, memoryBytes: memoryMb * MB, gpus: 0 },
      free: { cpuMillis, memoryBytes: memoryMb * MB, gpus: 0 },
      cpuPercent: 0,
      memoryPercent: 0,
    })),
  );

export const cluster = (
  name: string,
  machines: readonly Machine[],
  change: Partial<ClusterView> = {},
): ClusterView => ({
  id: `id-${name}`,
  name,
  connected: true,
  heardAt: NOW,
  aggregate: aggregateOf(machines),
  counted: new Map(),
  ...change,
});

export const service = (id: string, change: Partial<MicroserviceDescriptor> = {}): Service => ({
  id,
  applicationId: "app",
  owner: "ann",
  jobName: `a.a.${id}.a`,
  descriptor: {
    microservice_name: id,
    microservice_namespace: "a",
    virtualization: "container",
    code: "busybox",
    memory: 100,
    vcpus: 1,
    ...change,
  },
  roundRobin: "10.30.0.1",
  closest: "10.30.0.2",
  nextInstanceNumber: 0,
  createdAt: NOW,
});

export const instance = (serviceId: string, number: number, change: Partial<Instance> = {}): Instance => ({
  id: `${serviceId}-${number}`,
  serviceId,
  number,
  address: "10.30.0.3",
  generation: 0,
  status: "REQUESTED",
  detail: "",
  since: NOW,
  ...change,
});

export const input = (
  change: Omit<Partial<PlacementInput>, "services"> & { services: readonly Service[] },
): PlacementInput => ({
  instances: [instance("s", 0)],
  clusters: [],
  declines: new Map(),
  strategy: "best-fit",
  now: NOW,
  ...change,
  services: new Map(change.services.map((one) => [one.id, one])),
});

export const ROOMY: readonly Machine[] = [{ cpuMillis: 4000, memoryMb: 4096 }];
export const SMALL: readonly Machine[] = [{ cpuMillis: 1000, memoryMb: 50 }];
