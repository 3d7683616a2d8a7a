import { FreeAddresses } from "../addressing/free-addresses.ts";
import { contains, formatSubnet, type Subnet } from "../addressing/subnet.ts";

/** Sandbox addresses that nobody has, of several subnets that come and go. */
export class SandboxAddresses {
  #pools: readonly { readonly subnet: Subnet; readonly free: FreeAddresses }[] = [];

  get count(): number {
    return this.#pools.reduce((sum, { free }) => sum + free.count, 0);
  }

  get subnets(): readonly Subnet[] {
    return this.#pools.map(({ subnet }) => subnet);
  }

  /** @param taken addresses in use now, of whatever subnet. */
  setSubnets(subnets: readonly Subnet[], taken: readonly number[]): void {
    this.#pools = subnets.map((subnet) => {
      const name = formatSubnet(subnet);
      const known = this.#pools.find((pool) => formatSubnet(pool.subnet) === name);
      const inside = taken.filter((address) => contains(subnet, address));
      return known ?? { subnet, free: new FreeAddresses(subnet, inside) };
    });
  }

  /** Subnets are filled one after the other. */
  take(): number | undefined {
    return this.#pools.find(({ free }) => free.count > 0)?.free.take();
  }

  /** Gives an address back; that of a subnet which is not ours any more is forgotten. */
  release(address: number): void {
    this.#pools.find(({ subnet }) => contains(subnet, address))?.free.release(address);
  }
}
