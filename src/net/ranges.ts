import { formatAddress, type Subnet, sizeOf } from "../addressing/subnet.ts";

/** Both ends included. */
export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

/** The fewest ranges that cover the same addresses: a packet is compared with each of them. */
export function mergeRanges(subnets: readonly Subnet[]): AddressRange[] {
  const merged: AddressRange[] = [];
  const sorted = subnets
    .map((subnet) => ({ first: subnet.base, last: subnet.base + sizeOf(subnet) - 1 }))
    .sort((left, right) => left.first - right.first);
  for (const range of sorted) {
    const previous = merged.at(-1);
    if (previous && range.first <= previous.last + 1) {
      merged[merged.length - 1] = { first: previous.first, last: Math.max(previous.last, range.last) };
    } else merged.push(range);
  }
  return merged;
}

/** As nft writes it: one range, or a set of them. */
export function formatRanges(ranges: readonly AddressRange[]): string {
  const list = ranges.map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`);
  return list.length === 1 ? list[0]! : `{ ${list.join(", ")} }`;
}
