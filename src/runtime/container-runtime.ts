/**
 * Port: what a worker needs of a container runtime. Every call is idempotent and safe to repeat after kill -9;
 * whatever waits ends with the signal's reason on abort, and the next reconcile pass repairs what was left half done.
 */
export interface ContainerRuntime {
  readonly images: ImageStore;
  version(signal: AbortSignal): Promise<{ name: string; version: string }>;
  /** All containers of our namespace that carry an instance label, whoever started them. */
  list(signal: AbortSignal): Promise<Container[]>;
  /**
   * Creates snapshot, container and task, and starts it. Leftovers of a dead container with the same id are removed first.
   * Running already, with the same instanceId and generation: resolves. On failure nothing is left behind.
   * @throws AppError IMAGE_MISSING | IMAGE_PLATFORM | COMMAND_NOT_FOUND | MEMORY_TOO_LOW | RUNTIME_UNAVAILABLE | START_FAILED
   */
  start(spec: ContainerSpec, signal: AbortSignal): Promise<void>;
  /** SIGTERM, waits up to `graceMs`, then SIGKILL; resolves when the process is gone. No such container: resolves. */
  stop(containerId: string, graceMs: number, signal: AbortSignal): Promise<void>;
  /** Removes task, container and snapshot, each independently of whether the others exist. Kills a live task. */
  remove(containerId: string, signal: AbortSignal): Promise<void>;
  /**
   * Runs a command in the container, as its own process would run it, to its end; its output is dropped. After `timeoutMs`, or on
   * abort, it is killed. @throws AppError NOT_RUNNING | COMMAND_NOT_FOUND | EXEC_TIMEOUT | EXEC_FAILED | RUNTIME_UNAVAILABLE
   */
  exec(
    containerId: string,
    command: readonly string[],
    options: { readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<{ exitCode: number }>;
  /**
   * Exits and OOM kills as they happen; listening begins at the call, not at the first `next()`. Throws RUNTIME_UNAVAILABLE
   * when the stream breaks: listen again, then list.
   */
  events(signal: AbortSignal): AsyncIterable<RuntimeEvent>;
  /** Resource use of the running containers, by container id. */
  usage(signal: AbortSignal): Promise<ReadonlyMap<string, Usage>>;
}

export interface ImageStore {
  /**
   * Makes the image present and unpacked. A local image is used as it is; otherwise it is pulled.
   * @throws AppError IMAGE_NAME_INVALID | IMAGE_NOT_FOUND | IMAGE_PLATFORM | IMAGE_INVALID | REGISTRY_UNAUTHORIZED |
   * REGISTRY_UNREACHABLE | RUNTIME_UNAVAILABLE
   */
  ensure(reference: string, options: PullOptions, signal: AbortSignal): Promise<Image>;
  /** `ensure` would have nothing to do. @throws AppError IMAGE_NAME_INVALID | IMAGE_PLATFORM | RUNTIME_UNAVAILABLE */
  has(reference: string, signal: AbortSignal): Promise<boolean>;
  /**
   * Reads an OCI or Docker archive (`docker save`, `oak image build`) from a file. Returns the names it holds.
   * @throws AppError ARCHIVE_INVALID | IMAGE_INVALID | IMAGE_PLATFORM | RUNTIME_UNAVAILABLE
   */
  load(path: string, signal: AbortSignal): Promise<Image[]>;
  list(signal: AbortSignal): Promise<Image[]>;
  /** Removes the name; layers go with the runtime's own garbage collection. @throws IMAGE_NOT_FOUND */
  remove(reference: string, signal: AbortSignal): Promise<void>;
}

export interface PullOptions {
  /** Shown to `server`, host and port as in an image's name, and to no other registry. */
  readonly credentials?: { readonly server: string; readonly username: string; readonly password: string };
  /** Called at most a few times a second; `totalBytes` grows as manifests become known. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface Image {
  /** Normalised: `docker.io/library/nginx:latest`. */
  readonly name: string;
  readonly digest: string;
  readonly sizeBytes: number;
  /** `linux/amd64` …, of the content that is present. */
  readonly platforms: readonly string[];
}

export interface ContainerSpec {
  /** `<app>.<app_ns>.<service>.<service_ns>.instance.<n>`: other tools attach by it. */
  readonly containerId: string;
  readonly instanceId: string;
  /** Bumped by the cluster when the same instance must be made anew. */
  readonly generation: number;
  readonly image: string;
  /** Full argv; undefined means the image's entrypoint and command. */
  readonly command?: readonly string[] | undefined;
  /** `KEY=value`, added to the image's environment and overriding it. */
  readonly environment: readonly string[];
  readonly hostname: string;
  readonly limits: Limits;
  /** Path of an existing network namespace; undefined means the host's network is *not* shared but empty (own namespace). */
  readonly networkNamespace?: string | undefined;
  /** Host file to bind read-only at /etc/resolv.conf. */
  readonly resolvConf?: string | undefined;
  /** Host file to bind read-only at /etc/hosts. */
  readonly hostsFile?: string | undefined;
  /**
   * Standard output and error are appended here, by the runtime itself: they survive the agent. Nothing bounds the file but
   * whoever copies and truncates it, which is safe at any time.
   */
  readonly logPath: string;
  /** Containers of one group share one shim process (less memory, one blast radius). */
  readonly shimGroup?: string | undefined;
  /** Adds /dev/fuse, nothing else (the descriptor's `privileged`). */
  readonly fuse?: boolean;
  /** Stored on the container and given back by `list`, for adoption. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface Limits {
  /** 0 or undefined: no limit. */
  readonly memoryBytes?: number | undefined;
  /** Thousandths of a core; 0 or undefined: no limit. */
  readonly cpuMillis?: number | undefined;
  readonly pids?: number | undefined;
}

export interface Container {
  readonly containerId: string;
  readonly instanceId: string;
  readonly generation: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: "created" | "running" | "exited" | "unknown";
  readonly pid?: number;
  /** Epoch ms of the container's creation. State `created` also means that the machine was restarted since. */
  readonly createdAt: number;
  /** Only when `exited`. */
  readonly exitCode?: number;
  readonly exitedAt?: number;
}

export type RuntimeEvent =
  | { readonly type: "exited"; readonly containerId: string; readonly exitCode: number; readonly exitedAt: number }
  | { readonly type: "oom"; readonly containerId: string };

export interface Usage {
  /** CPU time since the start, nanoseconds. */
  readonly cpuNanos: number;
  readonly memoryBytes: number;
}
