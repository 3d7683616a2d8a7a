/** Measures round-trip times to the hosts of users that the cluster names. Rare, and never on the way of a deployment's own work. */
import { type Clock, pause } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Measure, Measurement } from "../protocol/mqtt.ts";

export interface TargetMeterOptions {
  /** Undefined: no answer. */
  readonly measure: (host: string, signal: AbortSignal) => Promise<number | undefined>;
  /** Something was measured for the first time, or answers again, or not any more: worth a report of its own. */
  readonly onNews: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Target {
  everyMs: number;
  /** Monotonic ms. */
  nextAt: number;
  answered?: boolean;
}

/** A cluster gone mad must not make this worker a nuisance to anybody. */
const MAX_TARGETS = 32;
const AT_ONCE = 4;
const IDLE_MS = 3_600_000;

export class TargetMeter {
  readonly #options: TargetMeterOptions;
  readonly #targets = new Map<string, Target>();
  /** Not told yet, the last of each. */
  readonly #measured = new Map<string, Measurement>();
  #wake: (() => void) | undefined;

  constructor(options: TargetMeterOptions) {
    this.#options = options;
  }

  setTargets(targets: Measure["targets"]): void {
    const wanted = new Map(targets.slice(0, MAX_TARGETS).map(({ host, everyMs }) => [host, everyMs]));
    for (const host of this.#targets.keys()) if (!wanted.has(host)) this.#targets.delete(host);
    for (const [host, everyMs] of wanted) {
      const known = this.#targets.get(host);
      if (known) known.everyMs = everyMs;
      else this.#targets.set(host, { everyMs, nextAt: 0 });
    }
    this.#wake?.();
  }

  /** What was measured since this was asked last. */
  take(): Measurement[] {
    const measured = [...this.#measured.values()];
    this.#measured.clear();
    return measured;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const due = [...this.#targets].filter(([, { nextAt }]) => nextAt <= clock.monotonic()).slice(0, AT_ONCE);
      await Promise.all(due.map(([host, target]) => this.#measure(host, target, signal)));
      if (signal.aborted) return;
      const next = Math.min(...[...this.#targets.values()].map(({ nextAt }) => nextAt), clock.monotonic() + IDLE_MS);
      if (next <= clock.monotonic()) continue;
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await pause(clock, next - clock.monotonic(), AbortSignal.any([signal, woken.signal]));
      this.#wake = undefined;
    }
  }

  async #measure(host: string, target: Target, signal: AbortSignal): Promise<void> {
    const { measure, clock, log, onNews } = this.#options;
    target.nextAt = clock.monotonic() + target.everyMs;
    const rttMs = await measure(host, signal).catch((error: unknown) => {
      if (!signal.aborted) log.debug({ host, error }, "host of users not measured");
      return undefined;
    });
    if (signal.aborted || this.#targets.get(host) !== target) return;
    this.#measured.set(host, { host, ...(rttMs === undefined ? {} : { rttMs: Math.round(rttMs * 100) / 100 }) });
    const isNews = target.answered !== (rttMs !== undefined);
    target.answered = rttMs !== undefined;
    if (isNews) onNews();
  }
}
