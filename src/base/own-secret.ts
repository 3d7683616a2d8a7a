import { chmod } from "node:fs/promises";
import { readFileIfAny, writeFileAtomic } from "./atomic-file.ts";
import { secretToken } from "./random.ts";

export interface OwnSecret {
  readonly secret: string;
  /** Made just now: nobody else can know it. */
  readonly isNew: boolean;
}

/** The secret in a private file; makes both when there is none. */
export async function ownSecret(path: string): Promise<OwnSecret> {
  const known = (await readFileIfAny(path))?.trim();
  if (known) {
    await chmod(path, 0o600);
    return { secret: known, isNew: false };
  }
  const secret = secretToken();
  await writeFileAtomic(path, `${secret}\n`);
  return { secret, isNew: true };
}
