/** From the bytes of a body to a value that its schema accepts, or an error that says what is wrong where. */
import type * as z from "zod/mini";
import { AppError } from "../../base/errors.ts";
import { describeProblems, type Problem, validate } from "../../base/validation.ts";
import type { HttpRequest } from "../../transport/http-message.ts";

/** Far more than any descriptor needs, little enough for everything that walks a value. */
const MAX_DEPTH = 64;

/** @throws AppError UNSUPPORTED_MEDIA_TYPE | BODY_TOO_LARGE | INVALID_JSON | INVALID_BODY */
export async function readBody<T extends z.ZodMiniType>(request: HttpRequest, schema: T): Promise<z.output<T>> {
  const type = request.headers["content-type"] ?? "";
  if (!/^application\/(?:[\w.-]+\+)?json\s*(?:;|$)/i.test(type)) {
    const given = type === "" ? "without a Content-Type" : `as ${JSON.stringify(type)}`;
    throw new AppError("UNSUPPORTED_MEDIA_TYPE", `The body was sent ${given}: send it as application/json`);
  }
  return checked(schema, parseJson(await request.text()));
}

/** @throws AppError INVALID_BODY */
export function checked<T extends z.ZodMiniType>(schema: T, value: unknown): z.output<T> {
  const result = validate(schema, value);
  if (result.ok) return result.value;
  throw invalidBody(result.problems);
}

export function invalidBody(problems: readonly Problem[]): AppError {
  return new AppError("INVALID_BODY", describeProblems(problems), { details: { problems } });
}

/** @throws AppError INVALID_JSON with the position where the parser tells it, INVALID_BODY for absurd nesting */
export function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (isDeeperThan(text, MAX_DEPTH))
      throw invalidBody([{ field: "", message: `nested deeper than ${MAX_DEPTH} levels` }]);
    return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const position = positionOf(error.message, text);
    throw new AppError("INVALID_JSON", `The body is not JSON: ${error.message}`, {
      details: position === undefined ? {} : { position, ...lineAndColumn(text, position) },
    });
  }
}

function positionOf(message: string, text: string): number | undefined {
  if (message.includes("end of JSON")) return text.length;
  const match = /at position (\d+)/.exec(message);
  return match ? Number(match[1]) : undefined;
}

function lineAndColumn(text: string, position: number): { line: number; column: number } {
  const before = text.slice(0, position).split("\n");
  return { line: before.length, column: before.at(-1)!.length + 1 };
}

/** By hand, because whatever recursed over such a value would fail on it. @param json well-formed */
function isDeeperThan(json: string, limit: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (inString) {
      if (character === "\\") at += 1;
      else if (character === '"') inString = false;
    } else if (character === '"') inString = true;
    else if (character === "[" || character === "{") depth += 1;
    else if (character === "]" || character === "}") depth -= 1;
    if (depth > limit) return true;
  }
  return false;
}
