/** IPv4 addresses and subnets as numbers: parse, print, compare. Everything here is total over valid input and does no I/O. */
import { AppError } from "../base/errors.ts";
import { quote } from "../protocol/names.ts";

export interface Subnet {
  /** Network address as an unsigned 32-bit number; host bits are zero. */
  readonly base: number;
  /** Length of the prefix, 0 to 32. */
  readonly prefix: number;
}

const ADDRESS = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** The address as an unsigned 32-bit number, or undefined when the text is not a dotted quad. */
export function parseAddress(text: string): number | undefined {
  const bytes = ADDRESS.exec(text)?.slice(1).map(Number);
  if (!bytes || bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

/** @throws SUBNET_INVALID when the text is not `a.b.c.d/n`, or has host bits set. */
export function parseSubnet(text: string): Subnet {
  const [addressText = "", prefixText = ""] = text.split("/");
  const address = parseAddress(addressText);
  const prefix = /^\d{1,2}$/.test(prefixText) ? Number(prefixText) : 33;
  if (address === undefined || prefix > 32 || text !== `${addressText}/${prefixText}`) {
    throw new AppError(
      "SUBNET_INVALID",
      `${quote(text)} is not a subnet: write address/prefix, for example 10.18.0.0/22`,
    );
  }
  const subnet = { base: networkOf(address, prefix), prefix };
  if (subnet.base !== address) {
    throw new AppError("SUBNET_INVALID", `${quote(text)} has host bits set: did you mean ${formatSubnet(subnet)}?`);
  }
  return subnet;
}

export function formatSubnet({ base, prefix }: Subnet): string {
  return `${formatAddress(base)}/${prefix}`;
}

/** Number of addresses, network and broadcast address included. */
export function sizeOf({ prefix }: Subnet): number {
  return 2 ** (32 - prefix);
}

export function contains(subnet: Subnet, address: number): boolean {
  return networkOf(address, subnet.prefix) === subnet.base;
}

/** True when the two have an address in common, which is when one contains the other. */
export function overlaps(left: Subnet, right: Subnet): boolean {
  return left.prefix <= right.prefix ? contains(left, right.base) : contains(right, left.base);
}

function networkOf(address: number, prefix: number): number {
  const size = 2 ** (32 - prefix);
  return Math.floor(address / size) * size;
}
