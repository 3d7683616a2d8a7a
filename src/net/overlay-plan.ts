/** From the overlay's settings, and what else is known, to the frame of the rules: pure. */
import { contains, formatSubnet, parseAddress, parseSubnet, type Subnet } from "../addressing/subnet.ts";
import { DEFAULT_SERVICE_RANGE, DEFAULT_WORKER_RANGES } from "../protocol/route.ts";
import { describeRoute, findClash, type HostRoute } from "./clash.ts";
import type { Frame } from "./kernel-state.ts";
import { clash } from "./network-errors.ts";
import type { OverlaySettings } from "./overlay.ts";
import { mergeRanges } from "./ranges.ts";

export interface OverlayPlan {
  readonly subnets: readonly Subnet[];
  readonly serviceRange: Subnet;
  readonly workerRanges: readonly Subnet[];
  readonly underlay: number | undefined;
  readonly guardedPorts: readonly number[];
  readonly guardedHosts: readonly number[];
}

/** Has network, gateway and broadcast address, and room for two instances at least. */
const NARROWEST = 29;

/** @throws SUBNET_INVALID | NET_CLASH */
export function planOverlay(settings: OverlaySettings): OverlayPlan {
  const { address, serviceRange = DEFAULT_SERVICE_RANGE, workerRanges = DEFAULT_WORKER_RANGES } = settings;
  const subnets = settings.subnets.map(parseSubnet);
  const narrow = subnets.find(({ prefix }) => prefix > NARROWEST);
  if (narrow) {
    const why = "it has room for fewer than five instances";
    throw clash(formatSubnet(narrow), why, `choose one of at most /${NARROWEST}`);
  }
  return {
    subnets,
    serviceRange: parseSubnet(serviceRange),
    workerRanges: workerRanges.map(parseSubnet),
    underlay: address === undefined ? undefined : parseAddress(address),
    guardedPorts: settings.guardedPorts ?? [],
    guardedHosts: (settings.guardedHosts ?? []).flatMap((host) => parseAddress(host) ?? []),
  };
}

/** @throws NET_CLASH naming the host's route that is in the way of a subnet or of the service range. */
export function assertNoClash({ subnets, serviceRange }: OverlayPlan, routes: readonly HostRoute[]): void {
  for (const [range, setting] of [
    ...subnets.map((subnet) => [subnet, "subnet"] as const),
    [serviceRange, "serviceRange"] as const,
  ]) {
    const route = findClash(range, routes);
    if (!route) continue;
    const remedy = `choose another with the setting "${setting}"`;
    throw clash(formatSubnet(range), `the host has the route ${describeRoute(route)}`, remedy);
  }
}

/** Ranges of workers that the host routes elsewhere: packets there are none of our business. */
export function clashingRanges({ workerRanges }: OverlayPlan, routes: readonly HostRoute[]): readonly Subnet[] {
  return workerRanges.filter((range) => findClash(range, routes) !== undefined);
}

/** The subnets that sandboxes have addresses of: ours, and those that were, until their last sandbox has gone. */
export function subnetsInUse(
  current: readonly Subnet[],
  earlier: readonly Subnet[],
  sandboxes: readonly number[],
): Subnet[] {
  const names = new Set(current.map(formatSubnet));
  const kept = earlier.filter(
    (subnet) => !names.has(formatSubnet(subnet)) && sandboxes.some((address) => contains(subnet, address)),
  );
  return [...current, ...kept];
}

export function frameOf(
  plan: OverlayPlan,
  use: {
    readonly subnets: readonly Subnet[];
    readonly peerSubnets: readonly Subnet[];
    readonly clashing: readonly Subnet[];
    readonly hasFastPath?: boolean;
  },
): Frame {
  const workers = plan.workerRanges.filter((range) => !use.clashing.includes(range));
  const first = use.subnets[0];
  return {
    serviceRange: plan.serviceRange,
    ranges: mergeRanges([plan.serviceRange, ...workers, ...use.subnets, ...use.peerSubnets]),
    gateway: first && first.base + 1,
    guardedPorts: plan.guardedPorts,
    hasFastPath: use.hasFastPath ?? false,
  };
}
