import { type Subnet, sizeOf } from "./subnet.ts";

/**
 * Addresses of a subnet that nobody has, least recently used first: a stale connection or cache entry of the previous
 * holder has the longest possible time to die. Network, broadcast and the first address (the gateway) are never given out.
 */
export class FreeAddresses {
  readonly #queue: number[];

  /**
   * @param taken addresses in use now. Those after the highest of them come first, since it was probably given out last.
   */
  constructor(subnet: Subnet, taken: Iterable<number>) {
    const used = new Set(taken);
    const newest = Math.max(subnet.base, ...[...used].filter((address) => address < subnet.base + sizeOf(subnet)));
    const all = Array.from({ length: Math.max(0, sizeOf(subnet) - 3) }, (_, index) => subnet.base + 2 + index);
    const free = all.filter((address) => !used.has(address));
    this.#queue = [...free.filter((address) => address > newest), ...free.filter((address) => address < newest)];
  }

  get count(): number {
    return this.#queue.length;
  }

  /** The address that has been unused for longest, or undefined when all are taken. */
  take(): number | undefined {
    return this.#queue.shift();
  }

  /** Gives an address back; it must be one that was taken. */
  release(address: number): void {
    this.#queue.push(address);
  }
}
