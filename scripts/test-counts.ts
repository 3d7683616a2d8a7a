/** A reporter for node --test that writes one JSON object: how many tests passed, failed and were skipped, and why. */
import type { TestEvent } from "node:test/reporters";

export interface TestCounts {
  passed: number;
  failed: number;
  skipped: number;
  /** `name: reason`. */
  skips: string[];
  /** The five slowest above a second. */
  slowest: string[];
}

// node --test takes a reporter from the default export only.
// biome-ignore lint/style/noDefaultExport: required by node --test
export default async function* countTests(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts: TestCounts = { passed: 0, failed: 0, skipped: 0, skips: [], slowest: [] };
  const durations: { name: string; ms: number }[] = [];
  for await (const event of source) {
    if (event.type !== "test:pass" && event.type !== "test:fail") continue;
    const { name, skip, details, file } = event.data;
    if (skip !== undefined && skip !== false) {
      counts.skipped += 1;
      counts.skips.push(
        `${name}: ${skip === true ? "no reason given" : skip} (${file?.split("/").slice(-2).join("/")})`,
      );
      continue;
    }
    // A suite, and the file that holds it, repeat what their tests say.
    if (details.type === "suite") continue;
    counts[event.type === "test:pass" ? "passed" : "failed"] += 1;
    durations.push({ name, ms: details.duration_ms });
  }
  counts.slowest = durations
    .filter(({ ms }) => ms > 1000)
    .sort((left, right) => right.ms - left.ms)
    .slice(0, 5)
    .map(({ name, ms }) => `${name} ${(ms / 1000).toFixed(1)} s`);
  yield JSON.stringify(counts);
}
