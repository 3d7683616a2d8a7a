import { contains, formatSubnet, overlaps, parseAddress, type Subnet } from "../addressing/subnet.ts";
import { BRIDGE } from "./compile.ts";

/** A row of `ip -json -4 route show table all`. */
export interface HostRoute {
  readonly destination: Subnet;
  readonly device: string | undefined;
}

/**
 * The route of the host that the subnet would hide, or that would hide the subnet: undefined when there is none.
 * A default route hides nothing, being the least specific, and our own bridge is no clash.
 */
export function findClash(subnet: Subnet, routes: readonly HostRoute[]): HostRoute | undefined {
  return routes.find(
    ({ destination, device }) => destination.prefix > 0 && device !== BRIDGE && overlaps(subnet, destination),
  );
}

/** `via 10.1.2.3`'s kin: the same words that `ip route` uses. */
export function describeRoute({ destination, device }: HostRoute): string {
  return device === undefined ? formatSubnet(destination) : `${formatSubnet(destination)} dev ${device}`;
}

/** `default`, `10.0.0.0/8` or a single address, as `ip` prints destinations; undefined for anything else. */
export function parseDestination(text: string): Subnet | undefined {
  if (text === "default") return { base: 0, prefix: 0 };
  const [address = "", prefixText = "32"] = text.split("/");
  const base = parseAddress(address);
  const prefix = Number(prefixText);
  if (base === undefined || !Number.isInteger(prefix) || prefix < 0 || prefix > 32) return undefined;
  const subnet = { base, prefix };
  return contains(subnet, base) ? subnet : undefined;
}
