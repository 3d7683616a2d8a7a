/**
 * A file with what an earlier run knew, so that a boot without the cluster can go on from there. Written beside the work, soon after a
 * change: what a crash keeps off the disk comes again with the link.
 */
import type * as z from "zod/mini";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { type Clock, pause } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import { describeProblems, validate } from "../base/validation.ts";

/** One change seldom comes alone. */
const DEBOUNCE_MS = 20;
const RESYNC_MS = 24 * 3_600_000;
/** The routes of ten thousand services are megabytes of text: writing them takes at most this share of the time. */
const BUSY_SHARE = 0.02;

export interface StateFileOptions<Schema extends z.ZodMiniType> {
  readonly path: string;
  readonly schema: Schema;
  /** What is to be written; undefined: nothing yet. */
  readonly snapshot: () => z.output<Schema> | undefined;
  readonly log: Logger;
  readonly clock: Clock;
}

export class StateFile<Schema extends z.ZodMiniType> {
  readonly #options: StateFileOptions<Schema>;
  readonly #writer: Reconciler;
  #isDirty = false;

  constructor(options: StateFileOptions<Schema>) {
    this.#options = options;
    this.#writer = new Reconciler({
      name: options.path,
      pass: async (signal) => {
        await this.#write(signal);
        return undefined;
      },
      ...{ log: options.log, clock: options.clock, resyncMs: RESYNC_MS, debounceMs: DEBOUNCE_MS },
    });
  }

  /** What the last run knew. A file that cannot be understood counts as none. */
  async read(): Promise<z.output<Schema> | undefined> {
    const { path, schema, log } = this.#options;
    const text = await readFileIfAny(path);
    if (text === undefined) return undefined;
    try {
      const checked = validate(schema, JSON.parse(text));
      if (!checked.ok) throw new AppError("STATE_FILE_INVALID", describeProblems(checked.problems));
      return checked.value;
    } catch (error) {
      log.error({ path, error }, "state on disk is unreadable; waiting for the cluster");
      return undefined;
    }
  }

  /** Something has changed: written soon. */
  trigger(): void {
    this.#isDirty = true;
    this.#writer.trigger();
  }

  /** Writes what changes until `signal` aborts, and once more then. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#writer.run(signal);
    try {
      await this.#write(signal);
    } catch (error) {
      this.#options.log.error({ path: this.#options.path, error }, "newest state is not on disk");
    }
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { path, snapshot, clock } = this.#options;
    const content = this.#isDirty ? snapshot() : undefined;
    this.#isDirty = false;
    if (content === undefined) return;
    const began = clock.monotonic();
    try {
      await writeFileAtomic(path, JSON.stringify(content));
    } catch (error) {
      this.#isDirty = true;
      throw error;
    }
    await pause(clock, (clock.monotonic() - began) / BUSY_SHARE, signal);
  }
}
