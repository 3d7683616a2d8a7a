/** A report as messages that are small enough for the broker, which cuts the connection for larger ones. Pure. */
import type { WorkerReport } from "../protocol/mqtt.ts";

/** Half of what the broker accepts. */
const MAX_REPORT_BYTES = 1024 * 1024;

/**
 * Numbered consecutively. Only the last one says that the manifest is taken over: until then the cluster cannot take an instance
 * for gone that is not listed yet.
 */
export function reportParts(report: WorkerReport, maxBytes = MAX_REPORT_BYTES): WorkerReport[] {
  const { sequence, manifest, cpuPercent, memoryPercent, instances, removed } = report;
  const groups = groupsOf(instances, maxBytes);
  if (groups.length < 2) return [report];
  return groups.map((group, index) => {
    const isLast = index === groups.length - 1;
    return {
      ...(index === 0 ? report : { sequence: sequence + index, full: false, cpuPercent, memoryPercent }),
      ...{ manifest: isLast ? manifest : 0, instances: group, removed: isLast ? removed : [] },
    };
  });
}

function groupsOf<T>(values: readonly T[], maxBytes: number): T[][] {
  const groups: T[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const value of values) {
    const size = Buffer.byteLength(JSON.stringify(value));
    if (bytes + size > maxBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(value);
    bytes += size;
  }
  return groups;
}
