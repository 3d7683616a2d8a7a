/** Membership of the tier below, as pure functions of when each child was last heard from. */

export interface ChildContact {
  readonly id: string;
  /** Epoch ms of the last message; the child's own clock plays no part. */
  readonly heardAt: number;
  /** False as soon as the link is known to be down (closed, last will). */
  readonly connected: boolean;
}

export type Liveness = "active" | "suspect" | "lost";

export interface LivenessOptions {
  readonly suspectAfterMs: number;
  readonly lostAfterMs: number;
}

/** Suspect children get nothing new; what lost children had is placed anew. */
export function liveness(child: ChildContact, now: number, { suspectAfterMs, lostAfterMs }: LivenessOptions): Liveness {
  const silentMs = now - child.heardAt;
  if (silentMs >= lostAfterMs) return "lost";
  return child.connected && silentMs < suspectAfterMs ? "active" : "suspect";
}

/**
 * The ids whose instances may be placed elsewhere. When most of several children fall silent together, our own link is the
 * likelier culprit: then none is given up (users lose more by a mass move than by waiting).
 */
export function lostChildren(
  children: readonly ChildContact[],
  now: number,
  options: LivenessOptions,
): ReadonlySet<string> {
  const lost = children.filter((child) => liveness(child, now, options) === "lost");
  const brake = children.length >= 3 && lost.length * 2 > children.length && spanMs(lost) < options.suspectAfterMs;
  return new Set(brake ? [] : lost.map(({ id }) => id));
}

function spanMs(children: readonly ChildContact[]): number {
  const times = children.map(({ heardAt }) => heardAt);
  return Math.max(...times) - Math.min(...times);
}
