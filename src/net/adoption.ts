/** What a starting agent finds in the kernel, and what it makes of it: pure. */
import { addressOfLink, isOurNamespace, namespaceName } from "./sandbox-names.ts";

export interface FoundLink {
  readonly name: string;
  /** The instance that owns the sandbox; undefined in the warm pool, or when the agent died before it was given away. */
  readonly alias: string | undefined;
}

export interface Adoption {
  /** Whole sandboxes with an owner, of whatever subnet: they stay as they are. */
  readonly owned: ReadonlyMap<string, number>;
  /** Left behind by a death in the middle of making or removing a sandbox. */
  readonly orphanLinks: readonly string[];
  readonly orphanNamespaces: readonly string[];
}

export function adopt(found: {
  readonly links: readonly FoundLink[];
  /** Names in /run/netns. */
  readonly namespaces: readonly string[];
}): Adoption {
  const namespaces = new Set(found.namespaces.filter(isOurNamespace));
  const owned = new Map<string, number>();
  const orphanLinks: string[] = [];
  for (const { name, alias } of found.links) {
    const address = addressOfLink(name);
    if (address === undefined) continue;
    const isWhole = alias !== undefined && namespaces.has(namespaceName(address));
    // Two sandboxes of one instance cannot come from us; the first one counts, so that the answer is at least stable.
    if (!isWhole || owned.has(alias)) {
      orphanLinks.push(name);
      continue;
    }
    owned.set(alias, address);
    namespaces.delete(namespaceName(address));
  }
  return { owned, orphanLinks, orphanNamespaces: [...namespaces] };
}
