/** Where the traffic of this worker's own instances is to go: it knows before any table can tell. Pure. */
import type { Sandbox } from "../../net/network.ts";
import type { WorkerEndpoint } from "../../protocol/route.ts";
import type { DesiredSet } from "../desired.ts";
import type { InstanceRecord, Live } from "../instances.ts";
import type { Readiness } from "../readiness.ts";

export interface OwnInstance {
  readonly serviceId: string;
  readonly number: number;
  /** Instance address; undefined: it is not wanted any more. */
  readonly address: string | undefined;
  /** Sandbox address while it takes traffic. */
  readonly sandbox: string | undefined;
  /** It could take traffic, but another worker's does as long as it moves: only the table tells since when, or until when. */
  readonly isStandby?: boolean;
}

export interface OwnState {
  readonly desired: DesiredSet | undefined;
  readonly records: ReadonlyMap<string, InstanceRecord>;
  readonly sandboxes: readonly Sandbox[];
  /** Of instances that are watched, since they have a healthcheck. */
  readonly readinessOf: (instanceId: string) => Readiness | undefined;
}

/** By instance id. Instances of which nothing has been found out yet are not there: what was known of them holds. */
export function ownInstances({ desired, records, sandboxes, readinessOf }: OwnState): Map<string, OwnInstance> {
  const addresses = new Map(sandboxes.map(({ instanceId, address }) => [instanceId, address]));
  const own = new Map<string, OwnInstance>();
  for (const [instanceId, record] of records) {
    if (record.traffic === "unknown") continue;
    const instance = desired?.instances.get(instanceId);
    const isReady = !instance?.workload.healthcheck || readinessOf(instanceId)?.state === "ready";
    const takesTraffic = instance !== undefined && isServing(record) && isReady;
    const [serviceId = "", number] = instanceId.split("-");
    own.set(instanceId, {
      ...{ serviceId, number: Number(number) },
      address: instance?.network?.instanceAddress,
      sandbox: (takesTraffic && addresses.get(instanceId)) || undefined,
      ...(instance?.standby ? { isStandby: true } : {}),
    });
  }
  return own;
}

/** What the cluster is told, by instance id. @param worker how others reach it; undefined: not at all yet */
export function liveReports(
  own: ReadonlyMap<string, OwnInstance>,
  worker: WorkerEndpoint | undefined,
): Map<string, Live> {
  return new Map(
    [...own].flatMap(([instanceId, { sandbox }]): [string, Live][] =>
      worker && sandbox !== undefined ? [[instanceId, { sandbox, worker }]] : [],
    ),
  );
}

function isServing({ traffic, status, isWithdrawn }: InstanceRecord): boolean {
  return traffic === "on" && status === "RUNNING" && !isWithdrawn;
}
