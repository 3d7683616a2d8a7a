/** What workers and clusters have: exact inside a cluster, aggregated towards the root. */
import * as z from "zod/mini";
import { Position } from "./placement-request.ts";
import { Ipv4 } from "./route.ts";

/** One worker, as it describes itself; sent at registration and when it changes. */
export const WorkerInfo = z.object({
  hostname: z.string().check(z.minLength(1), z.maxLength(253)),
  architecture: z.string(),
  cpuMillis: z.int().check(z.positive()),
  /** What instances may use: total minus what the machine needs for itself. */
  memoryBytes: z.int().check(z.positive()),
  gpus: z.int().check(z.nonnegative()),
  virtualization: z.array(z.string()),
  publicIp: z.string(),
  runtime: z.string(),
  version: z.string(),
  labels: z.record(z.string(), z.string()),
  /** Its own, as the operator wrote it; absent: that of its cluster. */
  location: z.optional(z.string().check(z.maxLength(200))),
});
export type WorkerInfo = z.infer<typeof WorkerInfo>;

/** ⟨Σ, μ, σ⟩ of one quantity over the workers of a cluster (paper §3.2); σ is the population standard deviation. */
export const Spread = z.object({ sum: z.number(), mean: z.number(), deviation: z.number() });
export type Spread = z.infer<typeof Spread>;

export const AggregateGroup = z.object({
  workers: z.int(),
  cpuMillisTotal: z.number(),
  memoryBytesTotal: z.number(),
  /** Not yet reserved. */
  cpuMillisFree: Spread,
  memoryBytesFree: Spread,
  gpusFree: Spread,
});
export type AggregateGroup = z.infer<typeof AggregateGroup>;

/** A worker that others measure round-trip times to, so that coordinates of different places agree. */
export const Landmark = z.object({ id: z.string(), address: Ipv4 });
export type Landmark = z.infer<typeof Landmark>;

/** All that a root learns of a cluster's machines. */
export const Aggregate = z.object({
  all: AggregateGroup,
  /** By architecture. */
  byArchitecture: z.record(z.string(), AggregateGroup),
  virtualization: z.array(z.string()),
  /** Measured, mean over workers, 0–100. */
  cpuPercent: z.number(),
  memoryPercent: z.number(),
  /** Where its workers are; absent: nobody knows. */
  zone: z.optional(Position),
});
export type Aggregate = z.infer<typeof Aggregate>;

export function spread(values: readonly number[]): Spread {
  if (values.length === 0) return { sum: 0, mean: 0, deviation: 0 };
  const sum = values.reduce((total, value) => total + value, 0);
  const mean = sum / values.length;
  const variance = values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length;
  return { sum, mean, deviation: Math.sqrt(variance) };
}

/** The most that a single worker can have, given only ⟨Σ, μ, σ⟩ of `workers` of them (Samuelson's inequality): never too low. */
export function upperBound({ mean, deviation }: Spread, workers: number): number {
  return workers === 0 ? 0 : mean + deviation * Math.sqrt(workers - 1);
}
