/** What a container's specification depends on of the machine. Read once: none of it changes while the machine runs. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { hostPlatform } from "./oci-image.ts";

export interface HostFacts {
  readonly architecture: string;
  readonly cgroupVersion: 1 | 2;
  /** The kernel can limit memory and swap together. */
  readonly hasSwapLimit: boolean;
  readonly hasUnprivilegedPorts: boolean;
  readonly hasSeccomp: boolean;
}

const CGROUPS = "/sys/fs/cgroup";

export function readHostFacts(): HostFacts {
  const cgroupVersion = existsSync(join(CGROUPS, "cgroup.controllers")) ? 2 : 1;
  return {
    architecture: hostPlatform.architecture,
    cgroupVersion,
    hasSwapLimit:
      cgroupVersion === 1 ? existsSync(join(CGROUPS, "memory/memory.memsw.limit_in_bytes")) : hasSwapFileOfVersion2(),
    hasUnprivilegedPorts: existsSync("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
    hasSeccomp: existsSync("/proc/sys/kernel/seccomp"),
  };
}

/** The root of version 2 has no limits itself; its children tell. */
function hasSwapFileOfVersion2(): boolean {
  return readdirSync(CGROUPS, { withFileTypes: true }).some(
    (entry) => entry.isDirectory() && existsSync(join(CGROUPS, entry.name, "memory.swap.max")),
  );
}
