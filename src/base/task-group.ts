import { AppError, isAbort } from "./errors.ts";

/**
 * Runs named loops together. When one ends or fails, the others are aborted; rejects with the first failure,
 * resolves when the parent signal aborted and every loop has ended.
 */
export async function runTogether(
  loops: Readonly<Record<string, (signal: AbortSignal) => Promise<void>>>,
  parent: AbortSignal,
): Promise<void> {
  const group = new AbortController();
  const signal = AbortSignal.any([parent, group.signal]);
  let failure: unknown;
  const runs = Object.entries(loops).map(async ([name, loop]) => {
    try {
      await loop(signal);
      if (!signal.aborted) failure ??= new AppError("LOOP_ENDED", `Loop "${name}" ended although nobody stopped it`);
    } catch (error) {
      if (!(signal.aborted && isAbort(error)))
        failure ??= new AppError("LOOP_FAILED", `Loop "${name}" failed`, { cause: error });
    } finally {
      group.abort();
    }
  });
  await Promise.all(runs);
  if (failure !== undefined) throw failure;
}
