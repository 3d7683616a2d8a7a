/** In-memory runtime for tests: behaves as the contract suite says, and lets a test be the image author, the process or the fault. */
import { AppError } from "../base/errors.ts";
import type {
  Container,
  ContainerRuntime,
  ContainerSpec,
  Image,
  ImageStore,
  PullOptions,
  RuntimeEvent,
  Usage,
} from "./container-runtime.ts";
import { normalizeReference } from "./image-reference.ts";

/** What an image's process does when it is started. */
export interface FakeImage {
  readonly platforms?: readonly string[];
  readonly digest?: string;
  /** Fails `start` with this code, as the real runtime would for a bad command or limit. */
  readonly startFails?: { readonly code: string; readonly message: string };
  /** The programs in it; default: whatever is asked for. */
  readonly programs?: readonly string[];
  /** Ignores SIGTERM: only SIGKILL ends it. */
  readonly ignoresTerm?: boolean;
  /** Takes memory until the kernel kills it. */
  readonly ooms?: boolean;
  /** Ends by itself at once with this code. */
  readonly exitsWith?: number;
}

const PLATFORM = "linux/amd64";
const MIN_MEMORY_BYTES = 4 * 1024 * 1024;
const NEVER = new AbortController().signal;

export class FakeContainerRuntime implements ContainerRuntime {
  readonly images: ImageStore;
  /** Every spec that was started, in order. */
  readonly started: ContainerSpec[] = [];
  readonly specs = new Map<string, ContainerSpec>();
  /** `docker.io/library/x:latest` → what it holds; those in `registry` are pulled on `ensure`. */
  readonly local = new Map<string, FakeImage>();
  readonly registry = new Map<string, FakeImage & { readonly credentials?: { username: string; password: string } }>();
  /** Archives that `load` finds, by path. */
  readonly archives = new Map<string, Readonly<Record<string, FakeImage>>>();
  /** How commands end in containers, by their words; default: as `exit 3` or `sleep 9` in them says, else with 0. */
  readonly execs = new Map<string, { readonly exitCode: number }>();
  pulls = 0;
  #available = true;
  #nextPid = 1000;
  readonly #containers = new Map<string, Container>();
  readonly #listeners = new Set<(event: RuntimeEvent | AppError) => void>();
  readonly #now: () => number;

  constructor(options: { now?: () => number; images?: Readonly<Record<string, FakeImage>> } = {}) {
    this.#now = options.now ?? Date.now;
    for (const [name, image] of Object.entries(options.images ?? {})) this.addImage(name, image);
    this.images = {
      ensure: (reference, pull, signal) => this.#ensure(reference, pull, signal),
      has: async (reference, signal) => {
        this.#check(signal);
        return this.local.has(normalizeReference(reference));
      },
      load: async (path, signal) => this.#load(path, signal),
      list: async (signal) => {
        this.#check(signal);
        return [...this.local].map(([name, image]) => describe(name, image));
      },
      remove: async (reference, signal) => {
        this.#check(signal);
        const name = normalizeReference(reference);
        if (!this.local.delete(name)) throw new AppError("IMAGE_NOT_FOUND", `There is no image "${name}" here`);
      },
    };
  }

  addImage(reference: string, image: FakeImage = {}): void {
    this.local.set(normalizeReference(reference), image);
  }

  /** The process of a container ends, as if by itself. */
  exit(containerId: string, exitCode: number): void {
    const container = this.#containers.get(containerId);
    if (container?.state !== "running") throw new Error(`"${containerId}" does not run`);
    const { pid: _, ...rest } = container;
    const exitedAt = this.#now();
    this.#containers.set(containerId, { ...rest, state: "exited", exitCode, exitedAt });
    this.#emit({ type: "exited", containerId, exitCode, exitedAt });
  }

  /** The kernel kills the container for its memory limit. */
  oom(containerId: string): void {
    this.#emit({ type: "oom", containerId });
    this.exit(containerId, 137);
  }

  /** Breaks event streams and fails every call with RUNTIME_UNAVAILABLE until switched back. Containers live on. */
  setAvailable(available: boolean): void {
    this.#available = available;
    if (!available) this.#emit(unavailable());
  }

  async version(signal: AbortSignal): Promise<{ name: string; version: string }> {
    this.#check(signal);
    return { name: "fake", version: "1" };
  }

  async list(signal: AbortSignal): Promise<Container[]> {
    this.#check(signal);
    return [...this.#containers.values()];
  }

  async start(spec: ContainerSpec, signal: AbortSignal): Promise<void> {
    this.#check(signal);
    const present = this.#containers.get(spec.containerId);
    if (present?.state === "running") {
      if (present.instanceId === spec.instanceId && present.generation === spec.generation) return;
      throw new AppError(
        "START_FAILED",
        `Cannot start "${spec.containerId}": it runs already, for "${present.instanceId}"`,
      );
    }
    const name = normalizeReference(spec.image);
    const image = this.local.get(name);
    if (!image)
      throw new AppError("IMAGE_MISSING", `Cannot start "${spec.containerId}": image "${name}" is not present`);
    const memory = spec.limits.memoryBytes ?? 0;
    if (memory > 0 && memory < MIN_MEMORY_BYTES)
      throw new AppError("MEMORY_TOO_LOW", `Cannot start "${spec.containerId}": ${memory} bytes of memory are too few`);
    const program = spec.command?.[0];
    if (program !== undefined && image.programs && !image.programs.includes(program))
      throw new AppError("COMMAND_NOT_FOUND", `Cannot start "${spec.containerId}": exec: "${program}": not found`);
    if (image.platforms && !image.platforms.includes(PLATFORM))
      throw new AppError("IMAGE_PLATFORM", `Image "${name}" is for ${image.platforms.join(", ")}`);
    if (image.startFails) throw new AppError(image.startFails.code, image.startFails.message);
    const { containerId, instanceId, generation, labels } = spec;
    const pid = this.#nextPid++;
    this.#containers.set(containerId, {
      ...{ containerId, instanceId, generation, labels, pid },
      state: "running",
      createdAt: this.#now(),
    });
    this.specs.set(containerId, spec);
    this.started.push(spec);
    if (image.ooms) this.oom(containerId);
    if (image.exitsWith !== undefined) this.exit(containerId, image.exitsWith);
  }

  async stop(containerId: string, _graceMs: number, signal: AbortSignal): Promise<void> {
    this.#check(signal);
    if (this.#containers.get(containerId)?.state !== "running") return;
    const image = this.local.get(normalizeReference(this.specs.get(containerId)!.image));
    this.exit(containerId, image?.ignoresTerm ? 137 : 143);
  }

  async remove(containerId: string, signal: AbortSignal): Promise<void> {
    this.#check(signal);
    if (this.#containers.get(containerId)?.state === "running") this.exit(containerId, 137);
    this.#containers.delete(containerId);
    this.specs.delete(containerId);
  }

  async exec(
    containerId: string,
    command: readonly string[],
    { timeoutMs }: { readonly timeoutMs: number },
    signal: AbortSignal,
  ): Promise<{ exitCode: number }> {
    this.#check(signal);
    const words = command.join(" ");
    if (this.#containers.get(containerId)?.state !== "running")
      throw new AppError("NOT_RUNNING", `Cannot run "${words}" in "${containerId}": the container does not run`);
    const { programs } = this.local.get(normalizeReference(this.specs.get(containerId)!.image)) ?? {};
    if (programs && !programs.includes(command[0]!))
      throw new AppError("COMMAND_NOT_FOUND", `Cannot run "${words}" in "${containerId}": no such program`);
    if (/\bsleep \d+/.test(words))
      throw new AppError("EXEC_TIMEOUT", `"${words}" in "${containerId}" did not end within ${timeoutMs} ms`);
    return this.execs.get(words) ?? { exitCode: Number(/\bexit (\d+)/.exec(words)?.[1] ?? 0) };
  }

  events(signal: AbortSignal): AsyncGenerator<RuntimeEvent, void, void> {
    const queue: (RuntimeEvent | AppError)[] = this.#available ? [] : [unavailable()];
    const waiter = { wake: () => {} };
    const listen = (event: RuntimeEvent | AppError) => {
      queue.push(event);
      waiter.wake();
    };
    this.#listeners.add(listen);
    signal.addEventListener("abort", () => waiter.wake());
    return this.#drain(queue, waiter, signal, () => this.#listeners.delete(listen));
  }

  async *#drain(
    queue: (RuntimeEvent | AppError)[],
    waiter: { wake: () => void },
    signal: AbortSignal,
    end: () => void,
  ): AsyncGenerator<RuntimeEvent, void, void> {
    try {
      for (;;) {
        signal.throwIfAborted();
        const next = queue.shift();
        if (next instanceof AppError) throw next;
        if (next) yield next;
        else
          await new Promise<void>((resolve) => {
            waiter.wake = resolve;
          });
      }
    } finally {
      end();
    }
  }

  async usage(signal: AbortSignal): Promise<ReadonlyMap<string, Usage>> {
    this.#check(signal);
    const running = [...this.#containers.values()].filter(({ state }) => state === "running");
    return new Map(running.map(({ containerId }) => [containerId, { cpuNanos: 1_000_000, memoryBytes: 1_048_576 }]));
  }

  async #ensure(reference: string, { credentials, onProgress }: PullOptions, signal: AbortSignal): Promise<Image> {
    this.#check(signal);
    const name = normalizeReference(reference);
    const present = this.local.get(name);
    if (present) return describe(name, present);
    const remote = this.registry.get(name);
    if (!remote) throw new AppError("IMAGE_NOT_FOUND", `Cannot pull "${name}": the registry has no such image`);
    const wanted = remote.credentials;
    if (wanted && (wanted.username !== credentials?.username || wanted.password !== credentials.password))
      throw new AppError("REGISTRY_UNAUTHORIZED", `Cannot pull "${name}": the registry refuses these credentials`);
    if (remote.platforms && !remote.platforms.includes(PLATFORM))
      throw new AppError("IMAGE_PLATFORM", `Image "${name}" is for ${remote.platforms.join(", ")}`);
    this.pulls += 1;
    onProgress?.(1000, 1000);
    this.local.set(name, remote);
    return describe(name, remote);
  }

  #load(path: string, signal: AbortSignal): Image[] {
    this.#check(signal);
    const archive = this.archives.get(path);
    if (!archive) throw new AppError("ARCHIVE_INVALID", `Cannot read "${path}": no such file`);
    for (const [name, { platforms }] of Object.entries(archive)) {
      if (platforms && !platforms.includes(PLATFORM))
        throw new AppError("IMAGE_PLATFORM", `Image "${name}" is for ${platforms.join(", ")}`);
    }
    return Object.entries(archive).map(([reference, image]) => {
      this.addImage(reference, image);
      return describe(normalizeReference(reference), image);
    });
  }

  #check(signal: AbortSignal = NEVER): void {
    signal.throwIfAborted();
    if (!this.#available) throw unavailable();
  }

  #emit(event: RuntimeEvent | AppError): void {
    for (const listener of this.#listeners) listener(event);
  }
}

function describe(name: string, image: FakeImage): Image {
  const digest = image.digest ?? `sha256:${Buffer.from(name).toString("hex").padEnd(64, "0").slice(0, 64)}`;
  return { name, digest, sizeBytes: 1000, platforms: image.platforms ?? [PLATFORM] };
}

function unavailable(): AppError {
  return new AppError("RUNTIME_UNAVAILABLE", "The fake runtime is switched off");
}
