/** Places on Earth, as descriptors and operators write them, and the distance between them. Pure. */

export interface Place {
  /** Degrees north, -90 to 90. */
  readonly latitude: number;
  /** Degrees east, -180 to 180. */
  readonly longitude: number;
  /** Of an area around the place; 0 for a point. */
  readonly radiusKm: number;
}

const EARTH_RADIUS_KM = 6371.0088;

/** Great-circle distance of two points by the haversine formula; their radii play no part. */
export function distanceKm(a: Place, b: Place): number {
  const radians = (degrees: number) => (degrees * Math.PI) / 180;
  const half = (degrees: number) => Math.sin(radians(degrees) / 2) ** 2;
  const chord =
    half(b.latitude - a.latitude) +
    Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * half(b.longitude - a.longitude);
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(chord)));
}

const NUMBER = "([+-]?\\d{1,3}(?:\\.\\d{1,15})?)";
const COMMA = new RegExp(`^${NUMBER}\\s*,\\s*${NUMBER}(?:\\s*,\\s*(\\d{1,6}(?:\\.\\d{1,6})?))?$`);
const SEMICOLON = new RegExp(`^${NUMBER}\\s*;\\s*${NUMBER}$`);

/**
 * `lat,lon`, `lat,lon,radius in metres` (what clusters call their location), or `lon;lat` (the upstream descriptor's).
 * Undefined for everything else: a name is a location too, but has no coordinates.
 */
export function parsePlace(text: string): Place | undefined {
  const comma = COMMA.exec(text.trim());
  const semicolon = SEMICOLON.exec(text.trim());
  const [latitude, longitude] = comma ? [comma[1], comma[2]] : [semicolon?.[2], semicolon?.[1]];
  if (latitude === undefined || longitude === undefined) return undefined;
  const place = { latitude: Number(latitude), longitude: Number(longitude), radiusKm: Number(comma?.[3] ?? 0) / 1000 };
  return Math.abs(place.latitude) <= 90 && Math.abs(place.longitude) <= 180 ? place : undefined;
}

/** A location as operators write it: a place, or the name of an area; empty: nobody said. */
export function readLocation(text: string): { readonly place?: Place; readonly area?: string } {
  const place = parsePlace(text);
  if (place) return { place };
  return text.trim() === "" ? {} : { area: text.trim() };
}
