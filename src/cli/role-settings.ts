/** Settings that every role has, its configuration file, and `--explain`. */
import { readFile } from "node:fs/promises";
import * as z from "zod/mini";
import { AppError, describeError } from "../base/errors.ts";
import { environmentName, flagName, type Resolved, type Settings } from "../base/settings.ts";
import { renderTable } from "./output.ts";
import type { Terminal } from "./terminal.ts";

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

/** Each setting, its value and where it comes from. */
export function explain(terminal: Terminal, settings: Settings, { values, origins }: Resolved<Settings>): void {
  const rows = Object.entries(settings).map(([key, { secret }]) => ({
    key,
    value: secret && values[key] !== undefined ? "[set]" : values[key],
    origin: origins[key],
  }));
  const columns = [
    { title: "SETTING", value: (row: (typeof rows)[number]) => row.key },
    { title: "VALUE", value: (row: (typeof rows)[number]) => row.value },
    { title: "FROM", value: (row: (typeof rows)[number]) => row.origin },
    { title: "FLAG", value: (row: (typeof rows)[number]) => (settings[row.key]?.secret ? "-" : flagName(row.key)) },
    { title: "ENVIRONMENT", value: (row: (typeof rows)[number]) => environmentName(row.key) },
  ];
  terminal.out(renderTable(rows, columns, terminal.colours));
}
