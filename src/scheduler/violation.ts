/**
 * When a promise that was kept at placement is broken in operation: the instance is to move. Pure.
 *
 * Over the last `convergenceMs`, of `requests` measurements `successes` were within the threshold. Broken is
 * successes < rigidness × requests; kept again only at half of the missing share (0.9 → 0.95), so that a service on the brink does
 * not flap. An instance moves when the promise was broken for all of `convergenceMs`, then rests: each move doubles the rest,
 * and a quiet time four times as long as the rest forgets the moves.
 */
import type { Link } from "../protocol/placement-request.ts";

export interface Promised extends Pick<Link, "measure" | "threshold" | "rigidness" | "convergenceMs"> {
  /** To what: a service or users, as a verdict names it. */
  readonly to: string;
}

/** All that is kept of one link of one instance; stored and sent as it is. */
export interface Watch {
  /** Oldest first, at most `BUCKETS` + 1 of them. */
  readonly buckets: readonly Bucket[];
  /** Since when it has been broken. */
  readonly brokenSince?: number | undefined;
  readonly moves: number;
  readonly movedAt?: number | undefined;
}

interface Bucket {
  /** Start, monotonic ms of whoever counts. */
  readonly at: number;
  readonly requests: number;
  readonly successes: number;
}

export const UNWATCHED: Watch = { buckets: [], moves: 0 };

/** What the paper's descriptor has where it says nothing. */
export const DEFAULT_CONVERGENCE_MS = 300_000;
const MIN_CONVERGENCE_MS = 5_000;
/** A window is counted in so many parts. */
const BUCKETS = 10;
/** Fewer measurements in the window prove nothing. */
const MIN_REQUESTS = 5;
const REST_MS = 60_000;
const MAX_REST_MS = 3_600_000;
/** Rests without a move after which the moves are forgotten. */
const FORGET_AFTER_RESTS = 4;

export type Assessment =
  | { readonly state: "kept" | "unknown" }
  | { readonly state: "broken" | "resting"; readonly reason: string }
  | { readonly state: "move"; readonly reason: string };

/**
 * The watch after one measurement; an absurd one (NaN, negative) is none.
 * @param now monotonic ms of this process: nobody else's clock plays a part
 * @param measured ms or km; undefined: no answer
 */
export function observe(watch: Watch, promised: Promised, measured: number | undefined, now: number): Watch {
  if (measured !== undefined && !(measured >= 0)) return watch;
  const windowMs = windowOf(promised);
  const success = measured !== undefined && measured <= promised.threshold ? 1 : 0;
  const last = watch.buckets.at(-1);
  const isNew = !last || last.at > now || now - last.at >= windowMs / BUCKETS;
  const bucket = isNew ? { at: now, requests: 1, successes: success } : add(last, success);
  const kept = (isNew ? watch.buckets : watch.buckets.slice(0, -1)).filter(
    ({ at }) => at > now - windowMs && at <= now,
  );
  return judge({ ...watch, buckets: [...kept, bucket] }, promised, now);
}

/** What follows from the watch at this moment. Measurements that stopped coming prove nothing. */
export function assess(watch: Watch, promised: Promised, now: number): Assessment {
  const { requests, successes } = total(watch, promised, now);
  if (promised.rigidness === undefined || promised.rigidness === 0 || requests < MIN_REQUESTS) {
    return { state: "unknown" };
  }
  if (watch.brokenSince === undefined) return { state: "kept" };
  const { measure, threshold, rigidness, to } = promised;
  const unit = measure === "latency" ? "ms" : "km";
  const reason = `${measure} to ${to} was within ${threshold} ${unit} in ${successes} of ${requests} measurements, promised are ${percent(rigidness)}`;
  if (now - watch.brokenSince < windowOf(promised)) return { state: "broken", reason };
  const restMs = restOf(watch, promised);
  if (watch.movedAt !== undefined && now - watch.movedAt < restMs) {
    const seconds = Math.ceil((watch.movedAt + restMs - now) / 1000);
    return { state: "resting", reason: `${reason}; moved ${watch.moves} times lately, stays for ${seconds} s more` };
  }
  return { state: "move", reason };
}

/** The watch once the instance has been moved, or a search has found no better place: measurements begin anew. */
export function moved(watch: Watch, now: number): Watch {
  return { buckets: [], moves: watch.moves + 1, movedAt: now };
}

function judge(watch: Watch, promised: Promised, now: number): Watch {
  const { rigidness = 0 } = promised;
  const { requests, successes } = total(watch, promised, now);
  const calmed = calm(watch, promised, now);
  if (requests < MIN_REQUESTS) return calmed;
  if (calmed.brokenSince === undefined) {
    return successes < rigidness * requests ? { ...calmed, brokenSince: now } : calmed;
  }
  const isKept = successes >= (rigidness + (1 - rigidness) / 2) * requests;
  return isKept ? { ...calmed, brokenSince: undefined } : calmed;
}

function calm(watch: Watch, promised: Promised, now: number): Watch {
  if (watch.movedAt === undefined || watch.brokenSince !== undefined) return watch;
  const isForgotten = now - watch.movedAt > restOf(watch, promised) * FORGET_AFTER_RESTS;
  return isForgotten ? { buckets: watch.buckets, moves: 0 } : watch;
}

function restOf({ moves }: Watch, promised: Promised): number {
  const first = Math.max(REST_MS, 2 * windowOf(promised));
  return Math.max(first, Math.min(MAX_REST_MS, first * 2 ** Math.max(0, moves - 1)));
}

function windowOf({ convergenceMs }: Promised): number {
  return Math.max(MIN_CONVERGENCE_MS, convergenceMs ?? DEFAULT_CONVERGENCE_MS);
}

function total({ buckets }: Watch, promised: Promised, now: number): { requests: number; successes: number } {
  const inside = buckets.filter(({ at }) => at > now - windowOf(promised) && at <= now);
  return {
    requests: inside.reduce((sum, { requests }) => sum + requests, 0),
    successes: inside.reduce((sum, { successes }) => sum + successes, 0),
  };
}

function add({ at, requests, successes }: Bucket, success: number): Bucket {
  return { at, requests: requests + 1, successes: successes + success };
}

function percent(share: number): string {
  return `${Math.round(share * 1000) / 10} %`;
}
