/** Who measures round-trip times to whom. Pure. */

/** On either side. Few, so that an idle machine stays quiet; enough for a coordinate, which has four unknowns. */
const REACH = 2;

/**
 * For each id, those next to it in a ring of all: the same in both directions, few of them change when one comes or goes, and since
 * ids are random they are anywhere.
 */
export function neighbours(ids: readonly string[]): Map<string, readonly string[]> {
  const ring = ids.toSorted();
  const count = ring.length;
  return new Map(
    ring.map((id, index) => {
      const near = new Set<string>();
      for (let step = 1; step <= REACH; step++) {
        near.add(ring[(index + step) % count]!);
        near.add(ring[(index - step + count * REACH) % count]!);
      }
      near.delete(id);
      return [id, [...near].toSorted()];
    }),
  );
}
