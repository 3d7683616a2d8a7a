/**
 * What the cluster hears of this worker: everything at connect, then what changed, at once; and when nothing changes, that it is
 * alive. One report at a time: changes made while one is on its way go together in the next.
 */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import { HEARTBEAT_MS, type WorkerReport } from "../protocol/mqtt.ts";
import type { Instances } from "./instances.ts";
import { reportParts } from "./report-parts.ts";

/** The promise is kept even when a beat is a little late. */
const BEAT_MS = HEARTBEAT_MS * 0.9;

export interface ReporterParts {
  readonly instances: Instances;
  readonly info: (signal: AbortSignal) => Promise<WorkerInfo>;
  /** There is something to tell. */
  readonly isReady: () => boolean;
  /** Of sandboxes; undefined: nothing that the cluster should care for. */
  readonly addressesFree: () => number | undefined;
  /** What the network around it was measured to be like, as far as it is news. */
  readonly surroundings: (full: boolean) => Pick<WorkerReport, "coordinate" | "measured">;
  readonly measure: () => Promise<{ cpuPercent: number; memoryPercent: number }>;
  readonly link: { readonly isConnected: boolean; report(report: WorkerReport): Promise<void> };
  readonly log: Logger;
  readonly clock: Clock;
}

export class Reporter {
  readonly #parts: ReporterParts;
  readonly #reconciler: Reconciler;
  #sequence = 0;
  #isFullDue = true;
  #load: { cpuPercent: number; memoryPercent: number } | undefined;
  #measuredAt = Number.NEGATIVE_INFINITY;

  constructor(parts: ReporterParts) {
    this.#parts = parts;
    this.#reconciler = new Reconciler({
      name: "reports",
      pass: async (signal) => {
        if (parts.link.isConnected && parts.isReady()) await this.#send(signal);
        return undefined;
      },
      ...{ log: parts.log, clock: parts.clock, resyncMs: BEAT_MS },
    });
  }

  /** A new connection: its reports count from 1, and the first is full. */
  connected(): void {
    this.#sequence = 0;
    this.#isFullDue = true;
    this.trigger();
  }

  trigger(): void {
    this.#reconciler.trigger();
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#reconciler.run(signal);
  }

  async #send(signal: AbortSignal): Promise<void> {
    const { instances, link, info, log } = this.#parts;
    const full = this.#isFullDue;
    const ownInfo = full ? await info(signal) : undefined;
    const load = await this.#currentLoad();
    // Numbered and taken together: nothing may be awaited between here and the sending.
    this.#isFullDue = false;
    const addressesFree = this.#parts.addressesFree();
    const report: WorkerReport = {
      ...{ sequence: this.#sequence + 1, full, ...load },
      ...(addressesFree === undefined ? {} : { addressesFree }),
      ...(ownInfo ? { info: ownInfo } : {}),
      ...this.#parts.surroundings(full),
      ...instances.takeReport(full),
    };
    const parts = reportParts(report);
    this.#sequence += parts.length;
    try {
      for (const part of parts) await link.report(part);
    } catch (error) {
      // Lost with the connection; the next one begins with everything. Whatever else happens, a full report is never wrong.
      log.debug({ error }, "report not delivered");
      this.#isFullDue = true;
    }
  }

  /** Measured once a beat: changes of instances do not make it measure more often. */
  async #currentLoad(): Promise<{ cpuPercent: number; memoryPercent: number }> {
    const now = this.#parts.clock.monotonic();
    if (this.#load && now - this.#measuredAt < BEAT_MS) return this.#load;
    this.#measuredAt = now;
    this.#load = await this.#parts.measure();
    return this.#load;
  }
}
