/**
 * A synthetic edge: workers spread over 1200 × 1200 km, round-trip times of 1 ms for 50 km plus an access link at each end, slow for a third of them, and one path in
 * ten that takes a detour, so that the triangle inequality does not hold and no coordinates can be right everywhere.
 */
import type { Position } from "../../src/protocol/placement-request.ts";
import type { Candidate } from "../../src/scheduler/candidate.ts";
import { type Coordinate, ORIGIN, update } from "../../src/scheduler/vivaldi.ts";

const SIDE_KM = 1200;
const KM_PER_MS = 50;
const KM_PER_DEGREE = 111.195;
const PEERS = 16;
const SWEEPS = 20;

export interface Spot {
  readonly xKm: number;
  readonly yKm: number;
  readonly accessMs: number;
  readonly seed: number;
}

/** Repeatable: the same world in every run. */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export function spot(random: () => number, near?: { readonly spot: Spot; readonly km: number }): Spot {
  const around = (centre: number) => centre + (random() - 0.5) * 2 * near!.km;
  return {
    xKm: near ? around(near.spot.xKm) : random() * SIDE_KM,
    yKm: near ? around(near.spot.yKm) : random() * SIDE_KM,
    // A third by radio, the others by wire.
    accessMs: random() < 1 / 3 ? 4 + random() * 16 : 0.5 + random() * 3,
    seed: Math.floor(random() * 2 ** 32),
  };
}

/** What a ping would measure. A worker is no distance from itself. */
export function rttMs(a: Spot, b: Spot): number {
  if (a === b) return 0;
  const straight = Math.hypot(a.xKm - b.xKm, a.yKm - b.yKm) / KM_PER_MS + a.accessMs + b.accessMs;
  return straight * (Math.imul(a.seed ^ b.seed, 2654435761) >>> 0 < 2 ** 32 / 10 ? 1.5 : 1);
}

export interface World {
  readonly spots: readonly Spot[];
  readonly candidates: readonly Candidate[];
}

export function world(count: number, random: () => number): World {
  const spots = Array.from({ length: count }, () => spot(random));
  const coordinates = converge(spots, random);
  return { spots, candidates: spots.map((one, index) => candidate(index, one, coordinates[index]!, random)) };
}

/** Each worker measures a few peers, as the product does: again and again, never all of them. */
function converge(spots: readonly Spot[], random: () => number): Coordinate[] {
  const nodes: Coordinate[] = spots.map(() => ORIGIN);
  const peers = spots.map(() => Array.from({ length: PEERS }, () => Math.floor(random() * spots.length)));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (let index = 0; index < nodes.length; index++) {
      for (const peer of peers[index]!) {
        if (peer === index) continue;
        const measured = rttMs(spots[index]!, spots[peer]!) * (0.95 + random() * 0.1);
        nodes[index] = update(nodes[index]!, nodes[peer]!, measured, direction(random));
      }
    }
  }
  return nodes;
}

function direction(random: () => number): [number, number, number] {
  const raw: [number, number, number] = [random() - 0.5, random() - 0.5, random() - 0.5];
  const size = Math.hypot(...raw) || 1;
  return [raw[0] / size, raw[1] / size, raw[2] / size];
}

function candidate(index: number, place: Spot, coordinate: Coordinate, random: () => number): Candidate {
  const total = { cpuMillis: 4000, memoryBytes: 4 * 2 ** 30, gpus: 0 };
  const position: Position = {
    network: { ...coordinate, position: [...coordinate.position] },
    place: {
      latitude: place.yKm / KM_PER_DEGREE,
      longitude: place.xKm / KM_PER_DEGREE,
      radiusKm: 0,
    },
  };
  return {
    id: index.toString(16).padStart(24, "0"),
    name: `worker-${index}`,
    active: true,
    free: { cpuMillis: Math.floor(random() * 4000), memoryBytes: Math.floor(random() * total.memoryBytes), gpus: 0 },
    total,
    architectures: ["amd64"],
    virtualization: ["container"],
    heldPorts: new Map(),
    position,
  };
}
