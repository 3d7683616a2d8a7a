/**
 * The desired set, assembled from single messages. Topics may overtake each other, messages may come doubled or late: only a
 * manifest whose every instance is there in the listed generation is taken over, whole. Nothing follows from a missing message.
 */
import { isDeepStrictEqual } from "node:util";
import type { DesiredInstance, Manifest } from "../protocol/mqtt.ts";

export interface DesiredSet {
  readonly revision: number;
  readonly instances: ReadonlyMap<string, DesiredInstance>;
}

export class DesiredAssembly {
  #current: DesiredSet | undefined;
  #newest: Manifest | undefined;
  #taken: Manifest | undefined;
  /** What has arrived on this connection, by instance and generation. */
  readonly #arrived = new Map<string, Map<number, DesiredInstance>>();

  /** The set taken over last; undefined until there was one. */
  get current(): DesiredSet | undefined {
    return this.#current;
  }

  /** The set of an earlier run. */
  restore(set: DesiredSet): void {
    this.#current = set;
  }

  /** The next connection tells everything again; a restored cluster may count from a lower revision than ours. */
  disconnected(): void {
    this.#newest = undefined;
    this.#arrived.clear();
  }

  /** @returns whether a new set was taken over. */
  instance(instance: DesiredInstance): boolean {
    const generations = this.#arrived.get(instance.instanceId) ?? new Map<number, DesiredInstance>();
    this.#arrived.set(instance.instanceId, generations.set(instance.generation, instance));
    return this.#takeOver() || this.#refresh(instance);
  }

  /** The retained message was cleared. Only a manifest withdraws an instance: this merely frees memory. */
  cleared(instanceId: string): void {
    this.#arrived.delete(instanceId);
  }

  /** @returns whether a new set was taken over. */
  manifest(manifest: Manifest): boolean {
    if (this.#newest && manifest.revision <= this.#newest.revision) return false;
    this.#newest = manifest;
    return this.#takeOver();
  }

  #takeOver(): boolean {
    const manifest = this.#newest;
    if (!manifest || manifest === this.#taken) return false;
    const instances = new Map<string, DesiredInstance>();
    for (const { instanceId, generation } of manifest.instances) {
      const held = this.#current?.instances.get(instanceId);
      const instance = this.#arrived.get(instanceId)?.get(generation) ?? held;
      if (instance?.generation !== generation) return false;
      instances.set(instanceId, instance);
    }
    this.#taken = manifest;
    this.#current = { revision: manifest.revision, instances };
    this.#forgetOlderGenerations();
    return true;
  }

  /** Other content of a generation that is taken over already: its manifest came first, and was content with what we had. */
  #refresh(instance: DesiredInstance): boolean {
    const { instanceId, generation } = instance;
    const current = this.#current;
    const known = current?.instances.get(instanceId);
    if (this.#newest === undefined || this.#newest !== this.#taken || known?.generation !== generation) return false;
    if (isDeepStrictEqual(known, instance)) return false;
    this.#current = { revision: current!.revision, instances: new Map(current!.instances).set(instanceId, instance) };
    return true;
  }

  #forgetOlderGenerations(): void {
    for (const [instanceId, { generation }] of this.#current?.instances ?? []) {
      const arrived = this.#arrived.get(instanceId);
      for (const other of arrived?.keys() ?? []) if (other < generation) arrived?.delete(other);
    }
  }
}
