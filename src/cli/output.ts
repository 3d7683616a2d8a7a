/** How results are shown: a table for people, JSON or YAML of the whole document for programs. */
import { styleText } from "node:util";
import { stringify } from "yaml";
import type { Format } from "./output-format.ts";
import type { Terminal } from "./terminal.ts";

export interface Column<T> {
  readonly title: string;
  readonly value: (row: T) => unknown;
}

export type Tone = "good" | "bad" | "waiting" | "plain";

/** Rows as a table, or `documents` (default: the rows) as they are. */
export function showRows<T>(
  terminal: Terminal,
  options: {
    readonly format: Format;
    readonly rows: readonly T[];
    readonly columns: readonly Column<T>[];
    readonly documents?: unknown;
    /** Said instead of an empty table. */
    readonly none: string;
  },
): void {
  const { format, rows, columns, documents = rows, none } = options;
  if (format !== "table") showDocument(terminal, format, documents);
  else if (rows.length === 0) terminal.err(`${none}\n`);
  else terminal.out(renderTable(rows, columns, terminal.colours));
}

/** One document: `name: value` lines for people. */
export function showDocument(terminal: Terminal, format: Format, value: unknown): void {
  if (format === "json") terminal.out(`${JSON.stringify(value, null, 2)}\n`);
  else
    terminal.out(
      format === "yaml" ? stringify(value) : renderFields(value as Record<string, unknown>, terminal.colours),
    );
}

export function renderTable<T>(rows: readonly T[], columns: readonly Column<T>[], colours: boolean): string {
  const cells = rows.map((row) => columns.map((column) => cell(column.value(row))));
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map((line) => line[index]!.length)),
  );
  const line = (parts: readonly string[], paintCell: (text: string) => string) =>
    parts
      .map((part, index) => paintCell(part) + " ".repeat(widths[index]! - part.length))
      .join("  ")
      .trimEnd();
  const heading = line(
    columns.map((column) => column.title),
    (text) => (colours ? styleText("bold", text, { validateStream: false }) : text),
  );
  return `${[heading, ...cells.map((parts) => line(parts, (text) => paint(text, colours)))].join("\n")}\n`;
}

function renderFields(value: Record<string, unknown>, colours: boolean): string {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined && field !== null && field !== "");
  const width = Math.max(0, ...entries.map(([name]) => name.length));
  return entries
    .map(([name, field]) => {
      if (Array.isArray(field) && field.some((item) => typeof item === "object" && item !== null)) {
        return `${name}:\n${indent(printable(stringify(field), true))}`;
      }
      return `${`${name}:`.padEnd(width + 2)}${paint(cell(field), colours)}\n`;
    })
    .join("");
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, "  ");
}

function cell(value: unknown): string {
  if (value === undefined || value === null || value === "") return "-";
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) {
    return value.length === 0 ? "-" : printable(value.join(", "));
  }
  return printable(typeof value === "object" ? JSON.stringify(value) : String(value));
}

/** Control characters of foreign text could steer the reader's terminal: they are shown, not sent. */
export function printable(text: string, keepLines = false): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) =>
    keepLines && (character === "\n" || character === "\t") ? character : character === "\n" ? " " : "\ufffd",
  );
}

const TONES: Readonly<Record<string, Tone>> = {
  RUNNING: "good",
  COMPLETED: "good",
  active: "good",
  online: "good",
  FAILED: "bad",
  DEAD: "bad",
  NoActiveClusterWithCapacity: "bad",
  TargetClusterNotFound: "bad",
  TargetClusterNotActive: "bad",
  TargetClusterNoCapacity: "bad",
  inactive: "bad",
  offline: "bad",
  lost: "bad",
  REQUESTED: "waiting",
  CLUSTER_SCHEDULED: "waiting",
  NODE_SCHEDULED: "waiting",
  PULLING: "waiting",
  CREATING: "waiting",
  NO_WORKER_CAPACITY: "waiting",
  suspect: "waiting",
};
const STYLES = { good: "green", bad: "red", waiting: "yellow" } as const;

export function toneOf(word: string): Tone {
  return TONES[word] ?? "plain";
}

/** Colours a status word; every other text stays as it is. */
export function paint(text: string, colours: boolean): string {
  const tone = toneOf(text);
  return colours && tone !== "plain" ? styleText(STYLES[tone], text, { validateStream: false }) : text;
}

/** `3 s`, `5 min`, `2 h`, `4 d`: the age of something, for a table. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

export function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1_048_576)} MB`;
}
