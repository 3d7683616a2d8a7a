import { timingSafeEqual } from "node:crypto";
import { secretDigest } from "../base/random.ts";

/** Compares a presented secret with a stored digest, in a time that tells nothing. */
export function matchesDigest(secret: string, digest: string): boolean {
  return timingSafeEqual(Buffer.from(secretDigest(secret), "hex"), Buffer.from(digest, "hex"));
}
