/** Containers as containerd keeps them, and as the port tells of them. Pure. */
import type { Container, ContainerSpec } from "../container-runtime.ts";
import { normalizeReference } from "../image-reference.ts";
import type { Container as ContainerRecord, ContainerSummary } from "./gen/containers.ts";
import { type Process, RuncOptions, Status } from "./gen/tasks.ts";
import type { Timestamp } from "./gen/types.ts";

/** How a container is found again, by another process of ours. */
export const LABELS = {
  containerId: "oakestra.io/container-id",
  instanceId: "oakestra.io/instance-id",
  generation: "oakestra.io/generation",
} as const;
const SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const SHIM = "io.containerd.runc.v2";
const STATES: Readonly<Record<number, Container["state"]>> = {
  [Status.CREATED]: "created",
  [Status.RUNNING]: "running",
  [Status.PAUSED]: "running",
  [Status.PAUSING]: "running",
  [Status.STOPPED]: "exited",
};

export function toRecord(parts: {
  readonly id: string;
  readonly spec: ContainerSpec;
  readonly oci: object;
  readonly snapshotter: string;
  readonly ociRuntime: string | undefined;
}): ContainerRecord {
  const { id, spec, oci, snapshotter, ociRuntime } = parts;
  return {
    id,
    image: normalizeReference(spec.image),
    labels: {
      ...spec.labels,
      [LABELS.containerId]: spec.containerId,
      [LABELS.instanceId]: spec.instanceId,
      [LABELS.generation]: String(spec.generation),
    },
    runtime: { name: SHIM, options: ociRuntime === undefined ? undefined : runcOptions(ociRuntime) },
    spec: { typeUrl: SPEC_TYPE, value: Buffer.from(JSON.stringify(oci)) },
    snapshotter,
    snapshotKey: id,
  };
}

export function toContainer({ id, labels, createdAt }: ContainerSummary, task: Process | undefined): Container {
  // Without a process it was created and not started, or the machine was restarted since.
  const state = task === undefined ? "created" : stateOf(task);
  return {
    containerId: labels[LABELS.containerId] ?? id,
    instanceId: labels[LABELS.instanceId]!,
    generation: Number(labels[LABELS.generation] ?? 0),
    labels,
    state,
    createdAt: toMillis(createdAt),
    ...(task !== undefined && state === "running" ? { pid: task.pid } : {}),
    ...(task !== undefined && state === "exited"
      ? { exitCode: task.exitStatus, exitedAt: toMillis(task.exitedAt) }
      : {}),
  };
}

export function stateOf({ status }: Process): Container["state"] {
  return STATES[status] ?? "unknown";
}

export function toMillis(time: Timestamp | undefined): number {
  return time === undefined ? 0 : time.seconds * 1000 + Math.floor(time.nanos / 1e6);
}

function runcOptions(binaryName: string): { typeUrl: string; value: Uint8Array } {
  return { typeUrl: "containerd.runc.v1.Options", value: RuncOptions.encode({ binaryName }).finish() };
}
