import * as z from "zod/mini";
import { describeSkew } from "../../hierarchy/clock-skew.ts";
import type { Aggregate } from "../../protocol/capacity.ts";
import type { Cluster } from "../model.ts";

const strings = z.array(z.string());
const Figures = z.object({ sum: z.number(), mean: z.number(), deviation: z.number() });

/** Fields of the 2023 release and of later ones, side by side. Arrays are never null, integers have no fraction. */
export const ClusterDocument = z.object({
  _id: z.string(),
  cluster_name: z.string(),
  candidate_name: z.string(),
  cluster_location: z.string(),
  candidate_location: z.string(),
  ip: z.string(),
  /** Always empty: a root never dials a cluster. */
  port: z.string(),
  active: z.boolean(),
  active_nodes: z.int(),
  total_cpu_cores: z.int(),
  vcpus: z.int(),
  memory_in_mb: z.int(),
  memory: z.int(),
  total_gpu_cores: z.int(),
  vgpus: z.int(),
  cpu_percent: z.number(),
  aggregated_cpu_percent: z.number(),
  memory_percent: z.number(),
  aggregated_memory_percent: z.number(),
  gpu_percent: z.number(),
  total_gpu_percent: z.number(),
  gpu_temp: z.number(),
  vram: z.int(),
  vram_percent: z.number(),
  virtualization: strings,
  gpu_drivers: strings,
  csi_drivers: strings,
  supported_addons: strings,
  cpu_history: z.array(z.unknown()),
  memory_history: z.array(z.unknown()),
  /** Seconds. */
  last_modified_timestamp: z.number(),
  last_modified: z.object({ $date: z.string() }),
  clusterinfo: z.object({}),
  /** Not yet reserved, over the workers: sum, mean and standard deviation. */
  free: z.object({ cpu_millis: Figures, memory_bytes: Figures, gpus: Figures }),
  architectures: strings,
  /** What is odd about it; empty: nothing. */
  detail: z.string(),
});
export type ClusterDocument = z.infer<typeof ClusterDocument>;

const NOTHING = { sum: 0, mean: 0, deviation: 0 };

/** @param heardAt epoch ms */
export function clusterDocument(
  { id, name, location, ip }: Pick<Cluster, "id" | "name" | "location" | "ip">,
  {
    active,
    aggregate,
    heardAt,
    clockOffMs,
  }: {
    readonly active: boolean;
    readonly aggregate: Aggregate | undefined;
    readonly heardAt: number;
    /** Its clock less ours. */
    readonly clockOffMs?: number | undefined;
  },
): ClusterDocument {
  const all = aggregate?.all;
  const cores = Math.floor((all?.cpuMillisTotal ?? 0) / 1000);
  const memoryMb = Math.floor((all?.memoryBytesTotal ?? 0) / 1_048_576);
  const gpus = Math.floor(all?.gpusFree.sum ?? 0);
  const cpuPercent = aggregate?.cpuPercent ?? 0;
  const memoryPercent = aggregate?.memoryPercent ?? 0;
  return {
    _id: id,
    cluster_name: name,
    candidate_name: name,
    cluster_location: location,
    candidate_location: location,
    ip,
    port: "",
    active,
    active_nodes: active ? (all?.workers ?? 0) : 0,
    total_cpu_cores: cores,
    vcpus: cores,
    memory_in_mb: memoryMb,
    memory: memoryMb,
    total_gpu_cores: gpus,
    vgpus: gpus,
    cpu_percent: cpuPercent,
    aggregated_cpu_percent: cpuPercent,
    memory_percent: memoryPercent,
    aggregated_memory_percent: memoryPercent,
    gpu_percent: 0,
    total_gpu_percent: 0,
    gpu_temp: 0,
    vram: 0,
    vram_percent: 0,
    virtualization: aggregate?.virtualization ?? [],
    gpu_drivers: [],
    csi_drivers: [],
    supported_addons: [],
    cpu_history: [],
    memory_history: [],
    last_modified_timestamp: heardAt / 1000,
    last_modified: { $date: new Date(heardAt).toISOString() },
    clusterinfo: {},
    free: {
      cpu_millis: all?.cpuMillisFree ?? NOTHING,
      memory_bytes: all?.memoryBytesFree ?? NOTHING,
      gpus: all?.gpusFree ?? NOTHING,
    },
    architectures: Object.keys(aggregate?.byArchitecture ?? {}),
    detail: describeSkew(clockOffMs) ?? "",
  };
}
