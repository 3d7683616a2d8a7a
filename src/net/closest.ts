/** Which live instance is the closest. Pure: the instance on the own worker, else the one whose worker has the lowest round-trip time. */

export interface Candidate {
  readonly number: number;
  readonly workerId: string;
}

export interface ClosestInput {
  readonly candidates: readonly Candidate[];
  readonly selfId: string;
  /** Smoothed, ms; undefined: not measured. */
  readonly rttMs: (workerId: string) => number | undefined;
  /** Number of the instance that is chosen now, if any. */
  readonly current?: number | undefined;
}

/** Another worker must be closer by both, so that measurements that waver do not move traffic. */
const BETTER_BY_SHARE = 0.2;
const BETTER_BY_MS = 2;

/** Undefined when nobody is live. Stays with the current one until it vanishes or another is clearly closer. */
export function chooseClosest({ candidates, selfId, rttMs, current }: ClosestInput): Candidate | undefined {
  const rank = ({ workerId }: Candidate) => (workerId === selfId ? 0 : (rttMs(workerId) ?? Number.POSITIVE_INFINITY));
  const isOwn = ({ workerId }: Candidate) => workerId === selfId;
  const [best] = candidates.toSorted(
    (left, right) =>
      Number(isOwn(right)) - Number(isOwn(left)) || compare(rank(left), rank(right)) || left.number - right.number,
  );
  const held = candidates.find(({ number }) => number === current);
  if (!best || !held) return best;
  if (isOwn(best) !== isOwn(held)) return best;
  if (isOwn(held)) return held;
  const heldMs = rank(held);
  return rank(best) < Math.min(heldMs * (1 - BETTER_BY_SHARE), heldMs - BETTER_BY_MS) ? best : held;
}

/** Infinities are equal. */
function compare(left: number, right: number): number {
  return left === right ? 0 : left - right;
}
