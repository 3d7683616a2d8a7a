/** This worker's place in the overlay, as far as it knows: kept on disk, so that it has it at a boot without a link. */
import { lookup } from "node:dns/promises";
import * as z from "zod/mini";
import { contains, formatAddress, parseAddress, parseSubnet } from "../../addressing/subnet.ts";
import type { OverlaySettings } from "../../net/overlay.ts";
import { WorkerNetwork } from "../../protocol/mqtt.ts";
import { DEFAULT_SERVICE_RANGE, Ipv4, WorkerEndpoint } from "../../protocol/route.ts";

export const Place = z.object({
  /** Its id in its cluster. */
  workerId: z.string(),
  mqttPort: z.int(),
  clusterHosts: z.array(Ipv4),
  /** On the network between the workers; absent: it has none. */
  address: z.optional(Ipv4),
  network: z.optional(WorkerNetwork),
  /** Other workers that have introduced themselves, and when they did so last, epoch ms. */
  callers: z.array(z.object({ endpoint: WorkerEndpoint, heardAt: z.int() })),
  /** Workers on a common link that lets none of our packets pass. */
  closed: z.array(z.string()),
});
export type Place = z.infer<typeof Place>;

/** Set by hand, and goes before what the cluster says. */
export interface FixedPlace {
  readonly subnet: string | undefined;
  readonly joinPort: number;
  /** Ports of the control plane besides those that the cluster tells of: the root's. */
  readonly guardPorts: readonly number[];
}

export function subnetsOf(place: Place | undefined, { subnet }: FixedPlace): readonly string[] {
  return subnet === undefined ? (place?.network?.subnets ?? []) : [subnet];
}

export function settingsOf(place: Place | undefined, fixed: FixedPlace): OverlaySettings {
  const ports = [...fixed.guardPorts, fixed.joinPort, ...(place ? [place.mqttPort] : [])];
  const subnets = subnetsOf(place, fixed);
  const [first] = subnets;
  return {
    subnets,
    // One for all: the worker's addresses can be reached from each of its sandboxes.
    nameServer: first && gatewayOf(first),
    ...(place?.network ? { serviceRange: place.network.serviceRange } : {}),
    address: place?.address,
    guardedPorts: [...new Set(ports)].toSorted((left, right) => left - right),
    guardedHosts: place?.clusterHosts ?? [],
  };
}

/** What others are told; undefined: not known yet. */
export function endpointOf(place: Place | undefined, fixed: FixedPlace): WorkerEndpoint | undefined {
  const subnets = subnetsOf(place, fixed);
  if (!place || subnets.length === 0) return undefined;
  return { id: place.workerId, address: place.address ?? "127.0.0.1", subnets: [...subnets] };
}

/** The worker's own address in a subnet. */
export function gatewayOf(subnet: string): string {
  const { base } = parseSubnet(subnet);
  return formatAddress(base + 1);
}

export function isInServiceRange(address: string, place: Place | undefined): boolean {
  const number = parseAddress(address);
  return number !== undefined && contains(parseSubnet(place?.network?.serviceRange ?? DEFAULT_SERVICE_RANGE), number);
}

/** Others cannot reach it there. */
export function isLoopback(address: string): boolean {
  return address.startsWith("127.");
}

/** The host's IPv4 addresses without loopback; undefined: they cannot be found out now. */
export async function addressesOf(host: string): Promise<string[] | undefined> {
  try {
    const found = await lookup(host, { family: 4, all: true });
    const addresses = found.map(({ address }) => address).filter((address) => !isLoopback(address));
    // Name servers like to tell them in another order each time, which must not look like a change.
    return addresses.toSorted();
  } catch {
    return undefined;
  }
}
