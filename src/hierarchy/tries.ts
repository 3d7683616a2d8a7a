/** Which children a move of an instance was tried with in vain, and how long each is left alone. Pure; nothing worth a disk. */

export interface Try {
  readonly reason: string;
  /** Monotonic ms. */
  readonly at: number;
  readonly times: number;
}

/** By child, its last one. */
export type Tries = ReadonlyMap<string, Try>;

const REST_MS = 60_000;
const MAX_REST_MS = 3_600_000;
/** So many rests after a try it is forgotten. */
const FORGET_AFTER_RESTS = 4;

/** Each try doubles it. */
function restOf({ times }: Try): number {
  return Math.min(MAX_REST_MS, REST_MS * 2 ** (times - 1));
}

/** @param now monotonic ms */
export function withTry(tries: Tries, childId: string, reason: string, now: number): Tries {
  const remembered = unforgotten(tries, now);
  const times = (remembered.get(childId)?.times ?? 0) + 1;
  return new Map(remembered).set(childId, { reason, at: now, times });
}

/** Children that are not to be tried now, and why. @param now monotonic ms */
export function resting(tries: Tries, now: number): Map<string, string> {
  const present = [...tries].filter(([, one]) => now - one.at < restOf(one));
  return new Map(present.map(([childId, { reason }]) => [childId, reason]));
}

/** @param now monotonic ms */
export function unforgotten(tries: Tries, now: number): Tries {
  return new Map([...tries].filter(([, one]) => now - one.at < restOf(one) * FORGET_AFTER_RESTS));
}
