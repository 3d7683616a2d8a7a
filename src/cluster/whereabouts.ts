/** Where workers, instances and users are, as far as this cluster knows. Pure. */
import type { NetworkCoordinate, PlacementRequest, Position, UserSample } from "../protocol/placement-request.ts";
import { readLocation } from "../scheduler/geo.ts";
import { type Target, withTargets } from "../scheduler/links.ts";
import { type Instance, isCompleted, isElsewhere, type Worker } from "./model.ts";

/** What workers measured to the host of users. */
export interface Measured {
  readonly samples: readonly UserSample[];
  /** Workers that tried. */
  readonly tried: number;
  /** Workers that were asked a moment ago and have not answered. */
  readonly pending: number;
}

/** @param location of the cluster, for workers that have none of their own */
export function positionOf({ info }: Worker, network: NetworkCoordinate | undefined, location: string): Position {
  return { ...readLocation(info.location ?? location), ...(network ? { network } : {}) };
}

/** By job name, where this cluster's instances are. */
export function ownTargets(
  instances: Iterable<Instance>,
  position: (workerId: string) => Position | undefined,
): Map<string, Target[]> {
  const targets = new Map<string, Target[]>();
  for (const instance of instances) {
    const { placement, assignment } = instance;
    if (!placement || isCompleted(instance) || isElsewhere(instance)) continue;
    const target = { ...position(placement.workerId), candidateId: placement.workerId };
    const known = targets.get(assignment.jobName);
    if (known) known.push(target);
    else targets.set(assignment.jobName, [target]);
  }
  return targets;
}

/** The request with all that is known of what it is to be near to. */
export function resolve(
  request: PlacementRequest,
  targets: ReadonlyMap<string, readonly Target[]>,
  measuredOf: (host: string) => Measured,
): PlacementRequest {
  const linked = request.links ? withTargets(request, targets) : request;
  if (!linked.users?.some(({ kind }) => kind === "host")) return linked;
  const users = linked.users.map((one) => {
    if (one.kind !== "host") return one;
    const { samples, tried, pending } = measuredOf(one.target);
    return { ...one, samples: [...samples], tried, pending };
  });
  return { ...linked, users };
}
