/** The login file: which root, who, and the tokens; readable by its owner only. */
import { rm } from "node:fs/promises";
import * as z from "zod/mini";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { AppError } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";

const Credentials = z.looseObject({
  server: z.string(),
  user: z.string(),
  token: z.string(),
  refreshToken: z.string(),
});
export type Credentials = z.infer<typeof Credentials>;

/** @throws AppError CREDENTIALS_INVALID when the file is not ours */
export async function readCredentials(path: string): Promise<Credentials | undefined> {
  const text = await readFileIfAny(path);
  if (text === undefined) return undefined;
  const result = validate(Credentials, parse(text));
  if (result.ok) return result.value;
  throw new AppError(
    "CREDENTIALS_INVALID",
    `The login file "${path}" is damaged (${describeProblems(result.problems)}): run "oak login" to write it anew`,
  );
}

export async function writeCredentials(path: string, credentials: Credentials): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(credentials, null, 2)}\n`, 0o600);
}

export async function removeCredentials(path: string): Promise<void> {
  await rm(path, { force: true });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text; // the schema tells what it is not
  }
}
