/** What the root is told of an instance. Pure. */
import type { InstanceReport, InstanceStatus } from "../protocol/instance.ts";
import type { Position } from "../protocol/placement-request.ts";
import type { Live } from "./live.ts";
import { type Instance, idOf, isCompleted, type Successor, type Withdrawal, type Worker } from "./model.ts";

/** What the root is told beyond the instance itself. */
export interface Surroundings {
  /** Its worker. */
  readonly worker?: Worker | undefined;
  /** The worker that it is to move to. */
  readonly nextWorker?: Worker | undefined;
  /** Epoch ms since when the worker is lost; undefined: it is not. */
  readonly silentSince?: number | undefined;
  /** Where its traffic is to go. */
  readonly live?: Live | undefined;
  /** Of its worker. */
  readonly position?: Position | undefined;
}

export function reportToRoot(
  instance: Instance,
  { worker, nextWorker, silentSince, live, position }: Surroundings,
): InstanceReport {
  const { assignment, placement, report, refusal, since } = instance;
  const base = { instanceId: idOf(instance), generation: assignment.generation, since, restarts: 0 };
  if (report && isCompleted(instance)) return translated(report, base.generation, { worker });
  if (refusal?.kind === "declined") return { ...base, status: "NO_WORKER_CAPACITY", detail: refusal.detail };
  if (!placement || !worker)
    return { ...base, status: "CLUSTER_SCHEDULED", detail: refusal?.detail ?? "the cluster chooses a worker" };
  const there = position && Object.keys(position).length > 0 ? { position } : {};
  if (silentSince !== undefined) {
    const last = report ? `; it was ${report.status} then` : "";
    const detail = `worker "${worker.hostname}" has been silent since ${new Date(silentSince).toISOString()}${last}`;
    return {
      ...base,
      restarts: report?.restarts ?? 0,
      status: "FAILED",
      since: silentSince,
      detail,
      ...there,
      ...(live && { live }),
    };
  }
  if (!report) return { ...base, status: "NODE_SCHEDULED", detail: handedTo(instance, worker), ...there };
  const told = translated(report, base.generation, { worker, live });
  return { ...told, detail: withMove(report.detail, instance, nextWorker), ...there, ...unmended(instance) };
}

/** For the root, which knows other clusters. */
function unmended({ report, successor, brokenPromise }: Instance): Pick<InstanceReport, "brokenPromise"> {
  const isBroken = brokenPromise !== undefined && report?.status === "RUNNING" && !successor;
  return isBroken ? { brokenPromise } : {};
}

/** The one in charge speaks for the instance; of its move only the words are added. */
function withMove(detail: string, instance: Instance, next: Worker | undefined): string {
  const { successor, moveNote } = instance;
  const where = next ? `worker "${next.hostname}"` : "another worker";
  const move = successor ? `moves to ${where} as soon as it runs there: ${successor.reason}` : moveNote;
  const { brokenPromise } = unmended(instance);
  const broken = brokenPromise && `no worker of this cluster keeps what was promised: ${brokenPromise}`;
  return [detail, move, broken].filter((one) => one !== undefined).join("; ");
}

/** As operators see it on the worker that it is to move to. */
export function reportOfSuccessor({ report, reason }: Successor): Pick<InstanceReport, "status" | "detail"> {
  const { status, detail } = report ?? { status: "NODE_SCHEDULED", detail: "handed to this worker" };
  return { status, detail: `${detail}; on standby, to take over: ${reason}` };
}

/** With the reason, if it was elsewhere before. */
function handedTo({ tried }: Instance, { hostname }: Worker): string {
  const reason = [...tried.values()].at(-1);
  return `handed to worker "${hostname}"${reason === undefined ? "" : `; moved: ${reason}`}`;
}

function translated(report: InstanceReport, generation: number, { worker, live }: Surroundings): InstanceReport {
  const { workerId: _inner, live: _claimed, brokenPromise: _unasked, ...rest } = report;
  const publicIp = report.publicIp ?? worker?.info.publicIp;
  return { ...rest, generation, ...(publicIp === undefined ? {} : { publicIp }), ...(live && { live }) };
}

/** Whether a report says more than measurements, which come with every heartbeat. */
export function isNews(known: InstanceReport | undefined, report: InstanceReport): boolean {
  return known === undefined || JSON.stringify(lasting(known)) !== JSON.stringify(lasting(report));
}

function lasting({ cpuPercent: _cpu, memoryBytes: _memory, ...rest }: InstanceReport): object {
  return rest;
}

/** The same status since another moment is another occurrence of it. */
export function isStatusChange(known: InstanceReport | undefined, report: InstanceReport): boolean {
  return known?.status !== report.status || known.since !== report.since;
}

/**
 * Whether nothing is left of a withdrawn instance on its worker.
 * @param manifest revision that the worker has taken over @param held its last word about that instance
 */
export function isGone({ revision, number }: Withdrawal, manifest: number, held: InstanceReport | undefined): boolean {
  if (manifest < revision) return false;
  // Placed there again: both have one container id, so once the new one has existed the old one is gone.
  return held === undefined || (held.generation > number && HAS_EXISTED.has(held.status));
}

const HAS_EXISTED: ReadonlySet<InstanceStatus> = new Set(["RUNNING", "DEAD", "COMPLETED"]);
