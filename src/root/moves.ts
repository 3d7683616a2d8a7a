/**
 * How an instance moves to another cluster while it runs, because its own cannot keep what was promised: as between two workers
 * (cluster/moves.ts), by state alone. Pure.
 *
 *     prepare ─► both have it, the old one in charge ─► switch ─► both have it, the new one in charge ─► retire
 *                                └─► abandon: the old one stays                  └─► return: it is in charge again
 */
import {
  type Handover,
  type Holder,
  isAway,
  isReady,
  mayRetire,
  whyAbandoned,
  whyReturned,
} from "../hierarchy/handover.ts";
import type { ClusterView } from "./candidates.ts";
import type { Instance, Service, Standby } from "./model.ts";

export interface MoveStep {
  /** `prepare`: another cluster starts it, too. `abandon`: that one does not get to be in charge. `return`: the old one is again. */
  readonly do: "prepare" | "switch" | "abandon" | "return" | "retire";
  readonly id: string;
  /** The one that is not in charge before the step. */
  readonly clusterId: string;
  /** Why it moves, or does not. */
  readonly reason: string;
  /** Told with the instance's status and the reason from now on; absent: what was told before. */
  readonly note?: string;
}

export interface Around {
  readonly clusterOf: (id: string) => ClusterView | undefined;
  readonly isActive: (id: string) => boolean;
  /** From `lostChildren`. */
  readonly lost: ReadonlySet<string>;
  /** How long the one that is not in charge has been seen as it is, ms. */
  readonly standbyForMs: (instanceId: string) => number;
}

/** A cluster that has answered may wait for room or for a measurement, and declines by itself if it is in vain. */
const CHOOSING_MS = 30_000;

/** Another cluster has it, too. */
export function isMoving({ move }: Instance): boolean {
  return move?.successor !== undefined || move?.predecessor !== undefined;
}

/** Why the instance should be in another cluster; undefined: it should not, or could not without a gap. */
export function reasonToMove(instance: Instance, service: Service, { isActive }: Around): string | undefined {
  const { clusterId, status, report, descriptor } = instance;
  if (status !== "RUNNING" || clusterId === undefined || isMoving(instance) || !isActive(clusterId)) return undefined;
  // It must not run twice at a time.
  return (descriptor ?? service.descriptor).one_shot ? undefined : report?.brokenPromise;
}

/** The next step of the instance's move, if there is one now. */
export function nextStep(instance: Instance, service: Service, around: Around): MoveStep | undefined {
  const { id, move } = instance;
  if (!move) return undefined;
  const { successor, predecessor, reason } = move;
  const nameOf = (clusterId: string | undefined) => {
    const name = clusterId === undefined ? undefined : around.clusterOf(clusterId)?.name;
    return name === undefined ? "a cluster that was removed" : `cluster "${name}"`;
  };
  if (predecessor) {
    const { clusterId } = predecessor;
    const handover = handoverTo(instance, predecessor, { service, around });
    const why = whyReturned(handover);
    const note = `back from ${nameOf(instance.clusterId)}`;
    if (why !== undefined) return { do: "return", id, clusterId, reason: why, note };
    return mayRetire(handover) ? { do: "retire", id, clusterId, reason } : undefined;
  }
  if (!successor) return undefined;
  const { clusterId } = successor;
  const handover = handoverTo(instance, successor, { service, around });
  const failure = whyAbandoned(handover);
  const note = `not moved to ${nameOf(clusterId)}`;
  if (failure !== undefined) return { do: "abandon", id, clusterId, reason: failure, note };
  const { inCharge } = handover;
  const mustSwitch = isAway(inCharge) || inCharge.status === "NO_WORKER_CAPACITY";
  if (!mustSwitch && !isReady(handover)) return undefined;
  return { do: "switch", id, clusterId, reason, note: `moved from ${nameOf(instance.clusterId)}` };
}

function handoverTo(
  instance: Instance,
  other: Standby,
  { service, around }: { readonly service: Service; readonly around: Around },
): Handover {
  const { healthcheck } = instance.descriptor ?? service.descriptor;
  return {
    kind: "cluster",
    inCharge: holder(instance, 0, around),
    other: holder(
      { status: other.report?.status ?? "CLUSTER_SCHEDULED", ...other },
      otherForMs(instance, other, around),
      around,
    ),
    isChecked: healthcheck !== undefined,
    startPeriodMs: (healthcheck?.start_period ?? 0) * 1_000,
  };
}

function otherForMs({ id }: Instance, { report }: Standby, { standbyForMs }: Around): number {
  const isItsTurn = report?.status === "CLUSTER_SCHEDULED";
  return Math.max(0, standbyForMs(id) - (isItsTurn ? CHOOSING_MS : 0));
}

function holder(
  { clusterId, status, report }: Pick<Instance, "clusterId" | "status" | "report">,
  forMs: number,
  around: Around,
): Holder {
  return {
    reach: reachOf(clusterId, around),
    status,
    detail: report?.detail ?? "",
    takesTraffic: report?.live !== undefined,
    forMs,
  };
}

function reachOf(clusterId: string | undefined, { clusterOf, isActive, lost }: Around): Holder["reach"] {
  if (clusterId === undefined || !clusterOf(clusterId)) return "gone";
  if (lost.has(clusterId)) return "lost";
  return isActive(clusterId) ? "active" : "silent";
}
