import * as z from "zod/mini";

const Listing = z.object({
  nftables: z.array(
    z.object({
      set: z.optional(
        z.object({
          elem: z.optional(z.array(z.union([z.string(), z.object({ elem: z.object({ val: z.string() }) })]))),
        }),
      ),
    }),
  ),
});

/** What `list set ip oakestra used` says, as nft's JSON: pure. */
export function readUsed(listing: unknown): string[] {
  return z
    .parse(Listing, listing)
    .nftables.flatMap(({ set }) => (set?.elem ?? []).map((row) => (typeof row === "string" ? row : row.elem.val)));
}
