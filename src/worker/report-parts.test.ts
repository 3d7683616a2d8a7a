import assert from "node:assert/strict";
import { test } from "node:test";
import type { InstanceReport } from "../protocol/instance.ts";
import type { WorkerReport } from "../protocol/mqtt.ts";
import { reportParts } from "./report-parts.ts";

const instance = (number: number, logTail = ""): InstanceReport => ({
  ...{ instanceId: `0123456789abcdef01234567-${number}`, generation: 1, status: "DEAD", detail: "ended" },
  ...{ since: 1, restarts: 0, logTail },
});
const report = (instances: InstanceReport[]): WorkerReport => ({
  ...{ sequence: 4, full: true, manifest: 9, cpuPercent: 1, memoryPercent: 2, addressesFree: 3 },
  ...{ instances, removed: ["0123456789abcdef01234567-99"] },
});

test("reportParts() leaves a report whole that fits", () => {
  for (const whole of [report([]), report([instance(0)])]) assert.deepEqual(reportParts(whole), [whole]);
});

test("reportParts() splits a large report; together the parts say the same, and the last one completes them", () => {
  // Escaped, a byte of output may take six.
  const whole = report(Array.from({ length: 1000 }, (_, number) => instance(number, "\u0007".repeat(1024))));
  const parts = reportParts(whole);
  assert.ok(parts.length > 5);
  for (const part of parts) assert.ok(JSON.stringify(part).length < 2 * 1024 * 1024);
  assert.deepEqual(
    parts.flatMap(({ instances }) => instances),
    whole.instances,
  );
  assert.deepEqual(
    parts.map(({ sequence, full, manifest, removed, addressesFree }) => [
      ...[sequence, full, manifest, removed.length, addressesFree],
    ]),
    parts.map((_, index) => {
      const isLast = index === parts.length - 1;
      return [4 + index, index === 0, isLast ? 9 : 0, isLast ? 1 : 0, index === 0 ? 3 : undefined];
    }),
  );
});
