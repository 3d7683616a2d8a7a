/** containerd's ids are at most 76 characters, words joined by single separators; ours may be longer. Pure. */
import { createHash } from "node:crypto";

const MAX_LENGTH = 76;
const VALID = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
const DIGEST_LENGTH = 16;

/** The id itself where containerd takes it, else its beginning with a digest of all of it. */
export function containerdId(containerId: string): string {
  if (containerId.length <= MAX_LENGTH && VALID.test(containerId)) return containerId;
  const words = containerId.slice(0, MAX_LENGTH - DIGEST_LENGTH - 1).match(/[A-Za-z0-9]+/g) ?? [];
  const digest = createHash("sha256").update(containerId).digest("hex").slice(0, DIGEST_LENGTH);
  return [...words, digest].join(".");
}
