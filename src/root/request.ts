/** From the descriptor's words to what the tiers below work with. Pure. */
import type { MicroserviceDescriptor } from "../protocol/descriptor.ts";
import { healthcheck } from "../protocol/healthcheck.ts";
import type { Assignment, RegistryCredentials, Workload } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { type PortMapping, parsePorts } from "../protocol/ports.ts";
import { requiredLabels, userLinks } from "../scheduler/links.ts";
import type { Instance, Service } from "./model.ts";

const BYTES_PER_MB = 1_048_576;
const DEFAULT_STOP_GRACE_MS = 10_000;

/** Clients say `docker` and `container` and mean the same; below the API it is always `container`. */
export function canonicalVirtualization(word: string): string {
  const lower = word.toLowerCase();
  return lower === "docker" || lower === "containerd" ? "container" : lower;
}

/** All of it that follows from the descriptor alone: links to other services are added where these are known. */
export function placementRequest(descriptor: MicroserviceDescriptor): PlacementRequest {
  const constraints = descriptor.constraints ?? [];
  const direct = constraints.filter((one) => one.type === "direct");
  const directCluster = direct.find(({ cluster }) => cluster)?.cluster;
  const directWorkers = direct.flatMap(({ node }) => splitNames(node));
  const users = userLinks(constraints);
  const labels = requiredLabels(constraints);
  const allowed = constraints.filter((one) => one.type === "clusters").map((one) => one.allowed);
  return {
    memoryBytes: memoryBytes(descriptor),
    cpuMillis: cpuMillis(descriptor),
    gpus: descriptor.vgpus ?? 0,
    virtualization: canonicalVirtualization(descriptor.virtualization),
    architectures: (descriptor.arch ?? []).map(canonicalArchitecture),
    ports: ports(descriptor),
    // Several constraints hold together.
    ...(allowed.length > 0
      ? { allowedClusters: allowed.reduce((both, names) => both.filter((name) => names.includes(name))) }
      : {}),
    ...(directCluster ? { directCluster } : {}),
    ...(directWorkers.length > 0 ? { directWorkers: [...new Set(directWorkers)] } : {}),
    ...(labels ? { labels } : {}),
    ...(users.length > 0 ? { users } : {}),
  };
}

/** The clusters that a request is pinned to, by name; undefined: any. */
export function pinnedTo({ directCluster, allowedClusters }: PlacementRequest): readonly string[] | undefined {
  if (directCluster === undefined) return allowedClusters;
  return !allowedClusters || allowedClusters.includes(directCluster) ? [directCluster] : [];
}

export function workload(descriptor: MicroserviceDescriptor, credentials: RegistryCredentials | undefined): Workload {
  return {
    image: descriptor.code,
    command: descriptor.cmd ?? [],
    environment: descriptor.environment ?? [],
    oneShot: descriptor.one_shot ?? false,
    // All that "privileged" has ever meant to existing descriptors.
    fuse: descriptor.privileged ?? false,
    stopGraceMs: descriptor.stop_grace === undefined ? DEFAULT_STOP_GRACE_MS : descriptor.stop_grace * 1000,
    memoryBytes: memoryBytes(descriptor),
    cpuMillis: cpuMillis(descriptor),
    ports: ports(descriptor),
    ...(credentials ? { credentials } : {}),
    ...(descriptor.healthcheck ? { healthcheck: healthcheck(descriptor.healthcheck) } : {}),
  };
}

export function assignment(
  instance: Instance,
  service: Service,
  request: PlacementRequest,
  {
    credentials,
    isStandby = false,
  }: { readonly credentials?: RegistryCredentials | undefined; readonly isStandby?: boolean },
): Assignment {
  const descriptor = instance.descriptor ?? service.descriptor;
  return {
    instanceId: instance.id,
    generation: instance.generation,
    serviceId: service.id,
    applicationId: service.applicationId,
    jobName: service.jobName,
    instanceNumber: instance.number,
    request,
    workload: workload(descriptor, credentials),
    network: { instanceAddress: instance.address, roundRobin: service.roundRobin, closest: service.closest },
    ...(isStandby ? { standby: true } : {}),
  };
}

function memoryBytes({ memory = 0 }: MicroserviceDescriptor): number {
  return memory * BYTES_PER_MB;
}

function cpuMillis({ cpu_millis, vcpus = 0 }: MicroserviceDescriptor): number {
  return cpu_millis ?? vcpus * 1000;
}

function ports({ port = "" }: MicroserviceDescriptor): PortMapping[] {
  const parsed = parsePorts(port);
  // The descriptor's schema has refused anything else.
  return "error" in parsed ? [] : parsed;
}

function splitNames(list: string | undefined): string[] {
  return (list ?? "")
    .split(";")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: "amd64", x64: "amd64", aarch64: "arm64" };

function canonicalArchitecture(word: string): string {
  const lower = word.toLowerCase();
  return ARCHITECTURES[lower] ?? lower;
}
