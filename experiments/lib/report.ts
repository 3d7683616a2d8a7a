/** Tables for people, samples for whoever wants to look again. */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** `123 (101..150)`: median and range. */
export function spread(values: readonly number[], digits = 0): string {
  if (values.length === 0) return "none";
  return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}..${Math.max(...values).toFixed(digits)})`;
}

export function table(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...body] = rows;
  console.log(
    [line(head!), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...body.map(line)].join("\n"),
  );
}

/** Prints whether a target is met; a missed one makes the experiment fail. */
export function verdict(claim: string, isMet: boolean): void {
  console.log(`${isMet ? "met   " : "MISSED"} ${claim}`);
  if (!isMet) process.exitCode = 1;
}

export function keep(experimentUrl: string, results: unknown): void {
  const folder = join(dirname(fileURLToPath(experimentUrl)), "results");
  mkdirSync(folder, { recursive: true });
  const at = new Date().toISOString().replaceAll(/[:.]/g, "-");
  const machine = {
    cpus: cpus().length,
    cpu: cpus()[0]?.model,
    memoryMb: Math.round(totalmem() / 1e6),
    kernel: release(),
  };
  const path = join(folder, `${at}.json`);
  writeFileSync(path, JSON.stringify({ at, machine, loadAverage: loadavg(), node: process.version, results }, null, 1));
  console.log(`samples: experiments/${basename(dirname(folder))}/results/${basename(path)}`);
}
