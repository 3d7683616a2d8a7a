/** What a lab keeps of itself: the topology as it was given, its addresses, and what is cut. The plan follows from these. */
import { join } from "node:path";
import * as z from "zod/mini";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { AppError } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";

const LabRecord = z.strictObject({
  /** As `parseTopology` takes it. */
  topology: z.unknown(),
  network: z.string(),
  hasNetem: z.boolean(),
  cuts: z.array(z.strictObject({ a: z.string(), b: z.optional(z.string()) })),
});
export type LabRecord = z.infer<typeof LabRecord>;

/** @throws AppError LAB_DAMAGED */
export async function readRecord(folder: string): Promise<LabRecord | undefined> {
  const path = pathOf(folder);
  const text = await readFileIfAny(path);
  if (text === undefined) return undefined;
  const result = validate(LabRecord, parse(text));
  if (result.ok) return result.value;
  throw new AppError(
    "LAB_DAMAGED",
    `"${path}" is damaged (${describeProblems(result.problems)}): "oak lab down" removes the lab all the same`,
  );
}

export async function writeRecord(folder: string, record: LabRecord): Promise<void> {
  await writeFileAtomic(pathOf(folder), `${JSON.stringify(record, null, 2)}\n`);
}

const pathOf = (folder: string) => join(folder, "lab.json");

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text; // the schema tells what it is not
  }
}
