/**
 * Tells clusters of each other's landmarks. Workers measure round-trip times within their cluster; a few pairs across clusters are
 * what makes the coordinates of all clusters one map.
 */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import { neighbours } from "../hierarchy/neighbours.ts";
import type { Landmark } from "../protocol/capacity.ts";

/** Everything triggers it; nobody is in a hurry. */
const RESYNC_MS = 3_600_000;
/** When a thousand clusters come at once, most of what each of them changes is changed by the next. */
const MAX_SHARE = 0.1;

export class Landmarks {
  readonly #send: (clusterId: string, peers: Landmark[]) => void;
  readonly #loop: Reconciler;
  readonly #byCluster = new Map<string, readonly Landmark[]>();
  /** Text of what each was sent. */
  readonly #told = new Map<string, string>();

  constructor(options: {
    readonly send: (clusterId: string, peers: Landmark[]) => void;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    const { send, clock, log } = options;
    this.#send = send;
    this.#loop = new Reconciler({
      ...{ name: "landmarks", log, clock, resyncMs: RESYNC_MS, maxShare: MAX_SHARE },
      pass: async () => {
        this.#tell();
        return undefined;
      },
    });
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal);
  }

  take(clusterId: string, landmarks: readonly Landmark[]): void {
    this.#byCluster.set(clusterId, landmarks);
    this.#loop.trigger();
  }

  /** Its link has ended: the next begins with nothing. */
  leave(clusterId: string): void {
    this.#told.delete(clusterId);
    if (this.#byCluster.delete(clusterId)) this.#loop.trigger();
  }

  #tell(): void {
    for (const [clusterId, near] of neighbours([...this.#byCluster.keys()])) {
      const peers = near.flatMap((id) => this.#byCluster.get(id)!);
      const text = JSON.stringify(peers);
      if ((this.#told.get(clusterId) ?? "[]") === text) continue;
      this.#told.set(clusterId, text);
      this.#send(clusterId, peers);
    }
  }
}
