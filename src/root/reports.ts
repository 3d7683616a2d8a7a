/** What the root believes of a cluster's reports. Pure. */
import { type InstanceReport, type InstanceStatus, mayFollow, STATUS } from "../protocol/instance.ts";
import type { Instance, Standby } from "./model.ts";

/** Stale generations, others' instances and impossible turns of life are not believed. */
export function isCredible(instance: Instance, clusterId: string, report: InstanceReport): boolean {
  return (
    instance.clusterId === clusterId &&
    instance.generation === report.generation &&
    isClusters(report.status) &&
    mayFollow(instance.status, report.status)
  );
}

/** Which of the clusters that have the instance, but are not in charge of it, says so; undefined: none that is believed. */
export function standbyOf(
  { move }: Instance,
  clusterId: string,
  { generation, status }: InstanceReport,
): "successor" | "predecessor" | undefined {
  if (!isClusters(status)) return undefined;
  const isAbout = (one: Standby | undefined) => one?.clusterId === clusterId && one.generation === generation;
  if (isAbout(move?.successor)) return "successor";
  return isAbout(move?.predecessor) ? "predecessor" : undefined;
}

/** Placing is the root's to tell, and withdrawing the user's: then there is no such row any more. */
function isClusters(status: InstanceStatus): boolean {
  return STATUS[status].owner !== "root" ? status !== "UNDEPLOYED" : status === "NO_WORKER_CAPACITY";
}

/** Whether a report says more than new measurements, which come with every heartbeat and are not worth a write. */
export function isNews(known: InstanceReport | undefined, report: InstanceReport): boolean {
  return known === undefined || JSON.stringify(lasting(known)) !== JSON.stringify(lasting(report));
}

/** The part of a report that is kept on disk; one order of keys, so that equal ones have equal text. */
export function lasting(report: InstanceReport): InstanceReport {
  const { instanceId, generation, status, detail, since, restarts, exitCode, startedAt, publicIp, logTail } = report;
  const { live, position, brokenPromise } = report;
  return {
    ...{ instanceId, generation, status, detail, since, restarts },
    ...{ exitCode, startedAt, publicIp, logTail, live, position, brokenPromise },
  };
}
