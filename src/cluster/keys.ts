/** The cluster's own secrets, one private file each, made at first start. */
import { timingSafeEqual } from "node:crypto";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { secretDigest, secretToken } from "../base/random.ts";

export interface OwnSecret {
  readonly secret: string;
  /** Made just now: nobody else can know it. */
  readonly isNew: boolean;
}

/** The secret in the file; makes both when there is none. */
export async function ownSecret(path: string): Promise<OwnSecret> {
  const known = (await readFileIfAny(path))?.trim();
  if (known) return { secret: known, isNew: false };
  const secret = secretToken();
  await writeFileAtomic(path, `${secret}\n`);
  return { secret, isNew: true };
}

/** Compares a presented secret with a stored digest, in a time that tells nothing. */
export function matchesDigest(secret: string, digest: string): boolean {
  return timingSafeEqual(Buffer.from(secretDigest(secret), "hex"), Buffer.from(digest, "hex"));
}
