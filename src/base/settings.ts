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

/** @throws AppError CONFIG_INVALID naming the key, its source and its value. */
export function resolveSettings<S extends Settings>(
  settings: S,
  sources: {
    readonly flags: Readonly<Record<string, unknown>>;
    readonly environment: Readonly<Record<string, string | undefined>>;
    readonly file?: { readonly path: string; readonly content: Readonly<Record<string, unknown>> };
  },
): Resolved<S> {
  for (const key of Object.keys(sources.file?.content ?? {})) {
    if (!(key in settings)) throw unknownKey(key, sources.file!.path, Object.keys(settings));
  }
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const [key, setting] of Object.entries(settings)) {
    const candidates: [Origin, unknown][] = [
      ["flag", sources.flags[key]],
      ["environment", sources.environment[environmentName(key)]],
      ["file", sources.file?.content[key]],
      ["default", setting.default],
    ];
    const [origin, raw] = candidates.find(([, value]) => value !== undefined) ?? ["default", undefined];
    const parsed = z.safeParse(setting.schema, raw);
    if (!parsed.success) {
      const shown = setting.secret ? "its value" : JSON.stringify(raw);
      const source = {
        flag: flagName(key),
        environment: environmentName(key),
        file: `"${key}" in ${sources.file?.path}`,
        default: flagName(key),
      }[origin];
      const problem =
        raw === undefined ? "is required" : `does not accept ${shown}: ${parsed.error.issues[0]?.message ?? "invalid"}`;
      throw new AppError("CONFIG_INVALID", `${source} ${problem}. ${setting.help}`, { details: { key, origin } });
    }
    values[key] = parsed.data;
    origins[key] = origin;
  }
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
