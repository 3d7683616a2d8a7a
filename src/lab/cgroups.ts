/** Removal of the cgroups that lab hosts made for themselves. */
import { existsSync, globSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";

const EMPTY_MS = 10_000;

/** @param pattern of their names; a `*` stands for anything */
export async function removeCgroups(pattern: string, clock: Clock): Promise<void> {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2? /gm);
  for (const [, mount] of mounts) {
    for (const top of globSync(join(mount!, pattern))) {
      const folders = [top, ...globSync(`${top}/**/`)].sort((left, right) => right.length - left.length);
      for (const folder of folders) await removeFolder(folder, clock);
    }
  }
}

/** Killed processes leave their cgroup a moment after their parent heard of it. */
async function removeFolder(folder: string, clock: Clock): Promise<void> {
  for (let waitedMs = 0; existsSync(folder); waitedMs += 20) {
    try {
      rmdirSync(folder);
    } catch (cause) {
      if (hasCode(cause, "ENOENT")) return;
      if (!hasCode(cause, "EBUSY") || waitedMs > EMPTY_MS)
        throw new AppError("CGROUP_STUCK", `Cannot remove the cgroup "${folder}"`, { cause });
      await clock.sleep(20);
    }
  }
}
