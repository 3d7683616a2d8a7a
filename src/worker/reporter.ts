/**
 * What the cluster hears of this worker: everything at connect, then what changed, at once. When nothing changes, the connection's
 * pings tell that it is alive. A few reports may be on their way at once; changes made while there are so many go together in the next.
 */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import { HEARTBEAT_MS, type WorkerReport } from "../protocol/mqtt.ts";
import { InFlight } from "./in-flight.ts";
import type { Instances } from "./instances.ts";
import { reportParts } from "./report-parts.ts";

/** Measurements of instances and machine are told no more often. */
const BEAT_MS = HEARTBEAT_MS * 0.9;
/** What is said again although nothing has changed: of a worker that only pings, the cluster should not know old figures for ever. */
const REPEAT_MS = 120_000;
/** The machine's load, which placement does not go by, is told when it differs by so much, and no more often. */
const NOTABLE_PERCENT = 5;
const LOAD_MS = 60_000;
/** As many as a deployment causes: over a slow link its last word must not wait for the acknowledgement of its first. */
const MAX_IN_FLIGHT = 8;

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

interface Load {
  readonly cpuPercent: number;
  readonly memoryPercent: number;
}

/** What every report says, and when it was said. */
interface Told extends Load {
  readonly addressesFree: number | undefined;
  readonly manifest: number;
  /** Monotonic ms. */
  readonly at: number;
}

function isOther(told: Told | undefined, now: Told): boolean {
  const ageMs = now.at - (told?.at ?? 0);
  if (!told || ageMs >= REPEAT_MS) return true;
  if (told.addressesFree !== now.addressesFree || told.manifest !== now.manifest) return true;
  const fields = ["cpuPercent", "memoryPercent"] as const;
  return ageMs >= LOAD_MS && fields.some((field) => Math.abs(told[field] - now[field]) >= NOTABLE_PERCENT);
}

export class Reporter {
  readonly #parts: ReporterParts;
  readonly #reconciler: Reconciler;
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
  #sequence = 0;
  #isFullDue = true;
  #load: Load | undefined;
  #told: Told | undefined;
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
    await this.#inFlight.room();
    const full = this.#isFullDue;
    const ownInfo = full ? await info(signal) : undefined;
    const load = await this.#currentLoad();
    // A connection has begun or ended meanwhile.
    if (this.#isFullDue !== full) return this.trigger();
    // Numbered and taken together: nothing may be awaited between here and the sending.
    const addressesFree = this.#parts.addressesFree();
    const surroundings = this.#parts.surroundings(full);
    const changes = instances.takeReport(full);
    const now: Told = { ...load, addressesFree, manifest: changes.manifest, at: this.#parts.clock.monotonic() };
    const isNews = full || Object.keys(surroundings).length + changes.instances.length + changes.removed.length > 0;
    if (!isNews && !isOther(this.#told, now)) return;
    this.#told = now;
    this.#isFullDue = false;
    const report: WorkerReport = {
      ...{ sequence: this.#sequence + 1, full, ...load },
      ...(addressesFree === undefined ? {} : { addressesFree }),
      ...(ownInfo ? { info: ownInfo, clock: this.#parts.clock.now() } : {}),
      ...surroundings,
      ...changes,
    };
    const parts = reportParts(report);
    this.#sequence += parts.length;
    this.#inFlight.add(Promise.all(parts.map((part) => link.report(part))), (error) => {
      // Lost with the connection; the next one begins with everything. Whatever else happens, a full report is never wrong.
      log.debug({ error }, "report not delivered");
      this.#isFullDue = true;
    });
  }

  /** Measured once a beat: changes of instances do not make it measure more often. */
  async #currentLoad(): Promise<Load> {
    const now = this.#parts.clock.monotonic();
    if (this.#load && now - this.#measuredAt < BEAT_MS) return this.#load;
    this.#measuredAt = now;
    this.#load = await this.#parts.measure();
    return this.#load;
  }
}
