/** Processes of a lab are found by their arguments, which name its folder: whoever started them may be gone. */
import { readdirSync, readFileSync } from "node:fs";
import type { Clock } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";

const DEATH_MS = 10_000;

export interface Found {
  readonly pid: number;
  readonly args: readonly string[];
}

/**
 * Those of our own PID namespace, and the first processes of namespaces made here. A lab inside a lab host may have the same
 * folder, and its processes are seen from outside, too.
 */
export function findProcesses(matches: (args: readonly string[]) => boolean): Found[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    const args = read(`/proc/${name}/cmdline`).split("\0").slice(0, -1);
    return matches(args) && isOurs(name) ? [{ pid: Number(name), args }] : [];
  });
}

function isOurs(pid: string): boolean {
  // Its number here, and in each namespace further in.
  const [, , inner, ...deeper] = /^NSpid:.*$/m.exec(read(`/proc/${pid}/status`))?.[0].split(/\s+/) ?? [];
  return inner === undefined || (inner === "1" && deeper.length === 0);
}

/** unshare and nsenter fork for a PID namespace: the process that counts is their only child. */
export function onlyChild(pid: number): number {
  const child = Number(read(`/proc/${pid}/task/${pid}/children`).trim().split(" ")[0]);
  if (child > 0) return child;
  throw new AppError("PROCESS_GONE", `Process ${pid} has no child: it has ended, or not begun`);
}

/** SIGKILL, and wait until they are gone. */
export async function killProcesses(pids: readonly number[], clock: Clock, kill: Kill): Promise<void> {
  for (const pid of pids) {
    try {
      kill(pid, "SIGKILL");
    } catch (error) {
      if (!hasCode(error, "ESRCH")) throw error;
    }
  }
  for (let waitedMs = 0; pids.some(isAlive); waitedMs += 5) {
    if (waitedMs > DEATH_MS)
      throw new AppError("PROCESS_STUCK", `Processes ${pids.filter(isAlive).join(", ")} do not end`);
    await clock.sleep(5);
  }
}

export type Kill = (pid: number, signal: "SIGKILL") => void;

/** A zombie has ended: its namespaces are gone, and its parent will notice some time. */
function isAlive(pid: number): boolean {
  const state = /^State:\s+(\w)/m.exec(read(`/proc/${pid}/status`))?.[1];
  return state !== undefined && state !== "Z" && state !== "X";
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it ended while we looked
  }
}
