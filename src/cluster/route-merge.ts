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
  const workers = unique(instances.flatMap((one) => live.get(idOf(one))?.worker ?? []));
  const { roundRobin, closest } = network;
  const sorted = entries.toSorted((one, other) => one.number - other.number);
  return { serviceId, applicationId, jobName, roundRobin, closest, instances: sorted, workers };
}

/** @param isRepeated whether the root only repeats, later, what we say ourselves: where this worker has this instance */
export function mergeRoutes(
  fromRoot: RouteContent | undefined,
  own: RouteContent | undefined,
  isRepeated: (workerId: string, number: number) => boolean,
): RouteContent | undefined {
  if (!fromRoot || !own) return own ?? (fromRoot && withoutOurs(fromRoot, isRepeated));
  const there = withoutOurs(fromRoot, isRepeated);
  const ours = new Set(own.instances.map(({ number }) => number));
  const instances = [...own.instances, ...there.instances.filter(({ number }) => !ours.has(number))];
  const used = new Set(instances.flatMap(({ live }) => live?.workerId ?? []));
  return {
    ...there,
    instances: instances.toSorted((one, other) => one.number - other.number),
    // A worker of ours may stand in both.
    workers: unique([...there.workers, ...own.workers]).filter(({ id }) => used.has(id)),
  };
}

function unique(workers: RouteContent["workers"]): RouteContent["workers"] {
  return [...new Map(workers.map((one) => [one.id, one])).values()];
}

/** An instance that is not ours any more may still stand in the root's last table as running with us. */
function withoutOurs(route: RouteContent, isRepeated: (workerId: string, number: number) => boolean): RouteContent {
  const instances: RouteContent["instances"] = route.instances.map(({ live, ...rest }) =>
    live && !isRepeated(live.workerId, rest.number) ? { ...rest, live } : rest,
  );
  const used = new Set(instances.flatMap(({ live }) => live?.workerId ?? []));
  return { ...route, instances, workers: route.workers.filter(({ id }) => used.has(id)) };
}
