/** What a cluster knows of a service: the root's word on other clusters' instances, its own on its own. Pure. */
import type { ServiceRoute } from "../protocol/route.ts";
import type { Live } from "./live.ts";
import { type Instance, idOf } from "./model.ts";

/** A table before it is numbered. */
export type RouteContent = Omit<ServiceRoute, "generation">;

/** The service as far as it runs here; undefined: not at all, or it has no part in the overlay. */
export function ownRoute(instances: readonly Instance[], live: ReadonlyMap<string, Live>): RouteContent | undefined {
  const newest = instances.at(-1)?.assignment;
  if (!newest?.network) return undefined;
  const { serviceId, applicationId, jobName, network } = newest;
  const entries = instances.flatMap((instance) => {
    const { instanceNumber: number, network } = instance.assignment;
    const here = live.get(idOf(instance));
    const target = here && { live: { sandbox: here.sandbox, workerId: here.worker.id } };
    return network ? [{ number, address: network.instanceAddress, ...target }] : [];
  });
  const workers = new Map(instances.flatMap((one) => live.get(idOf(one))?.worker ?? []).map((one) => [one.id, one]));
  const { roundRobin, closest } = network;
  const sorted = entries.toSorted((one, other) => one.number - other.number);
  return { serviceId, applicationId, jobName, roundRobin, closest, instances: sorted, workers: [...workers.values()] };
}

/** @param isOurs whether the worker is this cluster's: of its instances the root only repeats what we said, later */
export function mergeRoutes(
  fromRoot: RouteContent | undefined,
  own: RouteContent | undefined,
  isOurs: (workerId: string) => boolean,
): RouteContent | undefined {
  if (!fromRoot || !own) return own ?? (fromRoot && withoutOurs(fromRoot, isOurs));
  const there = withoutOurs(fromRoot, isOurs);
  const ours = new Set(own.instances.map(({ number }) => number));
  const instances = [...own.instances, ...there.instances.filter(({ number }) => !ours.has(number))];
  const used = new Set(instances.flatMap(({ live }) => live?.workerId ?? []));
  return {
    ...there,
    instances: instances.toSorted((one, other) => one.number - other.number),
    workers: [...own.workers, ...there.workers].filter(({ id }) => used.has(id)),
  };
}

/** An instance that is not ours any more may still stand in the root's last table as running with us. */
function withoutOurs(route: RouteContent, isOurs: (workerId: string) => boolean): RouteContent {
  return {
    ...route,
    instances: route.instances.map(({ live, ...rest }) => (live && !isOurs(live.workerId) ? { ...rest, live } : rest)),
    workers: route.workers.filter(({ id }) => !isOurs(id)),
  };
}
