/**
 * What moves between clusters are judged by and is not worth a disk: how long a cluster on standby has been as it is, and which
 * clusters have had their try. A root that starts begins anew: it measures spans by its own steady clock, and tries once more.
 */
import { resting, type Tries, unforgotten, withTry } from "../hierarchy/tries.ts";
import type { Instance } from "./model.ts";
import { isMoving, type MoveStep } from "./moves.ts";

/** In which a cluster measures often enough to say that a promise is kept again. */
const CALM_MS = 60_000;

export class MoveMemory {
  /** By instance: who is on standby and how, and since when (monotonic ms). */
  readonly #seen = new Map<string, { readonly what: string; readonly at: number }>();
  /** By instance, the clusters that had their try. */
  readonly #tries = new Map<string, Tries>();
  /** By instance: monotonic ms of the last switch. */
  readonly #switchedAt = new Map<string, number>();

  /** Call it with all instances before each decision. */
  observe(instances: readonly Instance[], now: number): void {
    const moving = new Map(instances.filter(isMoving).map((one) => [one.id, one]));
    for (const id of this.#seen.keys()) if (!moving.has(id)) this.#seen.delete(id);
    for (const [id, { move }] of moving) {
      const { successor, predecessor } = move!;
      const what = successor
        ? `${successor.generation} ${successor.report?.status}`
        : `left ${predecessor?.generation}`;
      if (this.#seen.get(id)?.what !== what) this.#seen.set(id, { what, at: now });
    }
    for (const id of this.#switchedAt.keys()) if (!this.hasMovedLately(id, now)) this.#switchedAt.delete(id);
    if (this.#tries.size === 0) return;
    const existing = new Set(instances.map(({ id }) => id));
    for (const [id, tries] of this.#tries) {
      const remembered = unforgotten(tries, now);
      if (remembered.size === 0 || !existing.has(id)) this.#tries.delete(id);
      else this.#tries.set(id, remembered);
    }
  }

  standbyForMs(instanceId: string, now: number): number {
    return now - (this.#seen.get(instanceId)?.at ?? now);
  }

  hasMovedLately(instanceId: string, now: number): boolean {
    return now - (this.#switchedAt.get(instanceId) ?? Number.NEGATIVE_INFINITY) < CALM_MS;
  }

  /** Clusters that are not to be tried now, and why. */
  resting(instanceId: string, now: number): Map<string, string> {
    return resting(this.#tries.get(instanceId) ?? NONE, now);
  }

  /** @param instances as they were before the steps */
  took(steps: readonly MoveStep[], instances: readonly Instance[], now: number): void {
    if (steps.length === 0) return;
    const before = new Map(instances.map((one) => [one.id, one]));
    for (const { do: what, id, clusterId, reason } of steps) {
      if (what === "switch") this.#switchedAt.set(id, now);
      if (what === "abandon") this.#tried(id, clusterId, reason, now);
      // The one that it leaves has had its try, whoever that is.
      const left = before.get(id)?.clusterId;
      if ((what === "switch" || what === "return") && left !== undefined) this.#tried(id, left, reason, now);
    }
  }

  #tried(id: string, clusterId: string, reason: string, at: number): void {
    this.#tries.set(id, withTry(this.#tries.get(id) ?? NONE, clusterId, reason, at));
  }
}

const NONE: Tries = new Map();
