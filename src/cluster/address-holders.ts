/** Which worker has which address of the underlay, as far as connections show it. Memory only: connections do not outlive the cluster. */

export interface AddressHoldersOptions {
  /** Ids of the workers that are connected from the address. */
  readonly connectedFrom: (address: string) => ReadonlySet<string>;
  readonly isConnected: (workerId: string) => boolean;
}

export class AddressHolders {
  readonly #options: AddressHoldersOptions;
  /** The address of each worker, of those that it claimed, from which it was connected last. */
  readonly #seenAt = new Map<string, string>();

  constructor(options: AddressHoldersOptions) {
    this.#options = options;
  }

  /** Another worker that is connected from the address that this one claims. */
  otherThan(workerId: string, address: string): string | undefined {
    const { connectedFrom, isConnected } = this.#options;
    const there = connectedFrom(address);
    if (there.has(workerId)) {
      this.#seenAt.set(workerId, address);
      return undefined;
    }
    // Workers may share one, a host and its virtual machine for instance: while it is away it keeps what it was seen to have.
    if (!isConnected(workerId) && this.#seenAt.get(workerId) === address) return undefined;
    const [holder] = there;
    return holder;
  }

  forget(workerId: string): void {
    this.#seenAt.delete(workerId);
  }
}
