/** Who measures what: a few workers each other, for their coordinates; and workers the hosts that users are at. Pure. */
import { neighbours } from "../hierarchy/neighbours.ts";
import type { Landmark } from "../protocol/capacity.ts";
import type { Measure } from "../protocol/mqtt.ts";
import { Ipv4 } from "../protocol/route.ts";
import { type Instance, isCompleted, placementsOf, type Worker } from "./model.ts";

export interface MeasureInput {
  /** All but lost ones: were those left out that are silent for a moment, thousands that connect would all change each other's plan. */
  readonly workers: readonly Worker[];
  /** Those of them that can be asked now; absent: all. */
  readonly active?: readonly Worker[];
  readonly instances: readonly Instance[];
  /** Instances that are to be placed anew, although they are placed. */
  readonly restless: ReadonlySet<string>;
  /** Workers of other clusters, for our landmarks. */
  readonly foreign: readonly Landmark[];
}

/** Of the workers of a cluster so many are measured by those of other clusters, and measure them. */
const LANDMARKS = 3;
/** So many workers measure the users of an instance that is to be placed: three locate them, and some may be far off. */
const SURVEYORS = 6;
/** As often as reports come anyway. */
const EVERY_MS = 10_000;

export function landmarksOf(workers: readonly Worker[]): Landmark[] {
  return reachable(workers).slice(0, LANDMARKS);
}

/** By worker. */
export function measurePlan(input: MeasureInput): Map<string, Measure> {
  const { workers, active = workers, foreign } = input;
  const own = reachable(workers);
  const addresses = new Map(own.map(({ id, address }) => [id, address]));
  const near = neighbours(own.map(({ id }) => id));
  const landmarks = new Set(landmarksOf(active).map(({ id }) => id));
  const targets = targetsOf(input);
  return new Map(
    workers.map(({ id }) => {
      const peers = (near.get(id) ?? []).map((peer) => ({ id: peer, address: addresses.get(peer)! }));
      const hosts = [...(targets.get(id) ?? [])].toSorted();
      return [
        id,
        {
          peers: landmarks.has(id) ? [...peers, ...foreign] : peers,
          targets: hosts.map((host) => ({ host, everyMs: EVERY_MS })),
        },
      ];
    }),
  );
}

/** In the order of their ids, which are random, and do not change. */
function reachable(workers: readonly Worker[]): Landmark[] {
  return workers
    .map(({ id, info }) => ({ id, address: info.publicIp }))
    .filter(({ address }) => Ipv4.safeParse(address).success && !address.startsWith("127."))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** Who runs an instance with a promise to users keeps measuring; for one without a place a few of all do. */
function targetsOf({ workers, active = workers, instances, restless }: MeasureInput): Map<string, Set<string>> {
  const targets = new Map<string, Set<string>>(workers.map(({ id }) => [id, new Set()]));
  for (const instance of instances) {
    if (isCompleted(instance) || instance.refusal?.kind === "declined") continue;
    const { placement, assignment } = instance;
    for (const { kind, target, rigidness } of assignment.request.users ?? []) {
      if (kind !== "host") continue;
      if (rigidness) for (const { workerId } of placementsOf(instance)) targets.get(workerId)?.add(target);
      if (placement && !restless.has(assignment.instanceId)) continue;
      for (const id of surveyors(target, active)) targets.get(id)!.add(target);
    }
  }
  return targets;
}

/** Some of the workers, others for each host, and always the same. */
function surveyors(host: string, workers: readonly Worker[]): string[] {
  return workers
    .map(({ id }) => ({ id, rank: hash(`${host} ${id}`) }))
    .toSorted((a, b) => a.rank - b.rank)
    .slice(0, SURVEYORS)
    .map(({ id }) => id);
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return value;
}
