/**
 * The distance rules of LDP (paper, algorithm 2): S2S, near another service, and S2U, near users. Pure.
 *
 * A worker is a point, a cluster a zone that holds all of its workers. To a zone the *least* possible distance counts, so
 * that no cluster is excluded that may have a fitting worker:
 * - network: |c − t| − R + h(c) + h(t) ≤ |w − t| + h(w) + h(t) for each worker w with |w − c| ≤ R and h(w) ≥ h(c);
 * - great circle: d(c, t) − r(c) − r(t);
 * - where users were never measured, but their place is known: light in fibre needs 1 ms there and back for 100 km.
 */
import type { Link, PlacementRequest, Position, UserLink, UserSample } from "../protocol/placement-request.ts";
import type { Candidate } from "./candidate.ts";
import { distanceKm } from "./geo.ts";
import type { Target } from "./links.ts";
import { type Coordinate, distanceMs, locate } from "./vivaldi.ts";

/** Two thirds of the speed of light, there and back. */
export const FIBRE_KM_PER_MS = 100;

/** One constraint, resolved: what is needed, and how far a candidate is. */
export interface Nearness {
  /** As a verdict names it: `latency to shop.prod.web.prod`. */
  readonly rule: string;
  readonly needed: string;
  readonly threshold: number;
  readonly unit: "ms" | "km";
  /** What must be there before any worker can be judged. */
  readonly waitsFor?: string | undefined;
  /** Nor can any cluster: there is nothing to be near to. */
  readonly isAbsent?: true;
  /** Least and greatest possible distance to the candidate, or why they are unknown. */
  readonly range: (candidate: Candidate) => Range | string;
}

export interface Range {
  readonly least: number;
  readonly greatest: number;
}

export function nearnessOf({ links = [], users = [] }: PlacementRequest): Nearness[] {
  return [...links.flatMap((link) => toService(link)), ...users.map((link) => toUsers(link))];
}

/** A cluster of which it is not known passes: its own scheduler knows. */
export function mayBeNear({ range, threshold, isAbsent }: Nearness, candidate: Candidate): boolean {
  const distance = range(candidate);
  if (typeof distance === "string") return candidate.aggregated !== undefined && !isAbsent;
  return distance.least <= threshold;
}

/** In the words of a verdict. */
export function describeRange({ range, unit }: Nearness, candidate: Candidate): string {
  const distance = range(candidate);
  if (typeof distance === "string") return distance;
  return `${candidate.aggregated ? "at least " : ""}${distance.least.toFixed(1)} ${unit}`;
}

/** Share of a candidate's zone that is near enough, taken as even; 1 for a worker that is. */
export function shareWithin({ range, threshold }: Nearness, candidate: Candidate): number {
  const distance = range(candidate);
  if (typeof distance === "string") return 0.5;
  const { least, greatest } = distance;
  if (greatest <= threshold) return 1;
  return least >= threshold ? 0 : (threshold - least) / (greatest - least);
}

/** A service that has no instance and need not be waited for constrains nothing. */
function toService(link: Link): Nearness[] {
  const { service, targets = [], waits } = link;
  const base = describe(link, `service ${service}`);
  if (targets.length === 0) {
    const waitsFor = `an instance of service ${service}`;
    return waits ? [{ ...base, needed: waitsFor, waitsFor, isAbsent: true, range: () => "none yet" }] : [];
  }
  const known = targets.filter((one) => one.candidateId !== undefined || isKnown(one, link.measure));
  if (known.length === 0) {
    const missing = link.measure === "latency" ? "no network coordinate yet" : "no location";
    return [
      { ...base, waitsFor: `the position of service ${service}`, range: () => `the service's worker has ${missing}` },
    ];
  }
  const measure = link.measure === "latency" ? networkRange : placeRange;
  const range = (candidate: Candidate, target: Target) =>
    target.candidateId === candidate.id ? sameChild(candidate) : measure(candidate.position, target);
  return [{ ...base, range: (candidate) => nearest(known, (target) => range(candidate, target)) }];
}

function isKnown(target: Position, measure: Link["measure"]): boolean {
  return measure === "latency" ? isMeasured(target.network) : target.place !== undefined;
}

/** No height to pay on the same worker; in the same cluster anything up to its size. */
function sameChild({ aggregated, position }: Candidate): Range {
  return aggregated ? { least: 0, greatest: 2 * (position?.networkRadiusMs ?? 0) } : HERE;
}

function toUsers(link: UserLink): Nearness {
  const { target, kind, place, measure } = link;
  const base = describe(link, `users ${kind === "host" ? "at" : "in"} ${target}`);
  if (kind === "host") return toHost(link, base);
  if (kind === "area")
    return { ...base, range: ({ position }) => (position?.area === target ? HERE : elsewhere(position)) };
  const there: Position = { place: place! };
  if (measure === "geo") return { ...base, range: ({ position }) => placeRange(position, there) };
  return {
    ...base,
    range: ({ position }) => {
      const km = placeRange(position, there);
      // How much slower than light the way is, nobody knows: only the least is of use.
      return typeof km === "string"
        ? km
        : { least: km.least / FIBRE_KM_PER_MS, greatest: km.greatest / FIBRE_KM_PER_MS };
    },
  };
}

const HERE: Range = { least: 0, greatest: 0 };

function elsewhere(position: Position | undefined): string {
  return position?.area === undefined ? "no named location" : `location ${position.area}`;
}

/** What a worker measured itself counts for it; for the others the users are trilaterated from all measurements. */
function toHost(link: UserLink, base: Omit<Nearness, "range">): Nearness {
  const { target, samples = [], tried, pending = 0 } = link;
  if (samples.length === 0) {
    const had = tried ? `unreachable: none of ${tried} workers got an answer` : "no worker has measured it yet";
    // Who all tried in vain is not waited for.
    const isOver = tried && pending === 0;
    return { ...base, ...(isOver ? {} : { waitsFor: `a measurement of ${target}` }), range: () => had };
  }
  const measured = new Map(samples.map(({ workerId, rttMs }) => [workerId, rttMs]));
  const users = estimate(samples);
  const few = `not measured, and ${samples.length} measurements of others do not locate the users (3 would)`;
  return {
    ...base,
    ...(pending > 0 ? { waitsFor: `a measurement of ${target}` } : {}),
    range: ({ id, position }) => {
      const own = measured.get(id);
      if (own !== undefined) return { least: own, greatest: own };
      return users ? networkRange(position, users) : few;
    },
  };
}

function estimate(samples: readonly UserSample[]): Position | undefined {
  // Who has no coordinate of its own yet cannot say where anybody is.
  const found = locate(samples.filter(({ from }) => isMeasured(from)));
  if (!found) return undefined;
  const [x, y, z] = found.position;
  return { network: { ...found, position: [x, y, z] } };
}

function describe({ measure, threshold }: Pick<Link, "measure" | "threshold">, what: string) {
  const unit = measure === "latency" ? ("ms" as const) : ("km" as const);
  const rule = measure === "latency" ? `latency to ${what}` : `distance to ${what}`;
  return { rule, needed: `at most ${threshold} ${unit}`, threshold, unit };
}

/** The nearest target counts: that is where the overlay's policy "closest" leads. */
function nearest(targets: readonly Position[], range: (target: Position) => Range | string): Range | string {
  let best = range(targets[0]!);
  for (let index = 1; index < targets.length; index++) {
    const next = range(targets[index]!);
    if (typeof next === "string") continue;
    if (typeof best === "string") best = next;
    else {
      best = { least: Math.min(best.least, next.least), greatest: Math.min(best.greatest, next.greatest) };
    }
  }
  return best;
}

/** A coordinate that has never predicted anything says nothing: every newcomer stands at the origin. */
function isMeasured(coordinate: Coordinate | undefined): coordinate is Coordinate {
  return coordinate !== undefined && coordinate.error < 1;
}

function networkRange(from: Position | undefined, to: Position): Range | string {
  if (!from || !isMeasured(from.network) || !isMeasured(to.network)) return "no network coordinate yet";
  const slack = (from.networkRadiusMs ?? 0) + (to.networkRadiusMs ?? 0);
  const centres = distanceMs(from.network, to.network);
  return { least: Math.max(0, centres - slack), greatest: centres + slack };
}

function placeRange(from: Position | undefined, to: Position): Range | string {
  if (!from?.place || !to.place) return "no known place";
  const centres = distanceKm(from.place, to.place);
  // An area around the *target* is all of it the target: only the candidate's own is uncertain.
  const reach = to.place.radiusKm;
  const { radiusKm } = from.place;
  return { least: Math.max(0, centres - reach - radiusKm), greatest: Math.max(0, centres - reach + radiusKm) };
}
