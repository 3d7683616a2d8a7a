/** A plain signal: which services look different than a moment ago. Carries no state, so a missed or doubled one costs a look. */
export class Changes {
  readonly #byService = new Map<string, Set<() => void>>();
  readonly #any = new Set<(serviceIds: ReadonlySet<string>) => void>();

  notify(serviceIds: Iterable<string>): void {
    const ids = new Set(serviceIds);
    if (ids.size === 0) return;
    for (const id of ids) for (const listener of [...(this.#byService.get(id) ?? [])]) listener();
    for (const listener of [...this.#any]) listener(ids);
  }

  /** Listeners must not throw. Returns the function that ends the subscription. */
  onService(serviceId: string, listener: () => void): () => void {
    const listeners = this.#byService.get(serviceId) ?? new Set();
    this.#byService.set(serviceId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#byService.get(serviceId) === listeners) this.#byService.delete(serviceId);
    };
  }

  onAny(listener: (serviceIds: ReadonlySet<string>) => void): () => void {
    this.#any.add(listener);
    return () => void this.#any.delete(listener);
  }
}
