/**
 * `routes.json`: the routes of an earlier run, so that overlay and names work after a boot without the cluster. Written beside the
 * work, some time after a change: what a crash keeps off the disk comes again with the link.
 */
import { readFileIfAny, writeFileAtomic } from "../../base/atomic-file.ts";
import { type Clock, pause } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { Reconciler } from "../../base/reconciler.ts";
import { describeProblems, validate } from "../../base/validation.ts";
import { RouteUpdate } from "../../protocol/route.ts";

const DEBOUNCE_MS = 1000;
const RESYNC_MS = 24 * 3_600_000;
/** Ten thousand services are megabytes of text: writing them takes at most this share of the time. */
const BUSY_SHARE = 0.02;

export interface RoutesFileOptions {
  readonly path: string;
  readonly snapshot: () => RouteUpdate;
  readonly log: Logger;
  readonly clock: Clock;
}

export class RoutesFile {
  readonly #options: RoutesFileOptions;
  readonly #writer: Reconciler;
  #isDirty = false;

  constructor(options: RoutesFileOptions) {
    this.#options = options;
    this.#writer = new Reconciler({
      name: "routes file",
      pass: async (signal) => {
        await this.#write(signal);
        return undefined;
      },
      ...{ log: options.log, clock: options.clock, resyncMs: RESYNC_MS, debounceMs: DEBOUNCE_MS },
    });
  }

  /** What the last run knew. A file that cannot be understood counts as none. */
  async read(): Promise<RouteUpdate | undefined> {
    const { path, log } = this.#options;
    const text = await readFileIfAny(path);
    if (text === undefined) return undefined;
    try {
      const checked = validate(RouteUpdate, JSON.parse(text));
      if (!checked.ok) throw new AppError("ROUTES_FILE_INVALID", describeProblems(checked.problems));
      return checked.value;
    } catch (error) {
      log.error({ path, error }, "routes on disk are unreadable; waiting for the cluster");
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
      this.#options.log.error({ path: this.#options.path, error }, "newest routes are not on disk");
    }
  }

  async #write(signal: AbortSignal): Promise<void> {
    const { path, snapshot, clock } = this.#options;
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const began = clock.monotonic();
    try {
      await writeFileAtomic(path, JSON.stringify(snapshot()));
    } catch (error) {
      this.#isDirty = true;
      throw error;
    }
    await pause(clock, (clock.monotonic() - began) / BUSY_SHARE, signal);
  }
}
