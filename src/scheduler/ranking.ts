import type { PlacementRequest } from "../protocol/instance.ts";
import type { Candidate } from "./candidate.ts";

/**
 * ROM's strategy function (paper, algorithm 1): what would be left of cpu and of memory, each as a share of the candidate's
 * total so that megabytes do not drown cores. In [-2, 2]; higher is better.
 */
export function leftOver(request: PlacementRequest, { free, total }: Candidate): number {
  const share = (left: number, of: number) => (of > 0 ? left / of : 0);
  return (
    share(free.cpuMillis - request.cpuMillis, total.cpuMillis) +
    share(free.memoryBytes - request.memoryBytes, total.memoryBytes)
  );
}

/** Best candidate first; equal ones by id, so that one snapshot always gives one answer. */
export function rank(request: PlacementRequest, candidates: readonly Candidate[]): Candidate[] {
  const scored = candidates.map((candidate) => ({ candidate, score: leftOver(request, candidate) }));
  scored.sort((a, b) => b.score - a.score || (a.candidate.id < b.candidate.id ? -1 : 1));
  return scored.map(({ candidate }) => candidate);
}
