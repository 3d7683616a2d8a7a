/** `oak config explain`: what a role would be told if it were started so. */
import { Command } from "commander";
import { AppError } from "../../base/errors.ts";
import { environmentName, flagName, type Inspected, inspectSettings, type Setting } from "../../base/settings.ts";
import { accepted } from "../accepted.ts";
import { output } from "../command-options.ts";
import { type Edge, ROLES, type RoleName } from "../edge.ts";
import { type Column, printable, renderTable, showDocument } from "../output.ts";
import type { Format } from "../output-format.ts";
import { readConfig } from "../role-settings.ts";
import { addSettings, typedSettings } from "../settings-options.ts";

interface Explained {
  readonly setting: string;
  readonly value: unknown;
  readonly origin: string;
  readonly source: string;
  readonly accepts: string;
  readonly meaning: string;
  readonly flag: string | null;
  readonly environment: string;
  readonly problem?: string;
}

const COLUMNS: readonly Column<Explained>[] = [
  { title: "SETTING", value: ({ setting }) => setting },
  { title: "VALUE", value: ({ value, problem }) => `${problem === undefined ? "" : "✗ "}${text(value)}` },
  { title: "FROM", value: ({ origin, source }) => (origin === "default" ? origin : source) },
  { title: "ACCEPTS", value: ({ accepts }) => accepts },
  { title: "MEANING", value: ({ meaning }) => meaning },
];

/** @param words the role, then its flags; a role that is left out is `up` */
export async function explain(edge: Edge, words: readonly string[], outer: { readonly output: Format }): Promise<void> {
  const isNamed = words[0] !== undefined && !words[0].startsWith("-");
  const role = roleOf(isNamed ? words[0]! : "up");
  const table = await edge.roleSettings(role);
  const typed = parseFlags(edge, role, { table, words: isNamed ? words.slice(1) : words });
  const configPath = typed.config ?? edge.environment.OAK_CONFIG;
  const { settings, unknown } = inspectSettings(table, {
    flags: typedSettings(table, typed),
    environment: edge.environment,
    ...(configPath === undefined ? {} : { file: await readConfig(configPath) }),
  });
  const rows = settings.map((one) => explained(one, table[one.key]!));
  const problems = [...unknown.map(({ message }) => message), ...rows.flatMap(({ problem }) => problem ?? [])];
  const format = typed.output ?? outer.output;
  if (format === "table") edge.terminal.out(renderTable(rows, COLUMNS, edge.terminal.colours));
  else showDocument(edge.terminal, format, { role, config: configPath ?? null, settings: rows, problems });
  if (["cluster", "worker"].includes(role) && edge.environment.OAK_JOIN_TOKEN)
    edge.terminal.err("OAK_JOIN_TOKEN is set: the join token is taken from there, before joinTokenFile\n");
  if (problems.length > 0) throw new AppError("CONFIG_INVALID", problems.map((one) => printable(one)).join("\noak: "));
}

function roleOf(word: string): RoleName {
  const role = ROLES.find((one) => one === word);
  if (role) return role;
  throw new AppError("USAGE", `"${word}" is not a role: write ${ROLES.join(", ")}`);
}

/** As the role's own command would read them. */
function parseFlags(
  edge: Edge,
  role: RoleName,
  { table, words }: { readonly table: Readonly<Record<string, Setting>>; readonly words: readonly string[] },
): Record<string, unknown> & { readonly config?: string; readonly output?: Format } {
  const command = new Command(`oak config explain ${role}`)
    .option("--config <file>")
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (line) => edge.terminal.out(line),
      writeErr: (line) => edge.terminal.err(line),
      outputError: (line, write) => write(line.replace(/^error: /, "oak: ")),
    });
  addSettings(command, table);
  output(command);
  command.parse(words, { from: "user" });
  const { output: format, ...options } = command.opts();
  return command.getOptionValueSource("output") === "default" ? options : { ...options, output: format };
}

function explained({ key, origin, source, given, value, problem }: Inspected, setting: Setting): Explained {
  const shown = problem === undefined ? value : given;
  return {
    setting: key,
    value: setting.secret ? (shown === undefined ? null : "[set]") : masked(shown ?? null),
    ...{ origin, source: origin === "default" ? "default" : source },
    accepts: accepted(setting),
    meaning: setting.help,
    flag: setting.secret ? null : flagName(key),
    environment: environmentName(key),
    ...(problem === undefined ? {} : { problem: masked(problem.message) as string }),
  };
}

/** A URL may hold a password: `https://user:…@host`. */
function masked(value: unknown): unknown {
  return typeof value === "string" ? value.replace(/(\/\/[^\s/@:]*:)[^\s/@]*@/g, "$1[hidden]@") : value;
}

function text(value: unknown): string {
  if (value === null) return "-";
  if (Array.isArray(value)) return value.join(",");
  if (typeof value !== "object") return printable(String(value));
  return Object.entries(value)
    .map(([name, one]) => `${name}=${one}`)
    .join(",");
}
