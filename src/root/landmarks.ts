/**
 * Tells clusters of each other's landmarks. Workers measure round-trip times within their cluster; a few pairs across clusters are
 * what makes the coordinates of all clusters one map.
 */
import { neighbours } from "../hierarchy/neighbours.ts";
import type { Landmark } from "../protocol/capacity.ts";

export class Landmarks {
  readonly #send: (clusterId: string, peers: Landmark[]) => void;
  readonly #byCluster = new Map<string, readonly Landmark[]>();
  /** Text of what each was sent. */
  readonly #told = new Map<string, string>();

  constructor(send: (clusterId: string, peers: Landmark[]) => void) {
    this.#send = send;
  }

  take(clusterId: string, landmarks: readonly Landmark[]): void {
    this.#byCluster.set(clusterId, landmarks);
    this.#tell();
  }

  /** Its link has ended: the next begins with nothing. */
  leave(clusterId: string): void {
    this.#told.delete(clusterId);
    if (this.#byCluster.delete(clusterId)) this.#tell();
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
