/**
 * `desired.json`: the desired set and the one-shot instances that are done, on disk, so that a boot without a link starts what must
 * run and nothing twice. Writing happens beside the work, never before it: a set lost by a crash comes again with the link.
 */
import { createHash } from "node:crypto";
import * as z from "zod/mini";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { AppError } from "../base/errors.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { DesiredInstance } from "../protocol/mqtt.ts";
import { InstanceId } from "../protocol/names.ts";
import type { DesiredSet } from "./desired.ts";

/** A one-shot instance that ended well; by instance id. */
const Completions = z.record(InstanceId, z.object({ generation: z.int(), endedAt: z.int() }));
export type Completions = z.infer<typeof Completions>;

const File = z.object({
  revision: z.int(),
  instances: z.array(DesiredInstance),
  completed: Completions,
});

const RESYNC_MS = 24 * 3_600_000;

export class DesiredFile {
  readonly #path: string;
  readonly #log: Logger;
  readonly #queue = new KeyedQueue();
  readonly #writer: Reconciler;
  #set: DesiredSet | undefined;
  #completed: Completions = {};
  #version = 0;
  #writtenVersion = 0;
  #writtenDigest = "";

  constructor(options: { path: string; log: Logger }) {
    this.#path = options.path;
    this.#log = options.log;
    this.#writer = new Reconciler({
      name: "desired file",
      pass: async () => {
        await this.#write();
        return undefined;
      },
      log: options.log,
      resyncMs: RESYNC_MS,
    });
  }

  get completed(): Completions {
    return this.#completed;
  }

  /** The set of the last run, if there is one. A file that cannot be understood is set aside: the link brings everything again. */
  async read(): Promise<DesiredSet | undefined> {
    const text = await readFileIfAny(this.#path);
    if (text === undefined) return undefined;
    try {
      const { revision, instances, completed } = parse(text);
      this.#set = { revision, instances: new Map(instances.map((instance) => [instance.instanceId, instance])) };
      this.#completed = completed;
      this.#writtenDigest = digestOf(text);
    } catch (error) {
      this.#log.error({ path: this.#path, error }, "desired set on disk is unreadable; waiting for the cluster");
    }
    return this.#set;
  }

  /** Has the set written soon. Completions of instances that it does not list are dropped. */
  keep(set: DesiredSet): void {
    this.#set = set;
    this.#completed = Object.fromEntries(
      Object.entries(this.#completed).filter(
        ([instanceId, { generation }]) => set.instances.get(instanceId)?.generation === generation,
      ),
    );
    this.#version += 1;
    this.#writer.trigger();
  }

  /** Resolves when it is on disk: only then may the container go, or a crash would run the instance again. */
  async complete(instanceId: string, generation: number, endedAt: number): Promise<void> {
    this.#completed = { ...this.#completed, [instanceId]: { generation, endedAt } };
    this.#version += 1;
    await this.#write();
  }

  /** Writes what changes until `signal` aborts, and once more then. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#writer.run(signal);
    try {
      await this.#write();
    } catch (error) {
      this.#log.error({ path: this.#path, error }, "newest desired set is not on disk");
    }
  }

  #write(): Promise<void> {
    return this.#queue.run(this.#path, async () => {
      const version = this.#version;
      if (version === this.#writtenVersion || !this.#set) return;
      const { revision, instances } = this.#set;
      const content: z.infer<typeof File> = {
        revision,
        instances: [...instances.values()],
        completed: this.#completed,
      };
      const text = JSON.stringify(content);
      const digest = digestOf(text);
      // Each new link tells all of it again, mostly without a difference.
      if (digest !== this.#writtenDigest) await writeFileAtomic(this.#path, text);
      this.#writtenDigest = digest;
      this.#writtenVersion = version;
    });
  }
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function parse(text: string): z.infer<typeof File> {
  const checked = validate(File, JSON.parse(text));
  if (!checked.ok) throw new AppError("DESIRED_FILE_INVALID", describeProblems(checked.problems));
  return checked.value;
}
