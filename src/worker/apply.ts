/** How each step is done. Every applier may be repeated after a crash in its middle; an error it throws is dealt with by the engine. */
import type { Clock } from "../base/clock.ts";
import { jitter } from "../base/random.ts";
import { type Backoff, backoffMs } from "../base/retry.ts";
import type { Network, Sandbox } from "../net/network.ts";
import type { DesiredInstance } from "../protocol/mqtt.ts";
import { containerId } from "../protocol/names.ts";
import type { Container, ContainerRuntime, ContainerSpec } from "../runtime/container-runtime.ts";
import type { DesiredFile } from "./desired-file.ts";
import type { HostsFiles } from "./hosts-files.ts";
import type { Instances } from "./instances.ts";
import type { InstanceLogs } from "./logs.ts";
import type { Step } from "./plan.ts";

type StepOf<K extends Step["do"]> = Extract<Step, { do: K }>;
export type Appliers = { readonly [K in Step["do"]]: (step: StepOf<K>, signal: AbortSignal) => Promise<void> };

export const RESTART_BACKOFF: Backoff = { firstMs: 1000, maxMs: 300_000 };
/** A container that ran for this long is calm: its next failure counts as the first. */
const CALM_MS = 600_000;
const PROGRESS_EVERY_MS = 1000;
const LOG_TAIL = { maxBytes: 1024, maxLines: 20 };
/** Keeps a fork bomb inside; no ordinary service comes near. */
const MAX_PIDS = 4096;
const SIGKILL = 9;
const DEFAULT_GRACE_MS = 10_000;
/** What was sent before the others heard that the instance ends, arrives, and is answered, within this time. */
const DRAIN_MS = 200;
const GRACE_LABEL = "oakestra.io/stop-grace-ms";

/** What the overlay does for one instance. */
export interface InstanceOverlay {
  /** Gives it its address, and has the routes of its application ready, if that takes no longer than a moment. */
  prepare(instance: DesiredInstance, signal: AbortSignal): Promise<void>;
  /** Resolves when nothing is sent to it from here any more; tries no longer than a moment. */
  withdraw(instanceId: string, signal: AbortSignal): Promise<void>;
  /** Nothing has its address any more. */
  release(instanceId: string): Promise<void>;
}

export interface ApplierParts {
  readonly runtime: ContainerRuntime;
  readonly network: Network;
  /** Undefined: the worker's network is off. */
  readonly overlay?: InstanceOverlay | undefined;
  readonly instances: Instances;
  readonly logs: InstanceLogs;
  readonly hostsFiles: HostsFiles;
  readonly desiredFile: DesiredFile;
  /** The containers as we know them; steps note what they changed. */
  readonly containers: Map<string, Container>;
  /** Containers that the kernel has killed for want of memory. */
  readonly outOfMemory: Set<string>;
  readonly clock: Clock;
}

export function createAppliers(parts: ApplierParts): Appliers {
  const { runtime, network, overlay, instances, logs, hostsFiles, desiredFile, containers, outOfMemory, clock } = parts;
  return {
    find: async ({ instance: { instanceId, generation, workload } }, signal) => {
      instances.update(instanceId, generation, { hasImage: await runtime.images.has(workload.image, signal) });
    },
    pull: async ({ instance }, signal) => {
      const { instanceId, generation, workload } = instance;
      let shownAt = Number.NEGATIVE_INFINITY;
      const onProgress = (doneBytes: number, totalBytes: number) => {
        if (clock.monotonic() - shownAt < PROGRESS_EVERY_MS) return;
        shownAt = clock.monotonic();
        const detail = `fetching image ${workload.image}: ${megabytes(doneBytes)} of ${megabytes(totalBytes)}`;
        instances.update(instanceId, generation, { status: "PULLING", detail });
      };
      const { credentials } = workload;
      await runtime.images.ensure(workload.image, { onProgress, ...(credentials ? { credentials } : {}) }, signal);
      instances.update(instanceId, generation, { hasImage: true });
    },
    attach: async ({ instanceId }, signal) => {
      await network.attach(instanceId, signal);
    },
    publish: async ({ instance: { instanceId, generation, workload } }, signal) => {
      await network.publish(instanceId, workload.ports, signal);
      instances.update(instanceId, generation, { ports: generation, failures: 0 });
    },
    start: async ({ instance }, signal) => {
      const { instanceId, generation } = instance;
      const record = instances.records.get(instanceId);
      const isRestart = record?.endNotedAt !== undefined;
      const restarts = (record?.restarts ?? 0) + (isRestart ? 1 : 0);
      instances.update(instanceId, generation, { status: "CREATING", detail: "starting the container" });
      const sandbox = await network.attach(instanceId, signal);
      const hostname = hostName(instance);
      const hostsFile = await hostsFiles.make(instanceId, { address: sandbox.address, hostname });
      const spec = containerSpec(instance, { sandbox, hostname, hostsFile, logPath: logs.path(instanceId) });
      outOfMemory.delete(spec.containerId);
      await overlay?.prepare(instance, signal);
      await runtime.start(spec, signal);
      const startedAt = clock.now();
      const { labels } = spec;
      containers.set(spec.containerId, {
        ...{ containerId: spec.containerId, instanceId, generation, labels },
        state: "running",
        createdAt: startedAt,
      });
      const detail = isRestart ? `started again (restart ${restarts})` : "started";
      const runningSince = clock.monotonic();
      const running = { status: "RUNNING", traffic: "on", isAdopted: false } as const;
      instances.update(instanceId, generation, { ...running, detail, restarts, startedAt, runningSince });
    },
    adopt: async ({ container: { instanceId, createdAt } }) => {
      const record = instances.records.get(instanceId);
      instances.update(instanceId, record?.generation, {
        ...{ status: "RUNNING", detail: "runs", traffic: "on", isAdopted: true, startedAt: createdAt },
        runningSince: record?.runningSince ?? clock.monotonic(),
      });
    },
    bury: async ({ instance, container }) => {
      const { instanceId, generation } = instance;
      const record = instances.records.get(instanceId);
      instances.update(instanceId, generation, { traffic: "off" });
      const isCalm = clock.monotonic() - (record?.runningSince ?? clock.monotonic()) >= CALM_MS;
      const failures = isCalm ? 1 : (record?.failures ?? 0) + 1;
      const delayMs = jitter(backoffMs(failures, RESTART_BACKOFF));
      const reason = describeEnd(container, instance, outOfMemory.has(container.containerId));
      // A log that cannot be read must not hide that the container ended.
      const { text } = await logs.tail(instanceId, LOG_TAIL).catch(() => ({ text: "" }));
      instances.update(instanceId, generation, {
        ...{ status: "DEAD", detail: `${reason}; starts again in ${seconds(delayMs)}`, failures },
        ...{ exitCode: container.exitCode, logTail: text, startedAt: undefined, runningSince: undefined },
        ...{ endNotedAt: container.exitedAt ?? 0, notBefore: clock.monotonic() + delayMs, hasImage: undefined },
      });
    },
    complete: async ({ container: { instanceId, generation, exitedAt } }) => {
      await desiredFile.complete(instanceId, generation, exitedAt ?? clock.now());
      const detail = "ended with exit code 0";
      instances.update(instanceId, generation, { status: "COMPLETED", detail, exitCode: 0, startedAt: undefined });
    },
    unpublish: async ({ instanceId }, signal) => {
      await network.unpublish(instanceId, signal);
      instances.update(instanceId, undefined, { ports: "none" });
    },
    drain: async ({ instanceId }, signal) => {
      instances.update(instanceId, undefined, { traffic: "ending" });
      await Promise.all([network.unpublish(instanceId, signal), overlay?.withdraw(instanceId, signal)]);
      await clock.sleep(DRAIN_MS, { signal });
      instances.update(instanceId, undefined, { traffic: "off", ports: "none" });
    },
    stop: async ({ container }, signal) => {
      await runtime.stop(container.containerId, graceMs(container), signal);
      containers.set(container.containerId, { ...container, state: "exited" });
    },
    remove: async ({ container }, signal) => {
      await runtime.remove(container.containerId, signal);
      containers.delete(container.containerId);
      outOfMemory.delete(container.containerId);
    },
    detach: async ({ instanceId }, signal) => {
      await network.detach(instanceId, signal);
      await overlay?.release(instanceId);
      instances.update(instanceId, undefined, { ports: "none" });
    },
    forget: async ({ instanceId }) => {
      await hostsFiles.remove(instanceId);
      await logs.remove(instanceId);
      instances.forget(instanceId);
    },
    wait: async ({ instanceId, generation, reason }) => {
      instances.update(instanceId, generation, { detail: reason });
    },
  };
}

/** How long a step may take before it counts as failed. */
export function limitMs(step: Step): number {
  // A slow link takes what it takes: a connection that stands still ends by itself.
  if (step.do === "pull") return 6 * 3_600_000;
  return 60_000 + (step.do === "stop" ? graceMs(step.container) : 0);
}

/** The whole reason, in words: exit code, signal, or want of memory. */
export function describeEnd({ exitCode }: Container, { workload }: DesiredInstance, isOutOfMemory: boolean): string {
  const outOfMemory = `out of memory, limit ${megabytes(workload.memoryBytes)}`;
  if (isOutOfMemory && exitCode === 128 + SIGKILL) return `killed: ${outOfMemory}`;
  // Not the first process: the container ended for its own reasons, maybe because it missed the one that was killed.
  const addition = isOutOfMemory ? `, after a process in it was killed: ${outOfMemory}` : "";
  if (exitCode === undefined) return `ended${addition}`;
  const signal = exitCode > 128 ? `by signal ${exitCode - 128} (exit code ${exitCode})` : `with exit code ${exitCode}`;
  return `ended ${signal}${addition}`;
}

/** What a container calls itself: the service and its number. */
function hostName({ jobName, instanceNumber }: DesiredInstance): string {
  return `${jobName.split(".")[2] ?? jobName}-${instanceNumber}`.slice(0, 63);
}

interface Surroundings {
  readonly sandbox: Sandbox;
  readonly hostname: string;
  readonly hostsFile: string;
  readonly logPath: string;
}

function containerSpec(
  instance: DesiredInstance,
  { sandbox, hostname, hostsFile, logPath }: Surroundings,
): ContainerSpec {
  const { instanceId, generation, serviceId, applicationId, jobName, instanceNumber, workload } = instance;
  return {
    containerId: containerId(jobName, instanceNumber),
    ...{ instanceId, generation, hostname, hostsFile, logPath },
    image: workload.image,
    command: workload.command.length > 0 ? workload.command : undefined,
    environment: workload.environment,
    limits: { memoryBytes: workload.memoryBytes, cpuMillis: workload.cpuMillis, pids: MAX_PIDS },
    // Empty with `net: "off"`: an empty namespace of the container's own.
    networkNamespace: sandbox.namespacePath || undefined,
    resolvConf: sandbox.resolvConf || undefined,
    shimGroup: serviceId,
    fuse: workload.fuse,
    labels: {
      "oakestra.io/job": jobName,
      "oakestra.io/instance-number": String(instanceNumber),
      "oakestra.io/service": serviceId,
      "oakestra.io/application": applicationId,
      [GRACE_LABEL]: String(workload.stopGraceMs),
    },
  };
}

/** From the container itself: once withdrawn, nothing else tells. */
function graceMs({ labels }: Container): number {
  const text = labels[GRACE_LABEL] ?? "";
  return /^\d{1,7}$/.test(text) ? Number(text) : DEFAULT_GRACE_MS;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / (1024 * 1024))} MB`;
}

export function seconds(ms: number): string {
  return `${Math.max(1, Math.round(ms / 1000))} s`;
}
