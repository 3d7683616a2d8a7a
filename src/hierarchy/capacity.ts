/** Rolls exact figures of workers up into what the tier above may know: ⟨Σ, μ, σ⟩ (paper §3.2). Pure. */
import { type Aggregate, type AggregateGroup, spread } from "../protocol/capacity.ts";
import type { Position } from "../protocol/placement-request.ts";
import type { Quantities } from "../scheduler/candidate.ts";
import { zoneOf } from "../scheduler/zone.ts";

export interface Measured {
  readonly architecture: string;
  readonly virtualization: readonly string[];
  readonly total: Quantities;
  /** Not yet reserved; never negative here, an overcommitted worker has nothing free. */
  readonly free: Quantities;
  readonly cpuPercent: number;
  readonly memoryPercent: number;
  readonly position?: Position | undefined;
}

/** @param workers those that are active; suspect and lost ones leave the aggregate. */
export function aggregate(workers: readonly Measured[]): Aggregate {
  const architectures = [...new Set(workers.map(({ architecture }) => architecture))].sort();
  const zone = zoneOf(workers.map(({ position = {} }) => position));
  return {
    all: group(workers),
    byArchitecture: Object.fromEntries(
      architectures.map((one) => [one, group(workers.filter(({ architecture }) => architecture === one))]),
    ),
    virtualization: [...new Set(workers.flatMap(({ virtualization }) => virtualization))].sort(),
    cpuPercent: spread(workers.map(({ cpuPercent }) => cpuPercent)).mean,
    memoryPercent: spread(workers.map(({ memoryPercent }) => memoryPercent)).mean,
    ...(zone ? { zone } : {}),
  };
}

function group(workers: readonly Measured[]): AggregateGroup {
  const free = (pick: (quantities: Quantities) => number) =>
    spread(workers.map((worker) => Math.max(0, pick(worker.free))));
  return {
    workers: workers.length,
    cpuMillisTotal: workers.reduce((sum, { total }) => sum + total.cpuMillis, 0),
    memoryBytesTotal: workers.reduce((sum, { total }) => sum + total.memoryBytes, 0),
    cpuMillisFree: free(({ cpuMillis }) => cpuMillis),
    memoryBytesFree: free(({ memoryBytes }) => memoryBytes),
    gpusFree: free(({ gpus }) => gpus),
  };
}
