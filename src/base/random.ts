import { createHash, randomBytes, randomInt } from "node:crypto";

/** 24 hex characters, the shape of a MongoDB ObjectId, which existing clients expect of every id. */
export function objectId(): string {
  return randomBytes(12).toString("hex");
}

/** URL-safe secret with `bytes` of entropy (default 32). */
export function secretToken(bytes = 32): string {
  return randomBytes(bytes).toString("base64url");
}

/** Digest under which a high-entropy secret may be stored. Not for passwords: those need a slow hash. */
export function secretDigest(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

/** Evenly from 0 to below 1; not for secrets. */
export function fraction(): number {
  return Math.random();
}

/** `ms` spread evenly over ±`share` of itself, so that many clients do not move in step. */
export function jitter(ms: number, share = 0.2): number {
  return Math.round(ms * (1 + (randomInt(0, 2001) / 1000 - 1) * share));
}
