/**
 * What a sandbox's kernel objects are called. Every name follows from its address, so that a restarted agent can tell what
 * belongs together, and a person can read `ip netns` and `ip link`. The link's alias names the instance that owns it.
 */
import { formatAddress } from "../addressing/subnet.ts";

const LINK = /^oak([0-9a-f]{8})$/;
const NAMESPACE_PREFIX = "oak-";
export const NAMESPACE_FOLDER = "/run/netns";

/** Name of the link's end on the bridge: `oak0a120002`. */
export const linkName = (address: number): string => `oak${hex(address)}`;
export const namespaceName = (address: number): string => `${NAMESPACE_PREFIX}${formatAddress(address)}`;
export const namespacePath = (address: number): string => `${NAMESPACE_FOLDER}/${namespaceName(address)}`;
/** Locally administered, and fixed: neighbours may keep it in their caches when a sandbox's address is given out anew. */
export const macAddress = (address: number): string => `02:6f:${hex(address).match(/../g)!.join(":")}`;

/** The address in a link's name, or undefined when it is no link of a sandbox. */
export function addressOfLink(name: string): number | undefined {
  const digits = LINK.exec(name)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

export const isOurNamespace = (name: string): boolean => /^oak-\d+\.\d+\.\d+\.\d+$/.test(name);

const hex = (address: number) => address.toString(16).padStart(8, "0");
