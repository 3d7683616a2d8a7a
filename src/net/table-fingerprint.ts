import * as z from "zod/mini";
import { hasCode } from "../base/errors.ts";
import type { Nft } from "./nft.ts";

const Listing = z.object({
  nftables: z.array(
    z.object({
      table: z.optional(z.object({ family: z.string(), name: z.string(), handle: z.number() })),
      rule: z.optional(z.object({ chain: z.string(), handle: z.number() })),
    }),
  ),
});

/** Chains that never change after the tables were made. */
const FIXED = ["raw_prerouting", "arrival", "service", "forward", "input", "nat_prerouting", "nat_postrouting"];

/**
 * Tells our tables as we made them from any others: the kernel's handles of tables and rules are never used twice. Cheap: chains
 * and their rules are listed, elements are not.
 */
export async function fingerprint(nft: Nft): Promise<string> {
  try {
    const tables = await nft.list("list tables");
    const ours = z
      .parse(Listing, tables)
      .nftables.flatMap(({ table }) => (table?.name === "oakestra" ? [`${table.family} ${table.handle}`] : []));
    const rules = [];
    for (const chain of FIXED) {
      const listing = z.parse(Listing, await nft.list(`list chain ip oakestra ${chain}`));
      rules.push(...listing.nftables.flatMap(({ rule }) => (rule ? [`${rule.chain} ${rule.handle}`] : [])));
    }
    return [...ours, ...rules].join("\n");
  } catch (error) {
    if (hasCode(error, "NFT_FAILED")) return "";
    throw error;
  }
}
