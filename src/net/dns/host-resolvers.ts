import { readResolvConfs } from "../host.ts";

/** The name servers that this machine itself asks, best first. Its own on loopback count: it is not a sandbox that asks them. */
export async function hostResolvers(): Promise<string[]> {
  const servers = (await readResolvConfs()).map(nameServers);
  return servers.find((list) => list.length > 0) ?? [];
}

export function nameServers(resolvConf: string): string[] {
  const matches = resolvConf.matchAll(/^\s*nameserver\s+([\da-fA-F.:]+)\s*(?:[#;].*)?$/gm);
  return [...matches].flatMap(([, address]) => address ?? []);
}
