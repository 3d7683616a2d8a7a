/** The file that tells which process is the `oak up` of this machine. It holds process id and start time: ids are used again. */
import { readFile, rm } from "node:fs/promises";
import { readFileIfAny, writeFileAtomic } from "../base/atomic-file.ts";
import { hasCode } from "../base/errors.ts";

export async function writePidFile(path: string, pid: number): Promise<void> {
  await writeFileAtomic(path, `${pid}\n${await startTime(pid)}\n`, 0o644);
}

/** The process of the file, if it still is the one that was meant. */
export async function readPidFile(path: string): Promise<number | undefined> {
  const [pid, started] = ((await readFileIfAny(path)) ?? "").split("\n");
  if (!pid || !/^\d+$/.test(pid)) return undefined;
  return (await startTime(Number(pid))) === started ? Number(pid) : undefined;
}

export async function removePidFile(path: string): Promise<void> {
  await rm(path, { force: true });
}

/** Clock ticks from boot to the process's start; undefined when there is none, or it is only waiting to be reaped. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    // The name in parentheses may hold anything; the fields after the last one are the third and on.
    const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/^.*\) /s, "").split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ESRCH")) return undefined;
    throw error;
  }
}
