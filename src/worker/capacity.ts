/** What this machine has, and how much of it is in use, from /proc and the cgroup that we may be confined to. */
import { readFile } from "node:fs/promises";
import { arch, availableParallelism } from "node:os";
import { readFileIfAny } from "../base/atomic-file.ts";
import { hasCode } from "../base/errors.ts";

/** OCI's words for what Node calls x64, ia32 and ppc64. */
const OCI_ARCHITECTURE: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

export function ociArchitecture(nodeArchitecture: string = arch()): string {
  return OCI_ARCHITECTURE[nodeArchitecture] ?? nodeArchitecture;
}

export interface Machine {
  readonly cpuMillis: number;
  /** What instances may use. */
  readonly memoryBytes: number;
}

/** @param reserveBytes memory that the machine keeps for itself */
export async function measureMachine(reserveBytes: number): Promise<Machine> {
  const limits = await cgroupLimits();
  const { totalBytes } = parseMemory(await readFile("/proc/meminfo", "utf8"));
  const memoryBytes = Math.min(totalBytes, limits.memoryBytes) - reserveBytes;
  return {
    cpuMillis: Math.round(Math.min(availableParallelism() * 1000, limits.cpuMillis)),
    memoryBytes: Math.max(1024 * 1024, memoryBytes),
  };
}

/** The limits of the outermost cgroup that we see: on a whole machine there are none, in a container its own. */
async function cgroupLimits(): Promise<{ memoryBytes: number; cpuMillis: number }> {
  const [memoryV2, memoryV1, cpuV2, quotaV1, periodV1] = await Promise.all(
    ["memory.max", "memory/memory.limit_in_bytes", "cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"].map(
      (path) => readCgroupFile(`/sys/fs/cgroup/${path}`),
    ),
  );
  const [quota, period] = cpuV2?.split(" ") ?? [quotaV1, periodV1];
  const cpuMillis = (1000 * Number(quota)) / Number(period);
  return { memoryBytes: limit(Number(memoryV2 ?? memoryV1)), cpuMillis: limit(cpuMillis) };
}

/** "max", -1 and a missing file all mean that there is no limit. */
const limit = (value: number) => (value > 0 ? value : Number.POSITIVE_INFINITY);

async function readCgroupFile(path: string): Promise<string | undefined> {
  try {
    return (await readFileIfAny(path))?.trim();
  } catch (error) {
    if (hasCode(error, "ENOTDIR") || hasCode(error, "EACCES")) return undefined;
    throw error;
  }
}

export function parseMemory(meminfo: string): { totalBytes: number; availableBytes: number } {
  const kibibytes = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(meminfo)?.[1] ?? 0);
  return { totalBytes: kibibytes("MemTotal") * 1024, availableBytes: kibibytes("MemAvailable") * 1024 };
}

export interface CpuTimes {
  readonly busy: number;
  readonly total: number;
}

/** The first line of /proc/stat: user nice system idle iowait irq softirq steal, since boot. */
export function parseCpuTimes(stat: string): CpuTimes {
  const times = stat.slice(0, stat.indexOf("\n")).trim().split(/\s+/).slice(1, 9).map(Number);
  const total = times.reduce((sum, time) => sum + time, 0);
  return { busy: total - (times[3] ?? 0) - (times[4] ?? 0), total };
}

/** How busy the machine is, in percent: memory now, CPU since the last call. */
export class MachineLoad {
  #before: CpuTimes = { busy: 0, total: 0 };

  async measure(): Promise<{ cpuPercent: number; memoryPercent: number }> {
    const [meminfo, stat] = await Promise.all([readFile("/proc/meminfo", "utf8"), readFile("/proc/stat", "utf8")]);
    const { totalBytes, availableBytes } = parseMemory(meminfo);
    const now = parseCpuTimes(stat);
    const before = this.#before;
    this.#before = now;
    return {
      cpuPercent: percent(now.busy - before.busy, now.total - before.total),
      memoryPercent: percent(totalBytes - availableBytes, totalBytes),
    };
  }
}

export function percent(part: number, whole: number): number {
  return whole > 0 ? Math.round(Math.min(100, Math.max(0, (1000 * part) / whole))) / 10 : 0;
}
