/** How long does it take to decide a placement, and how good is it? Figures 2 and 10 of the paper, with the product's own functions. */
import { parseArgs } from "node:util";
import { keep, table, verdict } from "../lib/report.ts";
import { figure2 } from "./figure2.ts";
import { figure10 } from "./figure10.ts";

const { values } = parseArgs({
  options: {
    workers: { type: "string", default: "10,50,100,500,10000,100000" },
    csv: { type: "boolean", default: false },
  },
});
const ms = (value: number) => value.toFixed(3);
const share = (part: number, all: number) => (all === 0 ? "-" : `${((100 * part) / all).toFixed(0)} %`);
const print = (rows: readonly (readonly string[])[]) => {
  if (values.csv) console.log(rows.map((row) => row.map((cell) => cell.replace(/ %$/, "")).join(",")).join("\n"));
  else table(rows);
  console.log("");
};

const outcomes = figure10(values.workers.split(",").map(Number));
print([
  ["workers", "algorithm", "median ms", "p95 ms", "placed", "within 20 ms"],
  ...outcomes.map(({ workers, algorithm, medianMs, p95Ms, placed, within, requests }) => [
    String(workers),
    algorithm,
    ms(medianMs),
    ms(p95Ms),
    share(placed, requests),
    share(within, placed),
  ]),
]);
const splits = figure2();
print([
  ["clusters x workers", "root ms", "cluster ms", "both ms", "worst ms", "placed of 100"],
  ...splits.map(({ clusters, workersEach, rootMs, clusterMs, bothMs, worstMs, placed }) => [
    `${clusters} x ${workersEach}`,
    ...[rootMs, clusterMs, bothMs, worstMs].map(ms),
    String(placed),
  ]),
]);

for (const { workers, algorithm, medianMs } of outcomes) {
  if (algorithm === "ldp" && workers === 500)
    verdict(`LDP over 500 workers in less than 1 ms: ${ms(medianMs)} ms`, medianMs < 1);
  if (algorithm === "ldp" && workers === 100_000) {
    verdict(`LDP over 100,000 workers in less than 50 ms: ${ms(medianMs)} ms`, medianMs < 50);
  }
}
const slowest = Math.max(...splits.map(({ bothMs }) => bothMs));
verdict(
  `root and cluster decide in less than the paper's 1 ms, however 45 workers are split: ${ms(slowest)} ms`,
  slowest < 1,
);
keep(import.meta.url, { outcomes, splits });
