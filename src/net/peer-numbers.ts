/** Peers' numbers: connections carry them as their mark, so that replies find the way back. */
import * as z from "zod/mini";
import { MARK_BASE, MARK_MASK, MAX_PEER_NUMBER, VXLAN_LINK } from "./overlay-names.ts";

/** Gives numbers away. A number keeps its peer as long as it is known, also across restarts: connections remember it. */
export class PeerNumbers {
  readonly #byId = new Map<string, number>();
  /** By underlay address: what an earlier agent gave away. */
  #adopted: ReadonlyMap<number, number> = new Map();
  #last = 0;

  adopt(numbers: ReadonlyMap<number, number>): void {
    this.#adopted = numbers;
    this.#last = Math.max(0, ...numbers.values());
  }

  /** Forgets the peers that are not among these. */
  assign(peers: readonly { readonly id: string; readonly address: number }[]): ReadonlyMap<string, number> {
    const ids = new Set(peers.map(({ id }) => id));
    for (const id of this.#byId.keys()) if (!ids.has(id)) this.#byId.delete(id);
    for (const { id, address } of peers) if (!this.#byId.has(id)) this.#byId.set(id, this.#next(address));
    return this.#byId;
  }

  #next(address: number): number {
    const used = new Set(this.#byId.values());
    const adopted = this.#adopted.get(address);
    if (adopted !== undefined && !used.has(adopted)) return adopted;
    do this.#last = (this.#last % MAX_PEER_NUMBER) + 1;
    while (used.has(this.#last));
    return this.#last;
  }
}

const Listing = z.object({
  nftables: z.array(
    z.object({
      map: z.optional(
        z.object({
          elem: z.optional(
            z.array(
              z.tuple([z.object({ concat: z.tuple([z.string(), z.string()]) }), z.union([z.number(), z.string()])]),
            ),
          ),
        }),
      ),
    }),
  ),
});

/** Number by underlay address: what `list map ip oakestra peers` says, as nft's JSON. */
export function readPeerNumbers(listing: unknown): Map<number, number> {
  const rows = z.parse(Listing, listing).nftables.flatMap(({ map }) => map?.elem ?? []);
  return new Map(
    rows.flatMap(([{ concat }, mark]): [number, number][] => {
      const [link, mac] = concat;
      const value = Number(mark);
      const isOurs = link === VXLAN_LINK && (value & MARK_MASK) >>> 0 === MARK_BASE;
      return isOurs ? [[Number.parseInt(mac.replaceAll(":", "").slice(4), 16), value - MARK_BASE]] : [];
    }),
  );
}
