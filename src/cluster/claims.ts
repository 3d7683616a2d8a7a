/**
 * What a worker says of its place in the overlay is believed as far as it can be true: a lie would lead other workers' packets
 * elsewhere, those for hosts that have nothing to do with the overlay among them. Pure.
 */
import { contains, parseAddress, parseSubnet, type Subnet } from "../addressing/subnet.ts";
import type { Live } from "./live.ts";

export interface Lie {
  readonly field: string;
  readonly value: string;
  /** With a remedy, if it may be a matter of settings. */
  readonly reason: string;
}

export interface Known {
  /** The subnets that the cluster gave to the worker. */
  readonly given: ReadonlySet<string>;
  /** Where workers may have subnets that nobody gave to them. */
  readonly allowed: readonly Subnet[];
  /** Of services and sandboxes: no machine has such an address. */
  readonly isOverlay: (address: number) => boolean;
  /** Another worker, whose address it is. */
  readonly holderOf: (address: string) => string | undefined;
}

/** Loopback stands for no address. The overlay's own links have those of 169.254.18.0/24. */
const NOBODYS = ["0.0.0.0/8", "169.254.18.0/24", "224.0.0.0/3"].map(parseSubnet);

/** The first thing that cannot be true; undefined: all of it may be. */
export function lieIn({ sandbox, worker }: Live, known: Known): Lie | undefined {
  for (const value of worker.subnets) {
    if (known.given.has(value) || isAllowed(value, known.allowed)) continue;
    const reason = `the cluster did not give it; for one of the worker's own (--subnet) start the cluster with --allow-subnets ${value}`;
    return { field: "subnet", value, reason };
  }
  const number = parseAddress(sandbox)!;
  if (!worker.subnets.some((subnet) => contains(parseSubnet(subnet), number))) {
    return { field: "sandbox address", value: sandbox, reason: "it is in none of the worker's subnets" };
  }
  const reason = whyNotUnderlay(worker.address, known);
  return reason === undefined ? undefined : { field: "address", value: worker.address, reason };
}

function isAllowed(text: string, allowed: readonly Subnet[]): boolean {
  if (allowed.length === 0) return false;
  try {
    const subnet = parseSubnet(text);
    return allowed.some((range) => range.prefix <= subnet.prefix && contains(range, subnet.base));
  } catch {
    // With host bits: a range that is none.
    return false;
  }
}

function whyNotUnderlay(address: string, { isOverlay, holderOf }: Known): string | undefined {
  const number = parseAddress(address)!;
  if (NOBODYS.some((range) => contains(range, number))) return "no machine can have it";
  if (isOverlay(number)) return "it is one of the overlay's own";
  const holder = holderOf(address);
  return holder === undefined ? undefined : `worker "${holder}" has it`;
}

export function describeLie({ field, value, reason }: Lie): string {
  return `${field} "${value}" refused: ${reason}`;
}
