/**
 * What the root has told of routes: answers to keys, and the tables that they name. On disk too, so that a cluster that starts
 * without its root goes on routing. `startSession` with every link: what was told before holds, until it is told anew.
 */
import type { InterestKey, RouteUpdate, ServiceRoute } from "../protocol/route.ts";
import type { ClusterStore } from "./store/cluster-store.ts";

export class RouteBook {
  readonly #store: ClusterStore;
  readonly #answers = new Map<InterestKey, readonly string[]>();
  readonly #tables = new Map<string, ServiceRoute>();
  readonly #keysByService = new Map<string, Set<InterestKey>>();
  /** Services that lost a key, and may have none any more. */
  readonly #uncovered = new Set<string>();
  /** Told over the present link. */
  readonly #confirmedKeys = new Set<InterestKey>();
  readonly #confirmedTables = new Set<string>();

  constructor(store: ClusterStore) {
    this.#store = store;
  }

  load(): void {
    const { overlay } = this.#store;
    for (const { key, serviceIds } of overlay.answers()) this.#remember(key, serviceIds);
    for (const table of overlay.tables()) {
      if (this.#keysByService.has(table.serviceId)) this.#tables.set(table.serviceId, table);
    }
  }

  startSession(): void {
    this.#confirmedKeys.clear();
    this.#confirmedTables.clear();
  }

  keys(): InterestKey[] {
    return [...this.#answers.keys()];
  }

  answer(key: InterestKey): readonly string[] | undefined {
    return this.#answers.get(key);
  }

  isConfirmed(key: InterestKey): boolean {
    return this.#confirmedKeys.has(key);
  }

  table(serviceId: string): ServiceRoute | undefined {
    return this.#tables.get(serviceId);
  }

  /** Returns what it changes. @throws STORAGE_FULL | STORAGE_FAILED; then nothing has changed */
  take({ answers, tables, gone }: RouteUpdate): { keys: InterestKey[]; serviceIds: string[] } {
    const newer = tables.filter((table) => !this.#isStale(table));
    const { overlay } = this.#store;
    this.#store.write(() => {
      for (const { key, serviceIds } of answers) overlay.putAnswer(key, serviceIds);
      for (const table of newer) overlay.putTable(table);
      for (const serviceId of gone) overlay.removeTable(serviceId);
    });
    for (const { key, serviceIds } of answers) {
      this.#confirmedKeys.add(key);
      this.#remember(key, serviceIds);
    }
    for (const table of newer) {
      this.#confirmedTables.add(table.serviceId);
      this.#tables.set(table.serviceId, table);
    }
    for (const serviceId of gone) this.#tables.delete(serviceId);
    const dropped = this.#dropUncovered();
    return {
      keys: answers.map(({ key }) => key),
      serviceIds: [...newer.map(({ serviceId }) => serviceId), ...gone, ...dropped],
    };
  }

  /** Nobody wants these any more. */
  forget(keys: readonly InterestKey[]): void {
    if (keys.length === 0) return;
    this.#store.write(() => {
      for (const key of keys) this.#store.overlay.putAnswer(key, []);
    });
    for (const key of keys) {
      this.#remember(key, []);
      this.#answers.delete(key);
      this.#confirmedKeys.delete(key);
    }
    this.#dropUncovered();
  }

  /** Only within a link: the next one may be another root's, or one that was restored from a backup. */
  #isStale({ serviceId, generation }: ServiceRoute): boolean {
    const known = this.#tables.get(serviceId);
    return known !== undefined && this.#confirmedTables.has(serviceId) && generation <= known.generation;
  }

  #remember(key: InterestKey, serviceIds: readonly string[]): void {
    for (const id of this.#answers.get(key) ?? []) {
      this.#keysByService.get(id)?.delete(key);
      this.#uncovered.add(id);
    }
    for (const id of serviceIds) this.#keysByService.set(id, (this.#keysByService.get(id) ?? new Set()).add(key));
    this.#answers.set(key, serviceIds);
  }

  /** The root tells nothing more of a service that no answer names. */
  #dropUncovered(): string[] {
    const ids = [...this.#uncovered].filter((id) => this.#keysByService.get(id)?.size === 0);
    this.#uncovered.clear();
    if (ids.length === 0) return [];
    this.#store.write(() => {
      for (const id of ids) this.#store.overlay.removeTable(id);
    });
    for (const id of ids) {
      this.#keysByService.delete(id);
      this.#tables.delete(id);
      this.#confirmedTables.delete(id);
    }
    return ids;
  }
}
