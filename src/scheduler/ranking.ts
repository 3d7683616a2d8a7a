/** How good a candidate is among those that fit: higher is better. Pure. */
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Candidate, StrategyName } from "./candidate.ts";
import { likelihood } from "./likelihood.ts";
import { type Nearness, shareWithin } from "./nearness.ts";

/** So many of the best are named in a decision. */
export const RANKING_LENGTH = 16;

/** A cluster that has siblings is worth half a chance of being declined; a worker that has them, a tenth of its room. */
const TOGETHER = { cluster: 0.5, worker: 0.1 } as const;
/** A worker that has replicas of the service comes after all that have fewer. */
const REPLICA = 2;
/** Among clusters that are about equally likely to have room, the emptier one. */
const ROOM = 0.1;

type Fitness = (request: PlacementRequest, candidate: Candidate, near: readonly Nearness[]) => number;

/** Each in [0, 1] for whatever passed the rules. */
export const STRATEGIES: Readonly<Record<StrategyName, Fitness>> = {
  "best-fit": (request, candidate) => leftOver(request, candidate) / 2,
  /** The first that fits is the best. */
  "first-fit": () => 0,
  /** Closest to the services and users that it must be near; of equally close ones the roomier. */
  nearest: (request, candidate, near) =>
    (closeness(candidate, near) + ROOM * (leftOver(request, candidate) / 2)) / (1 + ROOM),
};

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

/** The score that candidates are ordered by; those of equal score by id, so that one snapshot always gives one answer. */
export function score(
  strategy: StrategyName,
  request: PlacementRequest,
  candidate: Candidate,
  near: readonly Nearness[],
): number {
  const fitness = STRATEGIES[strategy](request, candidate, near);
  const { aggregated, applications, replicas } = candidate;
  const hasSiblings = request.applicationId !== undefined && applications?.has(request.applicationId);
  if (!aggregated) {
    const copies = (request.serviceName !== undefined && replicas?.get(request.serviceName)) || 0;
    return fitness - REPLICA * copies + (hasSiblings ? TOGETHER.worker : 0);
  }
  const chance = near.reduce((all, one) => all * shareWithin(one, candidate), likelihood(request, aggregated));
  return chance + ROOM * Math.min(1, fitness) + (hasSiblings ? TOGETHER.cluster : 0);
}

function closeness(candidate: Candidate, near: readonly Nearness[]): number {
  if (near.length === 0) return 0;
  const each = near.map(({ range, threshold }) => {
    const distance = range(candidate);
    return typeof distance === "string" || threshold === 0 ? 0 : Math.max(0, 1 - distance.least / threshold);
  });
  return each.reduce((sum, one) => sum + one, 0) / near.length;
}

export interface Scored {
  readonly candidate: Candidate;
  readonly score: number;
}

/** Keeps the best of many without sorting them all: insertion into a short ordered list. */
export class Best {
  readonly #length: number;
  readonly #list: Scored[] = [];

  constructor(length = RANKING_LENGTH) {
    this.#length = length;
  }

  add(candidate: Candidate, score: number): void {
    const list = this.#list;
    if (list.length === this.#length && !isBetter(candidate, score, list[list.length - 1]!)) return;
    let at = list.length;
    while (at > 0 && isBetter(candidate, score, list[at - 1]!)) at--;
    list.splice(at, 0, { candidate, score });
    if (list.length > this.#length) list.pop();
  }

  /** Best first. */
  get list(): readonly Scored[] {
    return this.#list;
  }
}

function isBetter(candidate: Candidate, score: number, other: Scored): boolean {
  return score > other.score || (score === other.score && candidate.id < other.candidate.id);
}
