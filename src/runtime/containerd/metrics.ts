/** What the kernel counted of a container, whichever version of cgroups it was. Pure. */
import type { Usage } from "../container-runtime.ts";
import { MetricsV1, MetricsV2 } from "./gen/metrics.ts";
import type { Any } from "./gen/types.ts";

/** Memory is what cannot be taken back: without the file cache that nobody used lately. Undefined for other metrics than cgroups'. */
export function toUsage({ typeUrl, value }: Any): Usage | undefined {
  if (typeUrl.endsWith("io.containerd.cgroups.v1.Metrics")) {
    const { cpu, memory } = MetricsV1.decode(value);
    return usage(cpu?.usage?.total ?? 0n, memory?.usage?.usage ?? 0n, memory?.totalInactiveFile ?? 0n);
  }
  if (typeUrl.endsWith("io.containerd.cgroups.v2.Metrics")) {
    const { cpu, memory } = MetricsV2.decode(value);
    return usage((cpu?.usageUsec ?? 0n) * 1000n, memory?.usage ?? 0n, memory?.inactiveFile ?? 0n);
  }
  return undefined;
}

function usage(cpuNanos: bigint, memory: bigint, inactive: bigint): Usage {
  return { cpuNanos: Number(cpuNanos), memoryBytes: Number(memory > inactive ? memory - inactive : 0n) };
}
