import { contains, formatSubnet, overlaps, parseAddress, parseSubnet, type Subnet } from "../addressing/subnet.ts";
import { GATEWAY_LINK, TUN_LINK, VXLAN_LINK } from "./overlay-names.ts";
import { addressOfLink } from "./sandbox-names.ts";

/** A row of `ip -json -4 route show table all`. */
export interface HostRoute {
  readonly destination: Subnet;
  readonly device: string | undefined;
  /** We made it. */
  readonly isOurs?: boolean;
}

/**
 * The route of the host that the subnet would hide, or that would hide the subnet: undefined when there is none.
 * A default route hides nothing, being the least specific, and our own routes are no clash.
 */
export function findClash(subnet: Subnet, routes: readonly HostRoute[]): HostRoute | undefined {
  return routes.find(
    ({ destination, device, isOurs }) =>
      destination.prefix > 0 && !isOurs && !isOurLink(device) && overlaps(subnet, destination),
  );
}

/** Those that our own routes must not hide. */
export function foreignRoutes(routes: readonly HostRoute[]): HostRoute[] {
  return routes.filter((route) => findClash(route.destination, [route]) !== undefined);
}

/** Another worker's subnets as far as the host routes them nowhere else. */
export function withoutClashes<P extends { readonly subnets: readonly string[] }>(
  peer: P,
  routes: readonly HostRoute[],
): P {
  return { ...peer, subnets: peer.subnets.filter((subnet) => !findClash(parseSubnet(subnet), routes)) };
}

function isOurLink(name: string | undefined): boolean {
  return (
    name !== undefined && ([GATEWAY_LINK, VXLAN_LINK, TUN_LINK].includes(name) || addressOfLink(name) !== undefined)
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
