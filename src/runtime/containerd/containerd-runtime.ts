/**
 * containerd (1.6 and later) as the container runtime, over its gRPC API. Containers belong to containerd and its shims: they
 * outlive this process, and the next one finds them by their labels.
 * Output goes to `logPath` by containerd's `file://`: the shim appends, for ever. Who wants it bounded copies and truncates
 * the file; appending makes that safe.
 */
import { type Clock, deadline } from "../../base/clock.ts";
import { AppError, hasCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type {
  Container,
  ContainerRuntime,
  ContainerSpec,
  ImageStore,
  RuntimeEvent,
  Usage,
} from "../container-runtime.ts";
import { type HostFacts, readHostFacts } from "../host-facts.ts";
import { normalizeReference } from "../image-reference.ts";
import { ociSpec } from "../oci-spec.ts";
import { explainStartFailure } from "../start-failure.ts";
import { containerdId } from "./container-id.ts";
import { LABELS, stateOf, toContainer, toMillis, toRecord } from "./container-records.ts";
import { ContainerdImages } from "./containerd-images.ts";
import { ContentStore } from "./content-store.ts";
import { execProcess } from "./exec-process.ts";
import { type ContainerSummary, ContainersDefinition } from "./gen/containers.ts";
import { EventsDefinition } from "./gen/events.ts";
import { SnapshotsDefinition } from "./gen/snapshots.ts";
import { TaskExit, TaskOOM, TasksDefinition } from "./gen/tasks.ts";
import { VersionDefinition } from "./gen/version.ts";
import { GrpcClient, ignoreNotFound } from "./grpc-client.ts";
import { ImageCatalog, type PresentImage } from "./image-catalog.ts";
import { ImageUsers } from "./image-users.ts";
import { toUsage } from "./metrics.ts";
import { Unpacker } from "./unpacker.ts";

export interface ContainerdOptions {
  readonly socket: string;
  readonly log: Logger;
  readonly clock: Clock;
  /** Name or path of the OCI runtime; default: containerd's own, runc. */
  readonly ociRuntime?: string;
  readonly namespace?: string;
  readonly snapshotter?: string;
  /** Cgroup below which the containers are. */
  readonly cgroupParent?: string;
}

/** A containerd that hangs must not be waited for in silence: everybody reads what the list says. */
const LIST_TIMEOUT_MS = 60_000;
const SIGTERM = 15;
const SIGKILL = 9;
/** A process that SIGKILL does not end within that time hangs in the kernel. */
const KILL_TIMEOUT_MS = 30_000;

export class ContainerdRuntime implements ContainerRuntime {
  readonly images: ImageStore;
  readonly #client: GrpcClient;
  readonly #catalog: ImageCatalog;
  readonly #unpacker: Unpacker;
  readonly #users: ImageUsers;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #snapshotter: string;
  readonly #cgroupParent: string;
  readonly #ociRuntime: string | undefined;
  /** Our ids of those containers whose containerd id is another. */
  readonly #longIds = new Map<string, string>();
  #host: HostFacts | undefined;

  constructor(options: ContainerdOptions) {
    const { socket, log, clock, namespace = "edge.io", snapshotter = "overlayfs" } = options;
    this.#client = new GrpcClient({ socket, namespace });
    this.#users = new ImageUsers(this.#client, snapshotter);
    this.#log = log;
    this.#clock = clock;
    this.#snapshotter = snapshotter;
    this.#cgroupParent = options.cgroupParent ?? "oakestra";
    this.#ociRuntime = options.ociRuntime === "runc" ? undefined : options.ociRuntime;
    const content = new ContentStore(this.#client, clock);
    this.#unpacker = new Unpacker(this.#client, snapshotter);
    this.#catalog = new ImageCatalog(this.#client, content);
    const parts = { client: this.#client, catalog: this.#catalog, unpacker: this.#unpacker, content, clock };
    this.images = new ContainerdImages(parts);
  }

  /** Ends the connection; containers live on. */
  close(): void {
    this.#client.close();
  }

  async version(signal: AbortSignal): Promise<{ name: string; version: string }> {
    const { version } = await this.#client.unary(VersionDefinition, "version", {}, { signal });
    return { name: "containerd", version };
  }

  async list(signal: AbortSignal): Promise<Container[]> {
    const filters = [`labels."${LABELS.instanceId}"`];
    const summaries: ContainerSummary[] = [];
    const options = { signal, timeoutMs: LIST_TIMEOUT_MS };
    const listing = this.#client.stream(ContainersDefinition, "listStream", { filters }, options);
    const tasks = this.#client.unary(TasksDefinition, "list", {}, { signal });
    // Awaited below; until then its failure must not count as nobody's.
    tasks.catch(() => {});
    for await (const { container } of listing) if (container) summaries.push(container);
    const tasksById = new Map((await tasks).tasks.map((task) => [task.containerId || task.id, task]));
    return summaries.map((summary) => {
      const container = toContainer(summary, tasksById.get(summary.id));
      this.#rememberId(summary.id, container.containerId);
      return container;
    });
  }

  async start(spec: ContainerSpec, signal: AbortSignal): Promise<void> {
    const image = await this.#catalog.find(normalizeReference(spec.image), signal);
    try {
      await this.#startFresh(spec, image, signal);
    } catch (error) {
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      if (await this.#runsAlready(spec, signal)) return;
      this.#log.debug({ container: spec.containerId }, "leftovers of a dead container removed");
      await this.remove(spec.containerId, signal);
      await this.#startFresh(spec, image, signal);
    }
  }

  async stop(containerId: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const id = containerdId(containerId);
    const ended = new AbortController();
    const waiting = AbortSignal.any([signal, ended.signal]);
    const exited = this.#exited(id, waiting);
    exited.catch(() => {});
    try {
      await this.#kill(id, SIGTERM, signal);
      const grace = this.#clock.sleep(graceMs, { signal: waiting });
      grace.catch(() => {});
      if ((await Promise.race([exited, grace.then(() => "grace over" as const)])) !== "grace over") return;
      await this.#kill(id, SIGKILL, signal);
      await Promise.race([
        exited,
        this.#clock.sleep(KILL_TIMEOUT_MS, { signal: waiting }).then(() => hangs(containerId)),
      ]);
    } finally {
      ended.abort();
    }
  }

  async remove(containerId: string, signal: AbortSignal): Promise<void> {
    const id = containerdId(containerId);
    await this.#removeTask(id, signal);
    const snapshot = { snapshotter: this.#snapshotter, key: id };
    const results = await Promise.allSettled([
      this.#client.unary(ContainersDefinition, "delete", { id }, { signal }).catch(ignoreNotFound),
      this.#client.unary(SnapshotsDefinition, "remove", snapshot, { signal }).catch(ignoreNotFound),
    ]);
    for (const result of results) if (result.status === "rejected") throw result.reason;
    this.#longIds.delete(id);
  }

  exec(
    containerId: string,
    command: readonly string[],
    { timeoutMs }: { readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<{ exitCode: number }> {
    return execProcess({ client: this.#client, id: containerdId(containerId), command, timeoutMs }, signal);
  }

  /** Listening begins at the call, not at the first `next()`: subscribe, then list. */
  events(signal: AbortSignal): AsyncGenerator<RuntimeEvent, void, void> {
    const filters = ["/tasks/exit", "/tasks/oom"].map(
      (topic) => `namespace=="${this.#client.namespace}",topic=="${topic}"`,
    );
    const envelopes = this.#client.stream(EventsDefinition, "subscribe", { filters }, { signal });
    return this.#toEvents(envelopes, signal);
  }

  async usage(signal: AbortSignal): Promise<ReadonlyMap<string, Usage>> {
    const { metrics } = await this.#client.unary(TasksDefinition, "metrics", { filters: [] }, { signal });
    const usages = new Map<string, Usage>();
    for (const { id, data } of metrics) {
      const usage = data && toUsage(data);
      if (usage) usages.set(this.#longIds.get(id) ?? id, usage);
    }
    return usages;
  }

  /** Four calls. The container comes first: it refers to the snapshot, which would else be nobody's and collected. */
  async #startFresh(spec: ContainerSpec, image: PresentImage, signal: AbortSignal): Promise<void> {
    const id = containerdId(spec.containerId);
    await this.#createContainer(id, spec, image, signal);
    this.#rememberId(id, spec.containerId);
    try {
      const snapshot = { snapshotter: this.#snapshotter, key: id, parent: image.chainId };
      const { mounts } = await this.#prepare(snapshot, image, signal);
      const log = `file://${encodeURI(spec.logPath)}`;
      const task = { containerId: id, rootfs: mounts, stdout: log, stderr: log };
      await this.#client.unary(TasksDefinition, "create", task, { signal });
      await this.#client.unary(TasksDefinition, "start", { containerId: id }, { signal });
    } catch (error) {
      if (signal.aborted || hasCode(error, "RUNTIME_UNAVAILABLE")) throw error;
      if (hasCode(error, "ALREADY_EXISTS")) throw error;
      await this.remove(spec.containerId, signal);
      throw hasCode(error, "IMAGE_MISSING") ? error : explainStartFailure(spec.containerId, error);
    }
  }

  async #createContainer(id: string, spec: ContainerSpec, image: PresentImage, signal: AbortSignal): Promise<void> {
    const user = await this.#users.resolve(image, signal);
    this.#host ??= readHostFacts();
    const cgroupsPath = `/${this.#cgroupParent}/${id}`;
    const oci = ociSpec({ spec, config: image.config.config ?? {}, user, host: this.#host, cgroupsPath });
    const container = toRecord({ id, spec, oci, snapshotter: this.#snapshotter, ociRuntime: this.#ociRuntime });
    await this.#client.unary(ContainersDefinition, "create", { container }, { signal });
  }

  async #prepare(
    snapshot: { snapshotter: string; key: string; parent: string },
    image: PresentImage,
    signal: AbortSignal,
  ) {
    try {
      return await this.#client.unary(SnapshotsDefinition, "prepare", snapshot, { signal });
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
      this.#unpacker.forget(image.chainId);
      throw new AppError("IMAGE_MISSING", `The layers of image "${image.name}" are gone`, { cause: error });
    }
  }

  /** True when exactly this instance runs: then a start that was repeated has nothing to do. */
  async #runsAlready(spec: ContainerSpec, signal: AbortSignal): Promise<boolean> {
    const id = containerdId(spec.containerId);
    try {
      const { process: task } = await this.#client.unary(TasksDefinition, "get", { containerId: id }, { signal });
      if (task === undefined || stateOf(task) !== "running") return false;
      const { container } = await this.#client.unary(ContainersDefinition, "get", { id }, { signal });
      const labels = container?.labels ?? {};
      if (labels[LABELS.instanceId] === spec.instanceId && labels[LABELS.generation] === String(spec.generation))
        return true;
      const holder = labels[LABELS.instanceId] ?? "another program";
      throw new AppError("START_FAILED", `Cannot start "${spec.containerId}": it runs already, for "${holder}"`);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
  }

  async #removeTask(containerId: string, signal: AbortSignal): Promise<void> {
    const deleteTask = () =>
      this.#client.unary(TasksDefinition, "delete", { containerId }, { signal }).catch(ignoreNotFound);
    try {
      await deleteTask();
    } catch (error) {
      if (signal.aborted || hasCode(error, "RUNTIME_UNAVAILABLE")) throw error;
      // It lives: versions of containerd differ in how they say that.
      const exited = this.#exited(containerId, deadline(KILL_TIMEOUT_MS, signal));
      exited.catch(() => {});
      await this.#kill(containerId, SIGKILL, signal);
      await exited;
      await deleteTask();
    }
  }

  /** Resolves when the process has ended, or there is none. */
  async #exited(containerId: string, signal: AbortSignal): Promise<void> {
    // No limit in time: the default of unary calls would end the wait.
    const wait = this.#client.stream(TasksDefinition, "wait", { containerId }, { signal });
    try {
      for await (const _ of wait);
    } catch (error) {
      ignoreNotFound(error);
    }
  }

  async #kill(containerId: string, killSignal: number, signal: AbortSignal): Promise<void> {
    const request = { containerId, signal: killSignal, all: killSignal === SIGKILL };
    await this.#client.unary(TasksDefinition, "kill", request, { signal }).catch(ignoreNotFound);
  }

  async *#toEvents(
    envelopes: AsyncIterable<{ topic: string; event: { value: Uint8Array } | undefined }>,
    signal: AbortSignal,
  ): AsyncGenerator<RuntimeEvent, void, void> {
    for await (const { topic, event } of envelopes) {
      if (!event) continue;
      if (topic === "/tasks/oom") {
        const { containerId } = TaskOOM.decode(event.value);
        yield { type: "oom", containerId: this.#longIds.get(containerId) ?? containerId };
        continue;
      }
      const { containerId, id, exitStatus, exitedAt } = TaskExit.decode(event.value);
      // Others are processes that somebody started inside a container.
      if (id !== containerId) continue;
      const ownId = this.#longIds.get(containerId) ?? containerId;
      yield { type: "exited", containerId: ownId, exitCode: exitStatus, exitedAt: toMillis(exitedAt) };
    }
    signal.throwIfAborted();
    throw new AppError("RUNTIME_UNAVAILABLE", "containerd ended its stream of events");
  }

  #rememberId(id: string, containerId: string): void {
    if (id !== containerId) this.#longIds.set(id, containerId);
  }
}

function hangs(containerId: string): never {
  throw new AppError("RUNTIME_UNAVAILABLE", `"${containerId}" does not end, not even by SIGKILL`);
}
