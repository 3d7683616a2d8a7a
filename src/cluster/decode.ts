import type * as z from "zod/mini";
import { describeProblems, validate } from "../base/validation.ts";

/** The message, or one line that says what is wrong with it. */
export function decode<T extends z.ZodMiniType>(
  schema: T,
  payload: Buffer,
): { readonly value: z.output<T> } | { readonly problem: string } {
  let json: unknown;
  try {
    json = JSON.parse(payload.toString("utf8"));
  } catch {
    return { problem: "not JSON" };
  }
  const result = validate(schema, json);
  return result.ok ? { value: result.value } : { problem: describeProblems(result.problems) };
}
