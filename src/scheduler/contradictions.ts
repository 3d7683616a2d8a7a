/**
 * What a descriptor asks that nothing could ever fulfil, as far as that can be proven from its text. Pure.
 * The rest is found, and explained, when it is to be placed.
 */
import type { Problem } from "../base/validation.ts";
import type { Connectivity, Constraint, Descriptor, MicroserviceDescriptor } from "../protocol/descriptor.ts";
import { quote } from "../protocol/names.ts";
import { distanceKm, type Place, parsePlace } from "./geo.ts";
import { findSiblings, type Sibling } from "./links.ts";
import { FIBRE_KM_PER_MS } from "./nearness.ts";

/** @returns problems like those of the schema; none: it may be fulfilled. */
export function contradictions({ applications }: Pick<Descriptor, "applications">): Problem[] {
  return applications.flatMap(({ microservices }, index) =>
    applicationContradictions(microservices, `applications[${index}].microservices`),
  );
}

/**
 * @param field where the list stands, for the problems
 * @param known services that are registered already, whose ids links may name; undefined: their ids are not checked
 */
export function applicationContradictions(
  microservices: readonly MicroserviceDescriptor[],
  field: string,
  known?: readonly Sibling[],
): Problem[] {
  const siblings = microservices.map((descriptor, index) => ({
    id: descriptor.microserviceID || `#${index}`,
    jobName: `${descriptor.microservice_name}.${descriptor.microservice_namespace}`,
    descriptor,
  }));
  return siblings.flatMap((own, index) => {
    const at = `${field}[${index}]`;
    const constraints = own.descriptor.constraints ?? [];
    return [
      ...wrongPlaces(constraints, at),
      ...clusterPins(constraints, at),
      ...labelPairs(constraints, at),
      ...apart(circles(constraints), at),
      ...(own.descriptor.connectivity ?? []).flatMap((link, position) =>
        wrongLink(own, link, { siblings, known, at: `${at}.connectivity[${position}]` }),
      ),
    ];
  });
}

/** Looks like coordinates, and is none: a typing error, not the name of an area. */
function wrongPlaces(constraints: readonly Constraint[], at: string): Problem[] {
  return constraints.flatMap((one, index) => {
    const location = "location" in one && typeof one.location === "string" ? one.location : "";
    if (!/^[-+\d\s.,;]+$/.test(location) || parsePlace(location)) return [];
    const message = `${quote(location)} is not a place: write latitude,longitude, for example 48.137,11.575`;
    return [{ field: `${at}.constraints[${index}].location`, message }];
  });
}

function clusterPins(constraints: readonly Constraint[], at: string): Problem[] {
  const problems: Problem[] = [];
  let cluster: string | undefined;
  let allowed: readonly string[] | undefined;
  constraints.forEach((one, index) => {
    const field = `${at}.constraints[${index}]`;
    if (one.type === "direct" && one.cluster) {
      if (cluster !== undefined && cluster !== one.cluster) {
        problems.push({
          field: `${field}.cluster`,
          message: `${quote(one.cluster)} contradicts the direct constraint to ${quote(cluster)}`,
        });
      }
      cluster ??= one.cluster;
    }
    if (one.type === "clusters") {
      const both = allowed ? allowed.filter((name) => one.allowed.includes(name)) : one.allowed;
      if (both.length === 0) {
        problems.push({
          field: `${field}.allowed`,
          message: `names none of the clusters that another constraint allows: ${allowed!.map(quote).join(", ")}`,
        });
      }
      allowed = both.length > 0 ? both : allowed;
    }
  });
  if (cluster !== undefined && allowed && !allowed.includes(cluster)) {
    const index = constraints.findIndex((one) => one.type === "direct" && one.cluster);
    const message = `${quote(cluster)} is not among the allowed clusters: ${allowed.map(quote).join(", ")}`;
    problems.push({ field: `${at}.constraints[${index}].cluster`, message });
  }
  return problems;
}

function labelPairs(constraints: readonly Constraint[], at: string): Problem[] {
  const seen = new Map<string, string>();
  return constraints.flatMap((one, index) => {
    if (one.type !== "labels") return [];
    return Object.entries(one.labels).flatMap(([key, value]) => {
      const other = seen.get(key);
      seen.set(key, value);
      if (other === undefined || other === value) return [];
      const message = `${quote(value)} contradicts ${quote(other)} of another constraint`;
      return [{ field: `${at}.constraints[${index}].labels.${key}`, message }];
    });
  });
}

/** Where one constraint lets an instance be. */
interface Circle {
  readonly index: number;
  readonly place: Place;
  readonly km: number;
  readonly words: string;
}

/** Latency from a place confines too: light in fibre comes no farther. */
function circles(constraints: readonly Constraint[]): Circle[] {
  return constraints.flatMap((one, index) => {
    if ((one.type !== "geo" && one.type !== "latency") || (one.type === "latency" && one.target)) return [];
    const text = one.location || one.area || "";
    const place = parsePlace(text);
    if (!place) return [];
    const isGeo = one.type === "geo";
    const km = (isGeo ? one.threshold : one.threshold * FIBRE_KM_PER_MS) + place.radiusKm;
    return [{ index, place, km, words: `${one.threshold} ${isGeo ? "km" : "ms"} of ${text}` }];
  });
}

function apart(all: readonly Circle[], at: string): Problem[] {
  return all.flatMap((one, position) => {
    const other = all.slice(0, position).find((before) => distanceKm(before.place, one.place) > before.km + one.km);
    if (!other) return [];
    const km = Math.round(distanceKm(other.place, one.place));
    const message = `nothing is both within ${one.words} and within ${other.words}: they are ${km} km apart`;
    return [{ field: `${at}.constraints[${one.index}].threshold`, message }];
  });
}

interface LinkContext {
  readonly siblings: readonly Sibling[];
  readonly known: readonly Sibling[] | undefined;
  /** Of the link. */
  readonly at: string;
}

function wrongLink(
  own: Sibling & { descriptor: MicroserviceDescriptor },
  link: Connectivity,
  context: LinkContext,
): Problem[] {
  const { siblings, known, at } = context;
  const byName = link.target_microservice;
  const field = `${at}.${byName ? "target_microservice" : "target_microservice_id"}`;
  const found = findSiblings(link, known && !byName ? [...siblings, ...known] : siblings);
  const shown = quote(byName ?? link.target_microservice_id);
  if (found.some(({ id }) => id === own.id)) return [{ field, message: `${shown} is the service itself` }];
  if (found.length > 1 && byName) {
    const names = found.map(({ jobName }) => jobName).join(" or ");
    return [{ field, message: `${shown} is ambiguous: write ${names}` }];
  }
  if (found.length === 0 && (byName || known)) {
    const names = siblings.filter(({ id }) => id !== own.id).map(({ jobName }) => jobName);
    const message = `there is no service ${shown}${byName ? ` in this application, only ${names.join(", ") || "itself"}` : ""}`;
    return [{ field, message }];
  }
  return found[0] ? unreachable(own, found[0], link, at) : [];
}

/** Circles of two services that stay farther apart than the link allows. */
function unreachable(
  own: Sibling & { descriptor: MicroserviceDescriptor },
  target: Sibling,
  { con_constraints }: Connectivity,
  at: string,
): Problem[] {
  const mine = circles(own.descriptor.constraints ?? []);
  const theirs = circles((target.descriptor as MicroserviceDescriptor).constraints ?? []);
  return con_constraints.flatMap(({ type, threshold }, index) => {
    if (type === "bandwidth") return [];
    const km = type === "geo" ? threshold : threshold * FIBRE_KM_PER_MS;
    for (const one of mine) {
      for (const other of theirs) {
        const distance = distanceKm(one.place, other.place);
        if (distance <= one.km + other.km + km) continue;
        const message = `cannot be: this service stays within ${one.words}, ${target.jobName} within ${other.words}`;
        return [{ field: `${at}.con_constraints[${index}].threshold`, message }];
      }
    }
    return [];
  });
}
