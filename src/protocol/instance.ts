/** The life of an instance: its statuses, who owns each, how long each may last, and which may follow which. */
import * as z from "zod/mini";
import { Healthcheck } from "./healthcheck.ts";
import { InstanceId } from "./names.ts";
import { PlacementRequest, Position } from "./placement-request.ts";
import { PortMapping } from "./ports.ts";
import { Ipv4, WorkerEndpoint } from "./route.ts";

type Tier = "root" | "cluster" | "worker" | "nobody";

interface StatusRow {
  /** Who must bring the instance on from here. */
  readonly owner: Tier;
  /** How long the status may last before its owner gives up on it; undefined: as long as nothing changes. */
  readonly deadlineMs?: number;
  readonly meaning: string;
  readonly next: readonly string[];
}

/**
 * The transition table (paper, figure 3, with the status strings that existing clients read).
 * Reports are snapshots, so a status between two reports may be skipped: `next` lists what one tier may see follow.
 */
export const STATUS = {
  REQUESTED: {
    owner: "root",
    deadlineMs: 10_000,
    meaning: "waiting for the root to choose a cluster",
    next: [
      "CLUSTER_SCHEDULED",
      "NoActiveClusterWithCapacity",
      "TargetClusterNotFound",
      "TargetClusterNotActive",
      "TargetClusterNoCapacity",
      "UNDEPLOYED",
    ],
  },
  CLUSTER_SCHEDULED: {
    owner: "cluster",
    deadlineMs: 15_000,
    meaning: "handed to a cluster, which chooses a worker",
    next: [
      "NODE_SCHEDULED",
      "PULLING",
      "CREATING",
      "RUNNING",
      "DEAD",
      "FAILED",
      "COMPLETED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  NODE_SCHEDULED: {
    owner: "worker",
    deadlineMs: 20_000,
    meaning: "handed to a worker",
    next: [
      "PULLING",
      "CREATING",
      "RUNNING",
      "DEAD",
      "FAILED",
      "COMPLETED",
      "CLUSTER_SCHEDULED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  PULLING: {
    owner: "worker",
    deadlineMs: 900_000,
    meaning: "the worker fetches the image",
    next: [
      "CREATING",
      "RUNNING",
      "DEAD",
      "FAILED",
      "COMPLETED",
      "NODE_SCHEDULED",
      "CLUSTER_SCHEDULED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  CREATING: {
    owner: "worker",
    deadlineMs: 60_000,
    meaning: "the worker makes the sandbox and starts the container",
    next: [
      "PULLING",
      "RUNNING",
      "DEAD",
      "FAILED",
      "COMPLETED",
      "NODE_SCHEDULED",
      "CLUSTER_SCHEDULED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  RUNNING: {
    owner: "worker",
    meaning: "the container runs",
    next: [
      "DEAD",
      "FAILED",
      "COMPLETED",
      "PULLING",
      "CREATING",
      "NODE_SCHEDULED",
      "CLUSTER_SCHEDULED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  DEAD: {
    owner: "worker",
    deadlineMs: 330_000,
    meaning: "the container ended by itself; the worker starts it again after a back-off",
    next: [
      "PULLING",
      "CREATING",
      "RUNNING",
      "FAILED",
      "COMPLETED",
      "NODE_SCHEDULED",
      "CLUSTER_SCHEDULED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  FAILED: {
    owner: "worker",
    deadlineMs: 330_000,
    meaning: "the container could not be started, or its worker is lost; tried again after a back-off",
    next: [
      "PULLING",
      "CREATING",
      "RUNNING",
      "DEAD",
      "COMPLETED",
      "NODE_SCHEDULED",
      "CLUSTER_SCHEDULED",
      "NO_WORKER_CAPACITY",
      "REQUESTED",
      "UNDEPLOYED",
    ],
  },
  NO_WORKER_CAPACITY: {
    owner: "root",
    deadlineMs: 15_000,
    meaning: "the cluster has no worker for it; the root offers it to the next cluster",
    next: [
      "REQUESTED",
      "CLUSTER_SCHEDULED",
      "NODE_SCHEDULED",
      "NoActiveClusterWithCapacity",
      "TargetClusterNotFound",
      "TargetClusterNotActive",
      "TargetClusterNoCapacity",
      "UNDEPLOYED",
    ],
  },
  NoActiveClusterWithCapacity: {
    owner: "root",
    meaning: "no cluster can take it; tried again when capacity changes",
    next: [
      "REQUESTED",
      "CLUSTER_SCHEDULED",
      "TargetClusterNotFound",
      "TargetClusterNotActive",
      "TargetClusterNoCapacity",
      "UNDEPLOYED",
    ],
  },
  TargetClusterNotFound: {
    owner: "root",
    meaning: "the cluster it is pinned to is unknown",
    next: [
      "REQUESTED",
      "CLUSTER_SCHEDULED",
      "NoActiveClusterWithCapacity",
      "TargetClusterNotActive",
      "TargetClusterNoCapacity",
      "UNDEPLOYED",
    ],
  },
  TargetClusterNotActive: {
    owner: "root",
    meaning: "the cluster it is pinned to is not connected",
    next: [
      "REQUESTED",
      "CLUSTER_SCHEDULED",
      "NoActiveClusterWithCapacity",
      "TargetClusterNotFound",
      "TargetClusterNoCapacity",
      "UNDEPLOYED",
    ],
  },
  TargetClusterNoCapacity: {
    owner: "root",
    meaning: "the cluster it is pinned to has no room",
    next: [
      "REQUESTED",
      "CLUSTER_SCHEDULED",
      "NoActiveClusterWithCapacity",
      "TargetClusterNotFound",
      "TargetClusterNotActive",
      "UNDEPLOYED",
    ],
  },
  COMPLETED: { owner: "nobody", meaning: "a one-shot container ended with exit code 0", next: ["UNDEPLOYED"] },
  UNDEPLOYED: { owner: "nobody", meaning: "withdrawn by the user and removed", next: [] },
} as const satisfies Record<string, StatusRow>;

export type InstanceStatus = keyof typeof STATUS;
export const InstanceStatus = z.enum(Object.keys(STATUS) as [InstanceStatus, ...InstanceStatus[]]);

/** True when `to` may be seen after `from`; staying in a status is always allowed. */
export function mayFollow(from: InstanceStatus, to: InstanceStatus): boolean {
  return from === to || (STATUS[from].next as readonly string[]).includes(to);
}

export function isTerminal(status: InstanceStatus): boolean {
  return STATUS[status].owner === "nobody";
}

export const RegistryCredentials = z.object({ server: z.string(), username: z.string(), password: z.string() });
export type RegistryCredentials = z.infer<typeof RegistryCredentials>;

/** What a worker needs to run an instance. */
export const Workload = z.object({
  image: z.string(),
  command: z.array(z.string()),
  environment: z.array(z.string()),
  oneShot: z.boolean(),
  fuse: z.boolean(),
  stopGraceMs: z.int(),
  memoryBytes: z.int(),
  cpuMillis: z.int(),
  ports: z.array(PortMapping),
  credentials: z.optional(RegistryCredentials),
  /** Absent: an instance is ready as soon as it runs. */
  healthcheck: z.optional(Healthcheck),
});
export type Workload = z.infer<typeof Workload>;

/** One instance as a tier hands it to the tier below: the whole truth about it, so that a lost message costs nothing. */
export const Assignment = z.object({
  instanceId: InstanceId,
  /** Grows whenever the same instance must be placed or made anew; reports of older generations are ignored. */
  generation: z.int(),
  serviceId: z.string(),
  applicationId: z.string(),
  jobName: z.string(),
  instanceNumber: z.int(),
  request: PlacementRequest,
  workload: Workload,
  /** Its place in the overlay. */
  network: z.optional(z.object({ instanceAddress: Ipv4, roundRobin: Ipv4, closest: Ipv4 })),
  /** While it moves, another has it, too: that one's takes the traffic, as the routes say. Absent: this one's does. */
  standby: z.optional(z.boolean()),
});
export type Assignment = z.infer<typeof Assignment>;

/** One instance as a tier reports it to the tier above. */
export const InstanceReport = z.object({
  instanceId: InstanceId,
  generation: z.int(),
  status: InstanceStatus,
  /** Always says why. */
  detail: z.string(),
  /** Epoch ms since when the status holds. */
  since: z.int(),
  restarts: z.int(),
  exitCode: z.optional(z.int()),
  /** Epoch ms of the running container's start. */
  startedAt: z.optional(z.int()),
  /** Address under which the worker can be reached from outside (host ports). */
  publicIp: z.optional(z.string()),
  /** The end of the output, at most 1 KiB; sent with a failure, and when asked for. */
  logTail: z.optional(z.string()),
  cpuPercent: z.optional(z.number()),
  memoryBytes: z.optional(z.int()),
  /** Where its worker is; told by the cluster. */
  position: z.optional(Position),
  /** Host name of the worker; stays inside the cluster. */
  workerId: z.optional(z.string()),
  /** Where its traffic is to go; present exactly while it takes any: running and ready, and not about to be stopped. */
  live: z.optional(z.object({ sandbox: Ipv4, worker: WorkerEndpoint })),
  /** Why it should be in another cluster, in words: a promise about distances is broken, and no worker of its cluster keeps it. */
  brokenPromise: z.optional(z.string().check(z.maxLength(1_000))),
});
export type InstanceReport = z.infer<typeof InstanceReport>;
