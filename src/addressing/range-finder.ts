import { contains, type Subnet } from "./subnet.ts";

/** Finds the range that an address is in, however many there are. Of ranges that contain each other, the widest. */
export function rangeFinder(ranges: readonly Subnet[]): (address: number) => Subnet | undefined {
  const sorted = ranges.toSorted((one, other) => one.base - other.base || one.prefix - other.prefix);
  // Two ranges are apart, or one is in the other: what is left is apart.
  const apart: Subnet[] = [];
  for (const range of sorted) if (!apart.length || !contains(apart.at(-1)!, range.base)) apart.push(range);
  return (address) => {
    let [low, high] = [0, apart.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (apart[middle]!.base <= address) low = middle + 1;
      else high = middle;
    }
    const range = apart[low - 1];
    return range && contains(range, address) ? range : undefined;
  };
}
