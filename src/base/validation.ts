import * as z from "zod/mini";
import en from "zod/v4/locales/en.js";

// zod/mini ships no messages by default; without the compiler it costs 3 MB instead of 12.
z.config({ ...en(), jitless: true });

export interface Problem {
  /** `applications[0].microservices[1].memory`; empty for the whole value. */
  readonly field: string;
  readonly message: string;
}

/** The value, or what is wrong with it, most specific first: at most ten problems. */
export function validate<T extends z.ZodMiniType>(
  schema: T,
  value: unknown,
): { ok: true; value: z.output<T> } | { ok: false; problems: Problem[] } {
  const parsed = z.safeParse(schema, value);
  if (parsed.success) return { ok: true, value: parsed.data };
  const problems = parsed.error.issues
    .slice(0, 10)
    .map((issue) => ({ field: fieldPath(issue.path), message: issue.message }));
  return { ok: false, problems };
}

/** One line for people: `memory: expected int …; port: …`. */
export function describeProblems(problems: readonly Problem[]): string {
  return problems.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("; ");
}

function fieldPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text ? `${text}.${String(part)}` : String(part)),
    "",
  );
}
