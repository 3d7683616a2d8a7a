/**
 * Network coordinates: Dabek et al., "Vivaldi: A Decentralized Network Coordinate System", SIGCOMM 2004, with height vectors
 * (§5.4) and the adaptive timestep (§2.5). The distance of two coordinates predicts the round-trip time between their owners.
 * Pure; all lengths are milliseconds.
 */

export interface Coordinate {
  /** Position in a Euclidean plane of three dimensions, where the core of the network lives. */
  readonly position: readonly [number, number, number];
  /** The access link's share, which every path of the node pays. */
  readonly heightMs: number;
  /** How wrong predictions of this node have lately been, as a share of what was measured: 0 good, 1 unknown. */
  readonly error: number;
}

/** Of a node that has measured nothing. */
export const ORIGIN: Coordinate = { position: [0, 0, 0], heightMs: 0.1, error: 1 };

/** Share of its own error that a node corrects with one sample (c_c and c_e of the paper). */
const TIMESTEP = 0.25;
const ERROR_SHARE = 0.25;
const MIN_HEIGHT_MS = 0.1;
/** Beyond the size of any network on Earth; a coordinate or a sample outside is nonsense, or an attack. */
const MAX_MS = 10_000;
/** One sample moves a node at most this far, so that a liar or a stall cannot throw it across the world. */
const MAX_STEP_MS = 100;

/** Predicted round-trip time between the owners of two coordinates. */
export function distanceMs(a: Coordinate, b: Coordinate): number {
  // By hand: the scheduler asks for a hundred thousand of them at once.
  const [ax, ay, az] = a.position;
  const [bx, by, bz] = b.position;
  return Math.sqrt((ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2) + a.heightMs + b.heightMs;
}

export function isCredible({ position, heightMs, error }: Coordinate): boolean {
  return (
    [...position, heightMs].every((value) => Math.abs(value) <= MAX_MS) && heightMs >= 0 && error >= 0 && error <= 1
  );
}

/**
 * The node's coordinate after it measured `rttMs` to a peer. Nonsense (NaN, a negative or absurd time, a coordinate out of
 * this world) leaves it as it was.
 * @param direction unit vector to part in when both stand in one place
 */
export function update(
  own: Coordinate,
  peer: Coordinate,
  rttMs: number,
  direction: readonly [number, number, number] = [1, 0, 0],
): Coordinate {
  if (!(rttMs > 0 && rttMs <= MAX_MS) || !isCredible(peer)) return own;
  const predicted = distanceMs(own, peer);
  const trust = own.error / (own.error + peer.error || 1);
  const sampleError = Math.min(1, Math.abs(predicted - rttMs) / rttMs);
  const error = sampleError * ERROR_SHARE * trust + own.error * (1 - ERROR_SHARE * trust);
  const step = clamp(TIMESTEP * trust * (rttMs - predicted), MAX_STEP_MS);
  const apart = minus(own.position, peer.position);
  const spread = length(apart);
  const unit = spread > 1e-6 ? scale(apart, 1 / spread) : direction;
  // Height vectors: of the whole force, each part takes what it has of the whole distance.
  const flatShare = predicted > 0 && spread > 1e-6 ? spread / predicted : 0.5;
  return {
    position: plus(own.position, scale(unit, step * flatShare)),
    heightMs: Math.max(MIN_HEIGHT_MS, own.heightMs + step * (1 - flatShare)),
    error: Math.min(1, Math.max(0.01, error)),
  };
}

export interface Sample {
  readonly from: Coordinate;
  readonly rttMs: number;
}

/**
 * Trilateration: where a node must be that several others measured, by least squares over their coordinates (steepest
 * descent: the same springs as above, with all samples pulling at once).
 * @returns undefined when fewer than three credible samples are left
 */
export function locate(samples: readonly Sample[]): Coordinate | undefined {
  const credible = samples.filter(({ from, rttMs }) => rttMs > 0 && rttMs <= MAX_MS && isCredible(from));
  if (credible.length < 3) return undefined;
  let place: Coordinate = { ...ORIGIN, position: centre(credible) };
  for (let round = 0; round < ROUNDS; round++) place = pull(place, credible, round);
  const misses = credible.map(({ from, rttMs }) => Math.abs(distanceMs(place, from) - rttMs) / rttMs);
  return { ...place, error: Math.min(1, misses.reduce((sum, miss) => sum + miss, 0) / misses.length) };
}

const ROUNDS = 300;

/** One step of the descent, ever shorter ones. In plain numbers: placement waits for it. */
function pull({ position, heightMs, error }: Coordinate, samples: readonly Sample[], round: number): Coordinate {
  let x = 0;
  let y = 0;
  let z = 0;
  let up = 0;
  for (const { from, rttMs } of samples) {
    const dx = position[0] - from.position[0];
    const dy = position[1] - from.position[1];
    const dz = position[2] - from.position[2];
    const spread = Math.sqrt(dx * dx + dy * dy + dz * dz);
    const push = rttMs - spread - heightMs - from.heightMs;
    const unit = spread > 1e-6 ? undefined : spokes[round % spokes.length]!;
    x += (unit ? unit[0] : dx / spread) * push;
    y += (unit ? unit[1] : dy / spread) * push;
    z += (unit ? unit[2] : dz / spread) * push;
    up += push;
  }
  const factor = 1 / (1 + round / 60) / samples.length;
  return {
    position: [position[0] + x * factor, position[1] + y * factor, position[2] + z * factor],
    heightMs: Math.max(0, heightMs + (up * factor) / 4),
    error,
  };
}

type Vector = readonly [number, number, number];

const spokes: readonly Vector[] = [
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
];

function centre(samples: readonly Sample[]): Vector {
  const sum = samples.reduce<Vector>((total, { from }) => plus(total, from.position), [0, 0, 0]);
  return scale(sum, 1 / samples.length);
}

const minus = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const plus = (a: Vector, b: Vector): Vector => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
const scale = (a: Vector, factor: number): Vector => [a[0] * factor, a[1] * factor, a[2] * factor];
const length = (a: Vector): number => Math.hypot(...a);
const clamp = (value: number, limit: number): number => Math.min(limit, Math.max(-limit, value));
