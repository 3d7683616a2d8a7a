/** Writes the last decisions to disk now and then: nobody waits for them, and a restart forgets at most a moment. */
import { type Clock, pause } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { DecisionRecord } from "../scheduler/record.ts";
import type { History } from "./history.ts";

const SAVE_MS = 2_000;

export interface HistorySaverOptions {
  readonly history: Pick<History, "takeUnsaved">;
  readonly save: (records: readonly DecisionRecord[]) => Promise<void> | void;
  readonly clock: Clock;
  readonly log: Logger;
}

export async function saveHistory({ history, save, clock, log }: HistorySaverOptions, signal: AbortSignal) {
  do {
    await pause(clock, SAVE_MS, signal);
    const records = history.takeUnsaved();
    if (records.length === 0) continue;
    try {
      await save(records);
    } catch (error) {
      log.warn({ count: records.length, error }, "decisions not saved");
    }
  } while (!signal.aborted);
}
