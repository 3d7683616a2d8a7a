/**
 * Balancing as data: which sandboxes an address of the service range stands for, and what differs from before. No input or output.
 * An address with several sandboxes is `hot` while there is room: then it has a counter of its own in the kernel.
 */
import { parseAddress } from "../addressing/subnet.ts";
import type { ServiceRoutes } from "./overlay.ts";

/** At every change the kernel validates all counters' chains: with 1,000 that takes 4 ms. */
export const HOT_LIMIT = 1000;

export interface Balanced {
  readonly serviceId: string;
  /** Sandbox addresses; none: the address is known, but nobody is there. */
  readonly targets: readonly number[];
  readonly hot: boolean;
}

export interface BalancingChange {
  readonly address: number;
  readonly from: Balanced | undefined;
  readonly to: Balanced | undefined;
}

/** Sandbox addresses by service or instance address. */
export function targetsByAddress(service: ServiceRoutes): Map<number, readonly number[]> {
  const live = service.instances.flatMap(({ sandbox }) => (sandbox === undefined ? [] : [toNumber(sandbox)]));
  const closest = service.closestTarget === undefined ? undefined : toNumber(service.closestTarget);
  const instances = service.instances.map(
    ({ address, sandbox }) => [toNumber(address), sandbox === undefined ? [] : [toNumber(sandbox)]] as const,
  );
  return new Map<number, readonly number[]>([
    ...instances,
    [toNumber(service.closest), closest !== undefined && live.includes(closest) ? [closest] : live],
    [toNumber(service.roundRobin), live],
  ]);
}

export class Balancing {
  readonly #byAddress = new Map<number, Balanced>();
  #services: readonly ServiceRoutes[] = [];
  #hotCount = 0;

  /** As it is after the last `update`. */
  get byAddress(): ReadonlyMap<number, Balanced> {
    return this.#byAddress;
  }

  /**
   * Makes `services` the current ones, and tells what that changes. Services are compared by reference.
   * An address that two of them claim belongs to the one that changed last.
   */
  update(services: readonly ServiceRoutes[]): BalancingChange[] {
    const { dropped, added } = this.#compare(services);
    const changes = new Map<number, BalancingChange>();
    const put = (address: number, to: Balanced | undefined) => {
      const current = this.#byAddress.get(address);
      if (to) this.#byAddress.set(address, to);
      else this.#byAddress.delete(address);
      this.#hotCount += Number(to?.hot ?? false) - Number(current?.hot ?? false);
      changes.set(address, { address, from: changes.has(address) ? changes.get(address)?.from : current, to });
    };
    for (const service of dropped) {
      const successor = added.get(service.id);
      const kept = successor && targetsByAddress(successor);
      for (const address of targetsByAddress(service).keys()) {
        if (this.#byAddress.get(address)?.serviceId === service.id && !kept?.has(address)) put(address, undefined);
      }
    }
    for (const [serviceId, service] of added) {
      for (const [address, targets] of targetsByAddress(service)) {
        const wasHot = this.#byAddress.get(address)?.hot ?? false;
        put(address, { serviceId, targets, hot: targets.length > 1 && (wasHot || this.#hotCount < HOT_LIMIT) });
      }
    }
    this.#services = services;
    return [...changes.values()].filter(({ from, to }) => !isSame(from, to));
  }

  /** Most services are the same objects, at the same places as before: only the others are looked at. */
  #compare(services: readonly ServiceRoutes[]): {
    dropped: readonly ServiceRoutes[];
    added: ReadonlyMap<string, ServiceRoutes>;
  } {
    const before = this.#services.filter((service, index) => services[index] !== service);
    const after = services.filter((service, index) => this.#services[index] !== service);
    const known = new Set(before);
    const stay = new Set(after.filter((service) => known.has(service)));
    return {
      dropped: before.filter((service) => !stay.has(service)),
      added: new Map(after.filter((service) => !stay.has(service)).map((service) => [service.id, service])),
    };
  }
}

/** All of it, for a table that is made anew. */
export function asChanges(byAddress: ReadonlyMap<number, Balanced>): BalancingChange[] {
  return [...byAddress].map(([address, to]) => ({ address, from: undefined, to }));
}

function isSame(left: Balanced | undefined, right: Balanced | undefined): boolean {
  if (!left || !right) return left === right;
  return left.hot === right.hot && left.targets.join() === right.targets.join();
}

function toNumber(address: string): number {
  const number = parseAddress(address);
  if (number === undefined) throw new TypeError(`Not an IPv4 address: ${JSON.stringify(address)}`);
  return number;
}
