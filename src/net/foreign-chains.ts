import * as z from "zod/mini";

const Listing = z.object({
  nftables: z.array(
    z.object({
      chain: z.optional(
        z.object({
          family: z.string(),
          table: z.string(),
          name: z.string(),
          hook: z.optional(z.string()),
          policy: z.optional(z.string()),
        }),
      ),
    }),
  ),
});

/** Chains of others, as `family table chain`, that drop what they do not accept of forwarded IPv4. From nft's `list chains`; pure. */
export function droppingForwardChains(listing: unknown): string[] {
  return z.parse(Listing, listing).nftables.flatMap(({ chain }) => {
    if (chain?.hook !== "forward" || chain.policy !== "drop") return [];
    return ["ip", "inet"].includes(chain.family) && chain.table !== "oakestra"
      ? [`${chain.family} ${chain.table} ${chain.name}`]
      : [];
  });
}
