/** What many workers cost a cluster, and many clusters a root. Each size is measured in a process of its own. */
import { fork } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { repository } from "../../test/support/lab-host.ts";
import { keep, table, verdict } from "../lib/report.ts";
import { type ClustersResult, measureClusters } from "./clusters.ts";
import type { Cost, Options } from "./role.ts";
import { measureWorkers, type WorkersResult } from "./workers.ts";

const { values } = parseArgs({
  options: {
    /** Numbers of workers; empty: none. */
    workers: { type: "string", default: "500,5000" },
    /** Numbers of clusters, each with the instances that they have together; empty: none. */
    clusters: { type: "string", default: "100x1000,1000x1000,1000x10000" },
    seconds: { type: "string", default: "30" },
    bundle: { type: "string", default: join(repository, "dist/oak.cjs") },
    "node-flags": { type: "string", default: "" },
    /** What this program tells itself: one size of one part, whose result goes to the parent. */
    only: { type: "string" },
  },
});
const options: Options = {
  bundle: values.bundle,
  seconds: Number(values.seconds),
  nodeFlags: values["node-flags"].split(" ").filter(Boolean),
};

if (values.only !== undefined) {
  const [count = 0, instances] = sizeOf(values.only);
  const result = await (instances === undefined
    ? measureWorkers(count, options)
    : measureClusters(count, instances, options));
  process.send!(result, () => process.exit());
} else {
  const workers = await measureAll<WorkersResult>(values.workers);
  const clusters = await measureAll<ClustersResult>(values.clusters);
  if (workers.length > 0) showWorkers(workers);
  if (clusters.length > 0) showClusters(clusters);
  keep(import.meta.url, { workers, clusters });
}

function sizeOf(text: string): number[] {
  return text.split("x").map(Number);
}

async function measureAll<T>(sizes: string): Promise<T[]> {
  const results: T[] = [];
  for (const size of sizes.split(",").filter(Boolean)) {
    const child = fork(import.meta.filename, [...process.argv.slice(2), "--only", size], {
      execArgv: ["--disable-warning=ExperimentalWarning"],
    });
    const result = await new Promise<T | undefined>((resolve) => {
      child.once("message", (message) => resolve(message as T));
      child.once("exit", () => resolve(undefined));
    });
    if (result) results.push(result);
    else verdict(`${size} can be measured`, false);
  }
  return results;
}

function showWorkers(results: readonly WorkersResult[]): void {
  console.log("One cluster, by its workers:");
  table([
    [
      ...["workers", "instances", "CPU idle %", "per worker m%", "CPU busy %", "PSS MB", "per worker kB"],
      ...["report p50 ms", "p99 ms", "place ms", "join ms", "all connect s", "stop s", "all return s"],
    ],
    ...results.map((one) => [
      ...[String(one.workers), String(one.instances), one.idle.cpuPercent.toFixed(1)],
      ...[perUnit(one.idle, one.workers), one.busy.cpuPercent.toFixed(1), one.busy.pssMb.toFixed(0)],
      ...[((one.busy.pssMb * 1024) / one.workers).toFixed(0), one.latencyMs.p50.toFixed(1)],
      ...[one.latencyMs.p99.toFixed(1), one.placeMs.toFixed(1), one.joinMs.toFixed(1)],
      ...[one.connectMs, one.stopMs, one.returnMs].map((ms) => (ms / 1000).toFixed(1)),
    ]),
  ]);
  const [first, last] = [results[0]!, results.at(-1)!];
  verdict("a report is at the root within 250 ms in 99 of 100 cases", last.latencyMs.p99 <= 250);
  verdict("it stops within 5 s", last.stopMs <= 5_000);
  if (first === last) return;
  const span = `${first.workers} to ${last.workers} workers`;
  const size = last.workers / first.workers;
  growth(`CPU per worker, idle, from ${span}`, cpuRatio(first.idle, last.idle), size);
  growth(`CPU per worker, busy, from ${span}`, cpuRatio(busier(first), last.busy), size);
  growth(`memory per worker, from ${span}`, last.busy.pssMb / first.busy.pssMb, size);
}

function showClusters(results: readonly ClustersResult[]): void {
  console.log("One root, by its clusters and instances:");
  table([
    [
      ...["clusters", "services", "instances", "CPU idle %", "per cluster m%", "CPU busy %", "PSS MB"],
      ...["report p50 ms", "p99 ms", "deploy p50 ms", "max ms", "all connect s"],
    ],
    ...results.map((one) => [
      ...[String(one.clusters), String(one.services), String(one.instances), one.idle.cpuPercent.toFixed(1)],
      ...[perUnit(one.idle, one.clusters), one.busy.cpuPercent.toFixed(1), one.busy.pssMb.toFixed(0)],
      ...[one.latencyMs.p50.toFixed(1), one.latencyMs.p99.toFixed(1), one.deployMs.p50.toFixed(1)],
      ...[one.deployMs.p99.toFixed(1), (one.connectMs / 1000).toFixed(1)],
    ]),
  ]);
  const [first, last] = [results[0]!, results.at(-1)!];
  verdict("a report is at the API within 250 ms in 99 of 100 cases", last.latencyMs.p99 <= 250);
  for (const [before, after] of pairs(results)) {
    const isMore = after.clusters > before.clusters;
    const size = isMore ? after.clusters / before.clusters : after.instances / before.instances;
    const what = isMore
      ? `${before.clusters} to ${after.clusters} clusters`
      : `${before.instances} to ${after.instances} instances`;
    growth(`CPU, idle, from ${what}`, cpuRatio(before.idle, after.idle), size);
    growth(`memory, from ${what}`, after.busy.pssMb / before.busy.pssMb, size);
  }
  if (first !== last) console.log(`deploying: ${first.deployMs.p50.toFixed(1)} -> ${last.deployMs.p50.toFixed(1)} ms`);
}

function perUnit({ cpuPercent }: Cost, count: number): string {
  return ((cpuPercent * 1000) / count).toFixed(1);
}

/** Of a few sizes the smallest may cost nearly nothing, of which everything is a multiple. */
function cpuRatio(before: Cost, after: Cost): number {
  const LEAST_PERCENT = 0.2;
  return after.cpuPercent / Math.max(before.cpuPercent, LEAST_PERCENT);
}

/** A small size may by chance cost less while it is busy: what happens every few seconds alone is more. */
function busier({ idle, busy }: WorkersResult): Cost {
  return idle.cpuPercent > busy.cpuPercent ? idle : busy;
}

function pairs<T>(values: readonly T[]): [T, T][] {
  return values.slice(1).map((value, index) => [values[index]!, value]);
}

/** Linear or better: the exponent of the growth is at most 1, with a tenth for what a measurement wobbles. */
function growth(what: string, ratio: number, size: number): void {
  const exponent = Math.log(ratio) / Math.log(size);
  verdict(`${what}: x ${ratio.toFixed(1)} for x ${size.toFixed(1)}, exponent ${exponent.toFixed(2)}`, exponent <= 1.1);
}
