/**
 * How likely it is that a cluster, known only by ⟨Σ, μ, σ⟩, has a worker that the request fits on. Pure.
 *
 * - Certain (1) when μ of each resource is enough and Σᵢ σᵢ² / (σᵢ² + (μᵢ − rᵢ)²) < 1: by Cantelli's inequality that sum
 *   bounds the share of workers that lack anything, and where it is below one, some worker lacks nothing.
 * - Impossible (0) when r > μ + σ√(n−1) (Samuelson's inequality), for any resource.
 * - Between the two, free capacity is taken as normally distributed and independent between resources and workers:
 *   q = Πᵢ (1 − Φ((rᵢ − μᵢ) / σᵢ)) for one worker, 1 − (1 − q)ⁿ for the cluster.
 *
 * What was handed over since the figures were told lowers μ by its share, and makes nothing certain.
 */
import { type AggregateGroup, type Spread, upperBound } from "../protocol/capacity.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Aggregated, Quantities } from "./candidate.ts";

/** What is not certain is less than it. */
const MAX_ESTIMATE = 0.99;

/** In [0, 1]; over several groups (architectures), that at least one of them has such a worker. */
export function likelihood(request: PlacementRequest, { groups, reserved }: Aggregated): number {
  const workers = groups.reduce((sum, group) => sum + group.workers, 0);
  const missing = groups.reduce((product, group) => product * (1 - ofGroup(request, group, reserved, workers)), 1);
  return 1 - missing;
}

function ofGroup(request: PlacementRequest, group: AggregateGroup, reserved: Quantities, workers: number): number {
  if (group.workers === 0) return 0;
  const resources: [number, Spread, number][] = [
    [request.cpuMillis, group.cpuMillisFree, reserved.cpuMillis],
    [request.memoryBytes, group.memoryBytesFree, reserved.memoryBytes],
    [request.gpus, group.gpusFree, reserved.gpus],
  ];
  let lacking = 0;
  let each = 1;
  let isSettled = true;
  for (const [needed, spread, used] of resources) {
    if (needed <= 0) continue;
    // The bound goes through a square root, whose last digits may be missing.
    if (needed > upperBound(spread, group.workers) + 0.5) return 0;
    if (used > 0) isSettled = false;
    const mean = spread.mean - used / workers;
    lacking += shareBelow(needed, mean, spread.deviation);
    each *= normalTail(needed, mean, spread.deviation);
  }
  if (lacking < 1 && isSettled) return 1;
  return Math.min(MAX_ESTIMATE, 1 - (1 - each) ** group.workers);
}

/** Cantelli: at most this share of workers has less than `needed`. */
function shareBelow(needed: number, mean: number, deviation: number): number {
  const margin = mean - needed;
  if (margin < 0) return 1;
  return deviation === 0 ? 0 : deviation ** 2 / (deviation ** 2 + margin ** 2);
}

/** P(X ≥ x) of a normal distribution, by the logistic approximation of Φ (Bowling et al. 2009; off by at most 0.00014). */
function normalTail(x: number, mean: number, deviation: number): number {
  if (deviation === 0) return mean >= x ? 1 : 0;
  const z = (x - mean) / deviation;
  return 1 / (1 + Math.exp(0.07056 * z ** 3 + 1.5976 * z));
}
