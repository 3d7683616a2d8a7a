/** Waiting for a condition, with a limit. */
import { systemClock } from "../../src/base/clock.ts";

/** Polls until `probe` returns something; its last error is the message when it never does. */
export async function eventually<T>(
  probe: () => Promise<T | undefined> | T | undefined,
  {
    withinMs = 20_000,
    everyMs = 50,
    what = "the condition",
  }: { withinMs?: number; everyMs?: number; what?: string } = {},
): Promise<T> {
  const end = performance.now() + withinMs;
  let lastError: unknown;
  do {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      lastError = error;
    }
    await systemClock.sleep(everyMs);
  } while (performance.now() < end);
  throw new Error(`${what} did not come true within ${withinMs} ms`, { cause: lastError });
}
