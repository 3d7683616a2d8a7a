/** Tables of services, found by address and by name. */
import type { ServiceRoute } from "../../protocol/route.ts";

export type RouteTarget =
  | { readonly service: ServiceRoute; readonly policy: "round-robin" | "closest" }
  | {
      readonly service: ServiceRoute;
      readonly policy: "instance";
      readonly instance: ServiceRoute["instances"][number];
    };

export class RouteIndex {
  readonly #tables = new Map<string, ServiceRoute>();
  readonly #serviceByAddress = new Map<string, string>();
  /** By job name in lower case. */
  readonly #serviceByName = new Map<string, string>();

  get tables(): ReadonlyMap<string, ServiceRoute> {
    return this.#tables;
  }

  byAddress(address: string): RouteTarget | undefined {
    const service = this.#tables.get(this.#serviceByAddress.get(address) ?? "");
    if (!service) return undefined;
    if (service.roundRobin === address) return { service, policy: "round-robin" };
    if (service.closest === address) return { service, policy: "closest" };
    const instance = service.instances.find((other) => other.address === address);
    return instance && { service, policy: "instance", instance };
  }

  serviceAt(address: string): string | undefined {
    return this.#serviceByAddress.get(address);
  }

  /** Without regard to letter case. */
  serviceNamed(jobName: string): string | undefined {
    return this.#serviceByName.get(jobName.toLowerCase());
  }

  put(table: ServiceRoute): void {
    const { serviceId, jobName } = table;
    this.remove(serviceId);
    this.#tables.set(serviceId, table);
    for (const address of addressesOf(table)) this.#serviceByAddress.set(address, serviceId);
    this.#serviceByName.set(jobName.toLowerCase(), serviceId);
  }

  /** @returns whether it was there */
  remove(serviceId: string): boolean {
    const table = this.#tables.get(serviceId);
    if (!table) return false;
    // An address or name may belong to another service by now.
    const forget = (index: Map<string, string>, key: string) => {
      if (index.get(key) === serviceId) index.delete(key);
    };
    for (const address of addressesOf(table)) forget(this.#serviceByAddress, address);
    forget(this.#serviceByName, table.jobName.toLowerCase());
    return this.#tables.delete(serviceId);
  }
}

function addressesOf({ roundRobin, closest, instances }: ServiceRoute): string[] {
  return [roundRobin, closest, ...instances.map(({ address }) => address)];
}
