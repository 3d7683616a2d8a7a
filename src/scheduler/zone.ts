/** The zone that all of a cluster's workers lie in: all that the root learns of where they are. Pure. */
import type { Position } from "../protocol/placement-request.ts";
import { distanceKm, type Place } from "./geo.ts";
import type { Coordinate } from "./vivaldi.ts";

/**
 * Undefined when nothing is known of any worker. A worker of which something is unknown may be anywhere: then the zone does
 * not say it either, so that it never excludes wrongly.
 */
export function zoneOf(workers: readonly Position[]): Position | undefined {
  const coordinates = all(workers.map(({ network }) => (network && network.error < 1 ? network : undefined)));
  const places = all(workers.map(({ place }) => place));
  const areas = new Set(workers.map(({ area }) => area));
  const area = areas.size === 1 ? [...areas][0] : undefined;
  if (!coordinates && !places && area === undefined) return undefined;
  return {
    ...(coordinates ? networkZone(coordinates) : {}),
    ...(places ? placeZone(places) : {}),
    ...(area ? { area } : {}),
  };
}

function all<T>(values: readonly (T | undefined)[]): readonly T[] | undefined {
  return values.length > 0 && values.every((value) => value !== undefined) ? (values as T[]) : undefined;
}

/** The protocol carries no larger radius; a zone of this size excludes nothing anyway. */
const MAX_RADIUS_MS = 10_000;

function networkZone(workers: readonly Coordinate[]): Pick<Position, "network" | "networkRadiusMs"> {
  const mean = (axis: 0 | 1 | 2) => workers.reduce((sum, { position }) => sum + position[axis], 0) / workers.length;
  const centre: [number, number, number] = [mean(0), mean(1), mean(2)];
  const radius = Math.max(
    ...workers.map(({ position: [x, y, z] }) => Math.hypot(x - centre[0], y - centre[1], z - centre[2])),
  );
  if (radius >= MAX_RADIUS_MS) return {};
  return {
    network: {
      position: centre,
      heightMs: Math.min(...workers.map(({ heightMs }) => heightMs)),
      error: Math.max(...workers.map(({ error }) => error)),
    },
    networkRadiusMs: Math.min(MAX_RADIUS_MS, roundedUp(radius)),
  };
}

/** Around the middle of the bounding box, which need not be the smallest circle, but holds all. */
function placeZone(workers: readonly Place[]): Pick<Position, "place"> {
  const middle = (values: readonly number[]) => (Math.min(...values) + Math.max(...values)) / 2;
  const centre = {
    latitude: middle(workers.map(({ latitude }) => latitude)),
    longitude: middle(workers.map(({ longitude }) => longitude)),
    radiusKm: 0,
  };
  const radiusKm = Math.max(...workers.map((one) => distanceKm(centre, one) + one.radiusKm));
  return { place: { ...centre, radiusKm: Math.min(20_100, roundedUp(radiusKm)) } };
}

/** The last digits of a root or a sine may be missing. */
function roundedUp(value: number): number {
  return value * (1 + 1e-9) + 1e-6;
}
