/** Memory and processor time of the product when nothing happens. */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { onLabHost } from "../lib/inside.ts";
import { cpuSecondsOf, type Memory, memoryOf, processes } from "../lib/process.ts";
import { startContainerd, startUp } from "../lib/product.ts";
import { keep, table, verdict } from "../lib/report.ts";

const { values } = parseArgs({
  options: { settle: { type: "string", default: "30" }, seconds: { type: "string", default: "60" } },
});

await onLabHost(async () => {
  await startContainerd();
  const { process: up } = await startUp();
  await systemClock.sleep(Number(values.settle) * 1000);
  const rows = new Map<string, { pids: number[]; memory: Memory; cpuPercent: number }>();
  const pids = programPids(up);
  const before = total(pids, cpuSecondsOf);
  const startedAt = performance.now();
  await systemClock.sleep(Number(values.seconds) * 1000);
  const cpuPercent = ((total(pids, cpuSecondsOf) - before) / ((performance.now() - startedAt) / 1000)) * 100;
  rows.set("oak up", { pids, memory: sum(pids.map(memoryOf)), cpuPercent });
  const containerd = processes(/^\S*containerd( |$)/);
  rows.set("containerd (not ours)", {
    pids: containerd,
    memory: sum(containerd.map(memoryOf)),
    cpuPercent: Number.NaN,
  });

  table([
    ["idle", "PSS MB", "anonymous MB", "RSS MB", `CPU % of a core, ${values.seconds} s`],
    ...[...rows].map(([name, { memory, cpuPercent }]) => [
      name,
      memory.pssMb.toFixed(1),
      memory.anonymousMb.toFixed(1),
      memory.rssMb.toFixed(1),
      Number.isNaN(cpuPercent) ? "" : cpuPercent.toFixed(2),
    ]),
  ]);
  const other = processes(/(^|\/)node /).filter((pid) => !pids.includes(pid)).length;
  console.log(
    `${other} other Node process(es) shared pages while this was read: the measurement itself is one. RSS is the upper bound.`,
  );
  const { memory } = rows.get("oak up")!;
  verdict(`oak up <= 110 MB PSS: ${memory.pssMb.toFixed(1)}`, memory.pssMb <= 110);
  verdict(`oak up <= 0.9 % CPU (three roles): ${cpuPercent.toFixed(2)}`, cpuPercent <= 0.9);
  keep(import.meta.url, Object.fromEntries(rows));
});

/** The program and the helpers it keeps running, such as `ip -batch`. */
function programPids(child: ChildProcess): number[] {
  const all = [child.pid!];
  for (const pid of all)
    all.push(...processes(/./).filter((candidate) => parentOf(candidate) === pid && !all.includes(candidate)));
  return all;
}

function parentOf(pid: number): number | undefined {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
  } catch {
    return undefined; // it ended while we looked
  }
}

function total(pids: readonly number[], of: (pid: number) => number): number {
  return pids.reduce((sum, pid) => sum + of(pid), 0);
}

function sum(parts: readonly Memory[]): Memory {
  return parts.reduce(
    (left, right) => ({
      pssMb: left.pssMb + right.pssMb,
      anonymousMb: left.anonymousMb + right.anonymousMb,
      rssMb: left.rssMb + right.rssMb,
    }),
    { pssMb: 0, anonymousMb: 0, rssMb: 0 },
  );
}
