/**
 * Configuration: one table of settings a role. Flags beat environment, which beats the file, which beats the default.
 * Unknown keys are errors with a suggestion. Resolved once at the edge, then handed down.
 */
import * as z from "zod/mini";
import { AppError } from "./errors.ts";
import "./validation.ts"; // the messages of the schemas

export interface Setting {
  /** Accepts the typed value and its text form (use z.coerce for numbers). */
  readonly schema: z.ZodMiniType;
  /** One sentence, with the unit. */
  readonly help: string;
  readonly default?: unknown;
  /** Value is a secret: shown as [set], and never accepted as a flag (it would stand in the process list). */
  readonly secret?: boolean;
}

export type Settings = Readonly<Record<string, Setting>>;
export type Values<S extends Settings> = { readonly [K in keyof S]: z.output<S[K]["schema"]> };
export type Origin = "flag" | "environment" | "file" | "default";

export interface Resolved<S extends Settings> {
  readonly values: Values<S>;
  readonly origins: Readonly<Record<keyof S & string, Origin>>;
}

/** `dataDir` → `--data-dir`; `OAK_DATA_DIR`. */
export const flagName = (key: string): string => `--${dashed(key)}`;
export const environmentName = (key: string): string => `OAK_${dashed(key).replaceAll("-", "_").toUpperCase()}`;
const dashed = (key: string) => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** A boolean that may come as text from the environment. */
export const Switch = z.pipe(
  z.union([z.boolean(), z.enum(["true", "false", "1", "0", "yes", "no", "on", "off"])]),
  z.transform((value): boolean => (typeof value === "boolean" ? value : ["true", "1", "yes", "on"].includes(value))),
);

export interface Sources {
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly file?: { readonly path: string; readonly content: Readonly<Record<string, unknown>> };
}

/** A setting as it was found: with its value, or with what is wrong with it. */
export interface Inspected {
  readonly key: string;
  readonly origin: Origin;
  /** In words: `--port`, `OAK_PORT`, `"port" in /etc/oak.yaml`, or the flag that it may come from. */
  readonly source: string;
  /** As it was written. */
  readonly given: unknown;
  readonly value?: unknown;
  readonly problem?: AppError;
}

/** Every setting of the table, and what is no setting; nothing is thrown. */
export function inspectSettings(
  settings: Settings,
  sources: Sources,
): { readonly settings: readonly Inspected[]; readonly unknown: readonly AppError[] } {
  const { file } = sources;
  const known = Object.keys(settings);
  const unknown = Object.keys(file?.content ?? {})
    .filter((key) => !Object.hasOwn(settings, key))
    .map((key) => unknownKey(key, file!.path, known));
  return { settings: Object.entries(settings).map(([key, setting]) => inspect(key, setting, sources)), unknown };
}

function inspect(key: string, setting: Setting, { flags, environment, file }: Sources): Inspected {
  const candidates: [Origin, unknown, string][] = [
    ["flag", flags[key], flagName(key)],
    ["environment", environment[environmentName(key)], environmentName(key)],
    ["file", file?.content[key], `"${key}" in ${file?.path}`],
    ["default", setting.default, setting.secret ? environmentName(key) : flagName(key)],
  ];
  const [origin, given, source] = candidates.find(([, value]) => value !== undefined) ?? candidates.at(-1)!;
  const parsed = z.safeParse(setting.schema, given);
  if (parsed.success) return { key, origin, source, given, value: parsed.data };
  const shown = setting.secret ? "its value" : JSON.stringify(given);
  const problem =
    given === undefined ? "is required" : `does not accept ${shown}: ${parsed.error.issues[0]?.message ?? "invalid"}`;
  const details = { key, origin };
  return {
    ...{ key, origin, source, given },
    problem: new AppError("CONFIG_INVALID", `${source} ${problem}. ${setting.help}`, { details }),
  };
}

/** @throws AppError CONFIG_INVALID naming the key, its source and its value. */
export function resolveSettings<S extends Settings>(settings: S, sources: Sources): Resolved<S> {
  const { settings: inspected, unknown } = inspectSettings(settings, sources);
  const problem = unknown[0] ?? inspected.find((one) => one.problem)?.problem;
  if (problem) throw problem;
  const values = Object.fromEntries(inspected.map(({ key, value }) => [key, value]));
  const origins = Object.fromEntries(inspected.map(({ key, origin }) => [key, origin]));
  return { values: values as Values<S>, origins: origins as Resolved<S>["origins"] };
}

function unknownKey(key: string, path: string, known: readonly string[]): AppError {
  const near = known.find((candidate) => candidate.toLowerCase().startsWith(key.slice(0, 4).toLowerCase()));
  return new AppError(
    "CONFIG_INVALID",
    `"${key}" in ${path} is not a setting${near ? `; did you mean "${near}"?` : `: known are ${known.join(", ")}`}`,
    {
      details: { key },
    },
  );
}
