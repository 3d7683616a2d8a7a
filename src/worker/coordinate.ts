/**
 * This worker's network coordinate (scheduler/vivaldi.ts), from round-trip times to the few workers that the cluster names. It is
 * told when it has moved notably: an idle network sends nothing.
 */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { fraction } from "../base/random.ts";
import { PROBE_PORT, type ProbeAnswer, RttProber } from "../net/rtt.ts";
import type { Landmark } from "../protocol/capacity.ts";
import type { NetworkCoordinate } from "../protocol/placement-request.ts";
import { type Coordinate, distanceMs, ORIGIN, update } from "../scheduler/vivaldi.ts";

/** Apart from the overlay's probes, which go to whoever is in use. */
export const COORDINATE_PORT = PROBE_PORT + 1;

export interface OwnCoordinateOptions {
  /** What is to be told has changed. */
  readonly onMoved: () => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly address?: string | undefined;
  readonly port?: number | undefined;
}

/** A coordinate settles within a minute; then it is only kept. */
const SETTLING_ROUNDS = 30;
const SETTLING_MS = 2_000;
const STEADY_MS = 30_000;
/** As long as nothing changes. */
const CALM_MS = 90_000;
/** Below this nobody tells near from nearer, but relative errors would be large. */
const LEAST_RTT_MS = 0.5;
const NOTABLE_MS = 2;
const NOTABLE_SHARE = 0.1;
const NOTABLE_ERROR = 0.1;

/** Whether a coordinate is so different from the one that was told that predictions by it are. Pure. */
export function isNotable(told: Coordinate | undefined, now: Coordinate): boolean {
  if (!told) return true;
  const flat: Coordinate = { ...now, heightMs: Math.abs(now.heightMs - told.heightMs) };
  const movedMs = distanceMs(flat, { ...told, heightMs: 0 });
  const sizeMs = Math.hypot(...now.position) + now.heightMs;
  return movedMs > Math.max(NOTABLE_MS, NOTABLE_SHARE * sizeMs) || Math.abs(now.error - told.error) > NOTABLE_ERROR;
}

export class OwnCoordinate {
  readonly #options: OwnCoordinateOptions;
  readonly #prober: RttProber;
  #coordinate: Coordinate = ORIGIN;
  #told: Coordinate | undefined;
  #addresses: ReadonlySet<string> = new Set();
  readonly #wanted = Promise.withResolvers<void>();

  constructor(options: OwnCoordinateOptions) {
    const { clock, log, address, port = COORDINATE_PORT } = options;
    this.#options = options;
    this.#prober = new RttProber({
      isPeer: (source) => this.#addresses.has(source),
      onMeasured: (_peer, _path, answer) => this.#measured(answer),
      coordinate: () => protocolOf(this.#coordinate),
      steadyMs: (rounds, isCalm) => (rounds < SETTLING_ROUNDS ? SETTLING_MS : isCalm ? CALM_MS : STEADY_MS),
      ...{ clock, log, port },
      ...(address === undefined ? {} : { address }),
    });
  }

  setPeers(peers: readonly Landmark[]): void {
    this.#addresses = new Set(peers.map(({ address }) => address));
    this.#prober.setPeers(peers.map(({ id, address }) => ({ id, addresses: { underlay: address } })));
    if (peers.length > 0) this.#wanted.resolve();
  }

  /** Undefined: nothing to tell since it was told last. */
  take(full: boolean): NetworkCoordinate | undefined {
    const now = this.#coordinate;
    // What has never predicted anything says nothing.
    if (now.error >= 1 || (!full && !isNotable(this.#told, now))) return undefined;
    this.#told = now;
    return protocolOf(now);
  }

  /** Listens once there is somebody to measure. */
  async run(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([this.#wanted.promise, stopped]);
    if (!signal.aborted) await this.#prober.run(signal);
  }

  #measured(answer: ProbeAnswer | undefined): void {
    if (!answer?.coordinate) return;
    const rttMs = Math.max(LEAST_RTT_MS, answer.rttMs);
    this.#coordinate = update(this.#coordinate, answer.coordinate, rttMs, anyDirection());
    if (this.#coordinate.error < 1 && isNotable(this.#told, this.#coordinate)) this.#options.onMoved();
  }
}

/** Rounded: the last digits are noise, and cost bytes. */
function protocolOf({ position: [x, y, z], heightMs, error }: Coordinate): NetworkCoordinate {
  const round = (value: number) => Math.round(value * 100) / 100;
  // 1 means that nothing is known: it must not be come to by rounding.
  const rounded = error >= 1 ? 1 : Math.min(0.99, Math.max(0.01, round(error)));
  return { position: [round(x), round(y), round(z)], heightMs: round(heightMs), error: rounded };
}

function anyDirection(): [number, number, number] {
  const [x, y, z] = [fraction() - 0.5, fraction() - 0.5, fraction() - 0.5];
  const length = Math.hypot(x, y, z);
  return length > 0 ? [x / length, y / length, z / length] : [1, 0, 0];
}
