/** What a setting accepts, in a few words made from its schema. Pure. */
import * as z from "zod/mini";
import type { Setting } from "../base/settings.ts";

interface Shape {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxLength?: number;
  readonly format?: string;
}

/** `0 to 65535`, `best-fit, first-fit or nearest`, `on or off`, `a URL`, `text`. */
export function accepted({ schema, default: value }: Setting): string {
  if (typeof value === "boolean") return "on or off";
  const { type, enum: words, minimum, maximum, format } = shapeOf(schema);
  if (words) return either(words.map(String));
  if (type === "number" || type === "integer") {
    return minimum === undefined || maximum === undefined ? "a number" : `${minimum} to ${maximum}`;
  }
  if (format === "uri") return "a URL";
  return type === "object" ? "key=value, …" : type === "array" ? "a list" : "text";
}

function shapeOf(schema: z.ZodMiniType): Shape {
  const { anyOf, ...shape } = z.toJSONSchema(schema, { io: "output", unrepresentable: "any" }) as Shape & {
    anyOf?: readonly Shape[];
  };
  return { ...anyOf?.[0], ...shape };
}

function either(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}
