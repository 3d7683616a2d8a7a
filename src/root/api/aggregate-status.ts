import type { InstanceStatus } from "../../protocol/instance.ts";

/**
 * From what needs attention most to what needs none. A service shows the first that one of its instances has: it is RUNNING
 * only when all of them run (or have completed), which is what existing scripts wait for.
 */
const BY_URGENCY: readonly InstanceStatus[] = [
  "FAILED",
  "DEAD",
  "TargetClusterNotFound",
  "TargetClusterNotActive",
  "TargetClusterNoCapacity",
  "NoActiveClusterWithCapacity",
  "NO_WORKER_CAPACITY",
  "REQUESTED",
  "CLUSTER_SCHEDULED",
  "NODE_SCHEDULED",
  "PULLING",
  "CREATING",
  "RUNNING",
  "COMPLETED",
  "UNDEPLOYED",
];

/** Status and detail of a service, of its instances'; undefined while it has none. Pure. */
export function aggregateStatus(
  instances: readonly { readonly number: number; readonly status: InstanceStatus; readonly detail: string }[],
): { status: InstanceStatus; detail: string } | undefined {
  const status = BY_URGENCY.find((candidate) => instances.some((instance) => instance.status === candidate));
  const such = instances.filter((instance) => instance.status === status);
  const [first] = such;
  if (!status || !first) return undefined;
  const detail = instances.length === 1 ? first.detail : `${such.length} of ${instances.length}: ${first.detail}`;
  return { status, detail };
}
