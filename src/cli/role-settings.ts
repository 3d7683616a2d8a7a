/** Settings that every role has, and its configuration file. */
import { readFile } from "node:fs/promises";
import * as z from "zod/mini";
import { AppError, describeError } from "../base/errors.ts";
import type { Settings } from "../base/settings.ts";

export const COMMON_SETTINGS = {
  logLevel: {
    schema: z.enum(["debug", "info", "warn", "error"]),
    help: "debug, info, warn or error.",
    default: "info",
  },
  logFormat: {
    schema: z.enum(["auto", "text", "json"]),
    help: "text, json, or auto: text for a terminal, JSON for anything else.",
    default: "auto",
  },
} as const satisfies Settings;

/** @throws AppError CONFIG_INVALID */
export async function readConfig(path: string): Promise<{ path: string; content: Record<string, unknown> }> {
  const { parse } = await import("yaml");
  let content: unknown;
  try {
    content = parse(await readFile(path, "utf8")) ?? {};
  } catch (cause) {
    throw new AppError("CONFIG_INVALID", `Cannot read "${path}": ${describeError(cause)}`, { cause });
  }
  if (typeof content === "object" && !Array.isArray(content))
    return { path, content: content as Record<string, unknown> };
  throw new AppError("CONFIG_INVALID", `"${path}" must hold settings as "name: value"`);
}
