/**
 * Who below wants to hear of which routes, and what each of them has yet to be told. The same at the root (for clusters) and
 * in a cluster (for workers). No input or output: the owner calls `take` and sends what it gets.
 */
import type { Interest, InterestKey, RouteUpdate, ServiceRoute } from "../protocol/route.ts";

export interface RouteDirectory {
  /** The services that a key stands for; undefined: not known yet, asked for elsewhere. */
  resolve(key: InterestKey): readonly string[] | undefined;
  table(serviceId: string): ServiceRoute | undefined;
}

interface Child {
  readonly keys: Set<InterestKey>;
  /** What the child was last told of a key. */
  readonly answered: Map<InterestKey, readonly string[]>;
  /** How many of those answers name a service. */
  readonly coverage: Map<string, number>;
  /** Generation of each table that the child has. */
  readonly sent: Map<string, number>;
  readonly pendingKeys: Set<InterestKey>;
  readonly pendingServices: Set<string>;
}

export class RouteFanout {
  readonly #directory: RouteDirectory;
  readonly #children = new Map<string, Child>();
  readonly #childrenByKey = new Map<InterestKey, Set<string>>();
  readonly #childrenByService = new Map<string, Set<string>>();
  /** Who may have something to be told: of thousands few at a time. */
  readonly #stirred = new Set<string>();

  constructor(directory: RouteDirectory) {
    this.#directory = directory;
  }

  /** Every key that somebody wants. */
  keys(): IterableIterator<InterestKey> {
    return this.#childrenByKey.keys();
  }

  wants(key: InterestKey): boolean {
    return this.#childrenByKey.has(key);
  }

  isWantedBy(childId: string, key: InterestKey): boolean {
    return this.#children.get(childId)?.keys.has(key) ?? false;
  }

  /** True when an answer that a child has been given names the service. */
  covers(serviceId: string): boolean {
    return this.#childrenByService.has(serviceId);
  }

  /** False: the child has yet to tell its whole interest. */
  knows(childId: string): boolean {
    return this.#children.has(childId);
  }

  /** How many keys the child wants. */
  countOf(childId: string): number {
    return this.#children.get(childId)?.keys.size ?? 0;
  }

  /** A child's message. A full one makes it a newcomer that knows nothing. Returns the keys that gained their first, or lost their last, child. */
  interest(childId: string, { full, add, remove }: Interest): { gained: InterestKey[]; lost: InterestKey[] } {
    const before = full ? this.#forget(childId) : [];
    const child = this.#children.get(childId) ?? emptyChild();
    this.#children.set(childId, child);
    this.#stirred.add(childId);
    const gained = add.filter((key) => !child.keys.has(key) && this.#join(childId, child, key));
    const lost = [...before, ...remove.filter((key) => this.#part(childId, child, key))];
    return {
      gained: gained.filter((key) => !before.includes(key)),
      lost: lost.filter((key) => !this.#childrenByKey.has(key)),
    };
  }

  /** The child is gone, or its link is. Returns the keys that nobody wants any more. */
  leave(childId: string): InterestKey[] {
    return this.#forget(childId).filter((key) => !this.#childrenByKey.has(key));
  }

  keyChanged(key: InterestKey): void {
    for (const childId of this.#childrenByKey.get(key) ?? []) {
      this.#children.get(childId)!.pendingKeys.add(key);
      this.#stirred.add(childId);
    }
  }

  serviceChanged(serviceId: string): void {
    for (const childId of this.#childrenByService.get(serviceId) ?? []) {
      this.#children.get(childId)!.pendingServices.add(serviceId);
      this.#stirred.add(childId);
    }
  }

  /** Children that have something to be told (or that wait for an answer). */
  pending(): string[] {
    for (const childId of this.#stirred) if (!this.isPending(childId)) this.#stirred.delete(childId);
    return [...this.#stirred];
  }

  isPending(childId: string): boolean {
    const child = this.#children.get(childId);
    return child !== undefined && child.pendingKeys.size + child.pendingServices.size > 0;
  }

  /** What the child must be told now; undefined when there is nothing. It counts as told. */
  take(childId: string): RouteUpdate | undefined {
    const child = this.#children.get(childId);
    if (!child) return undefined;
    const answers = [...child.pendingKeys].flatMap((key) => this.#answer(childId, child, key));
    const tables: ServiceRoute[] = [];
    const gone: string[] = [];
    for (const serviceId of child.pendingServices) {
      const table = this.#directory.table(serviceId);
      const known = child.sent.get(serviceId);
      if (table && table.generation !== known) {
        tables.push(table);
        child.sent.set(serviceId, table.generation);
      } else if (!table && known !== undefined) {
        gone.push(serviceId);
        child.sent.delete(serviceId);
      }
    }
    child.pendingServices.clear();
    return answers.length + tables.length + gone.length > 0 ? { tables, answers, gone } : undefined;
  }

  #answer(childId: string, child: Child, key: InterestKey): RouteUpdate["answers"] {
    const serviceIds = this.#directory.resolve(key);
    if (serviceIds === undefined) return [];
    child.pendingKeys.delete(key);
    const before = child.answered.get(key);
    if (before && before.length === serviceIds.length && before.every((id) => serviceIds.includes(id))) return [];
    child.answered.set(key, [...serviceIds]);
    for (const serviceId of serviceIds) {
      child.coverage.set(serviceId, (child.coverage.get(serviceId) ?? 0) + 1);
      add(this.#childrenByService, serviceId, childId);
      if (!child.sent.has(serviceId)) child.pendingServices.add(serviceId);
    }
    this.#uncover(childId, child, before ?? []);
    return [{ key, serviceIds: [...serviceIds] }];
  }

  /** True when the key had no child before. */
  #join(childId: string, child: Child, key: InterestKey): boolean {
    child.keys.add(key);
    child.pendingKeys.add(key);
    return add(this.#childrenByKey, key, childId);
  }

  /** True when the key has no child any more. */
  #part(childId: string, child: Child, key: InterestKey): boolean {
    if (!child.keys.delete(key)) return false;
    child.pendingKeys.delete(key);
    const services = child.answered.get(key) ?? [];
    child.answered.delete(key);
    this.#uncover(childId, child, services);
    return take(this.#childrenByKey, key, childId);
  }

  /** One answer less names these. A service that none names any more: the child is told nothing of it from now on. */
  #uncover(childId: string, child: Child, serviceIds: readonly string[]): void {
    for (const serviceId of serviceIds) {
      const answers = child.coverage.get(serviceId)! - 1;
      if (answers > 0) {
        child.coverage.set(serviceId, answers);
        continue;
      }
      child.coverage.delete(serviceId);
      take(this.#childrenByService, serviceId, childId);
      child.sent.delete(serviceId);
      child.pendingServices.delete(serviceId);
    }
  }

  #forget(childId: string): InterestKey[] {
    const child = this.#children.get(childId);
    if (!child) return [];
    for (const key of child.keys) take(this.#childrenByKey, key, childId);
    for (const serviceId of child.coverage.keys()) take(this.#childrenByService, serviceId, childId);
    this.#children.delete(childId);
    return [...child.keys];
  }
}

function emptyChild(): Child {
  return {
    keys: new Set(),
    answered: new Map(),
    coverage: new Map(),
    sent: new Map(),
    pendingKeys: new Set(),
    pendingServices: new Set(),
  };
}

/** True when the set was empty. */
function add<K>(index: Map<K, Set<string>>, key: K, member: string): boolean {
  const members = index.get(key);
  if (members) {
    members.add(member);
    return false;
  }
  index.set(key, new Set([member]));
  return true;
}

/** True when the set is empty now. */
function take<K>(index: Map<K, Set<string>>, key: K, member: string): boolean {
  const members = index.get(key);
  members?.delete(member);
  if (members && members.size === 0) index.delete(key);
  return members !== undefined && members.size === 0;
}
