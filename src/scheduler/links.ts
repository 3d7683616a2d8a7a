/** From what descriptors say of services and users to be near, to the links of placement requests. Pure. */
import type { Connectivity, Constraint, MicroserviceDescriptor } from "../protocol/descriptor.ts";
import type { Link, PlacementRequest, UserLink } from "../protocol/placement-request.ts";
import { parsePlace } from "./geo.ts";

/** One service of an application, as its siblings refer to it. */
export interface Sibling {
  readonly id: string;
  readonly jobName: string;
  readonly descriptor: Pick<MicroserviceDescriptor, "microservice_name" | "microservice_namespace" | "connectivity">;
}

export type Target = NonNullable<Link["targets"]>[number];

/** `target_microservice` (`name` or `name.namespace`) or the id; several are an ambiguous name. */
export function findSiblings<T extends Sibling>(
  { target_microservice: name, target_microservice_id: id }: Connectivity,
  siblings: readonly T[],
): T[] {
  if (!name) return siblings.filter((one) => one.id === id);
  return siblings.filter(({ descriptor: { microservice_name, microservice_namespace } }) =>
    name.includes(".") ? name === `${microservice_name}.${microservice_namespace}` : name === microservice_name,
  );
}

/**
 * The links of one service. A link holds in both directions, and of two to one service the tighter one counts.
 * Whoever declares it waits for the other to be there, except in a circle, which its first service (in the order of
 * `siblings`) enters freely; the other direction never waits.
 * @param siblings all services of the application, in the order of the descriptor, the service itself among them; services
 *   of other applications that ids point at may be appended
 */
export function linksOf(serviceId: string, siblings: readonly Sibling[]): Link[] {
  const position = new Map(siblings.map(({ id }, index) => [id, index]));
  const declared = declaredLinks(siblings);
  const reaches = reachability(declared);
  const links = new Map<string, Link>();
  for (const { from, to, link } of declared) {
    const isOwn = from.id === serviceId;
    if (from.id === to.id || (!isOwn && to.id !== serviceId)) continue;
    const isEntry = reaches(to.id, from.id) && position.get(from.id)! < position.get(to.id)!;
    const next = { ...link, service: (isOwn ? to : from).jobName, waits: isOwn && !isEntry };
    const key = `${next.measure} ${next.service}`;
    links.set(key, tighter(links.get(key), next));
  }
  return [...links.values()];
}

interface Declared {
  readonly from: Sibling;
  readonly to: Sibling;
  readonly link: Omit<Link, "service" | "waits">;
}

function declaredLinks(siblings: readonly Sibling[]): Declared[] {
  return siblings.flatMap((from) =>
    (from.descriptor.connectivity ?? []).flatMap((one) => {
      const to = findSiblings(one, siblings)[0];
      if (!to) return [];
      return one.con_constraints.flatMap((constraint) =>
        constraint.type === "bandwidth" ? [] : [{ from, to, link: nearness(constraint.type, constraint) }],
      );
    }),
  );
}

function reachability(declared: readonly Declared[]): (from: string, to: string) => boolean {
  const next = Map.groupBy(declared, ({ from }) => from.id);
  return (from, to) => {
    const seen = new Set([from]);
    for (const id of seen) for (const { to: target } of next.get(id) ?? []) seen.add(target.id);
    return seen.has(to);
  };
}

function tighter(one: Link | undefined, other: Link): Link {
  if (!one) return other;
  const rigidness = extreme(Math.max, one.rigidness, other.rigidness);
  const convergenceMs = extreme(Math.min, one.convergenceMs, other.convergenceMs);
  return {
    ...one,
    threshold: Math.min(one.threshold, other.threshold),
    waits: one.waits || other.waits,
    ...(rigidness === undefined ? {} : { rigidness }),
    ...(convergenceMs === undefined ? {} : { convergenceMs }),
  };
}

function extreme(pick: (a: number, b: number) => number, a: number | undefined, b: number | undefined) {
  return a === undefined || b === undefined ? (a ?? b) : pick(a, b);
}

/** The S2U part of a request: `latency` and `geo` constraints. */
export function userLinks(constraints: readonly Constraint[]): UserLink[] {
  return constraints.flatMap((constraint): UserLink[] => {
    if (constraint.type !== "latency" && constraint.type !== "geo") return [];
    const base = nearness(constraint.type, constraint);
    if (constraint.type === "latency" && constraint.target) {
      return [{ ...base, target: constraint.target, kind: "host" }];
    }
    const target = constraint.location || constraint.area || "";
    const place = parsePlace(target);
    return [place ? { ...base, target, kind: "place", place } : { ...base, target, kind: "area" }];
  });
}

/** Labels that a worker must have; of two values for one key, the last. */
export function requiredLabels(constraints: readonly Constraint[]): Record<string, string> | undefined {
  const all = constraints.flatMap((one) => (one.type === "labels" ? [one.labels] : []));
  return all.length > 0 ? Object.assign({}, ...all) : undefined;
}

interface Wording {
  readonly threshold: number;
  readonly rigidness?: number | undefined;
  readonly convergence_time?: number | undefined;
}

function nearness(measure: "latency" | "geo", { threshold, rigidness, convergence_time }: Wording) {
  return {
    measure,
    threshold,
    ...(rigidness === undefined ? {} : { rigidness }),
    ...(convergence_time === undefined ? {} : { convergenceMs: convergence_time * 1000 }),
  };
}

/** The request with the places of instances that its links lead to, beside those that are there already. */
export function withTargets(
  request: PlacementRequest,
  targetsByService: ReadonlyMap<string, readonly Target[]>,
): PlacementRequest {
  if (!request.links?.some(({ service }) => targetsByService.has(service))) return request;
  const links = request.links.map((link) => {
    const more = targetsByService.get(link.service);
    return more ? { ...link, targets: [...(link.targets ?? []), ...more] } : link;
  });
  return { ...request, links };
}

/** The tightest time budget of the search among a request's links, ms; undefined: there is none. */
export function searchBudgetMs({ links = [], users = [] }: PlacementRequest): number | undefined {
  const all = [...links, ...users].flatMap(({ convergenceMs }) => (convergenceMs ? [convergenceMs] : []));
  return all.length > 0 ? Math.min(...all) : undefined;
}
