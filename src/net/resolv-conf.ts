/**
 * The resolv.conf that sandboxes get: the host's, minus name servers on loopback, since a sandbox has a loopback of its own.
 * @param candidates contents of the host's files, best first: the first that names a reachable server counts.
 * @param nameServer asked instead of the host's. The only one then: some resolvers ask all at once, and take any answer.
 */
export function sandboxResolvConf(candidates: readonly string[], nameServer?: string): string {
  const parsed = candidates.map((content) => {
    const lines = content.split("\n").map((line) => line.trim());
    return {
      servers: lines.filter((line) => /^nameserver\s/.test(line) && !isLoopback(line.split(/\s+/)[1] ?? "")),
      others: lines.filter((line) => /^(?:search|domain|options)\s/.test(line)),
    };
  });
  // No search list of the host's: `db` must be asked as `db`, which is a service's name.
  if (nameServer !== undefined) return `nameserver ${nameServer}\n`;
  const best = parsed.find(({ servers }) => servers.length > 0);
  if (!best) return "# The host names no name server that a sandbox could reach.\n";
  return `${[...best.servers, ...best.others].join("\n")}\n`;
}

/** IPv6 servers count as unreachable too: a sandbox has IPv4 only. */
function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address.includes(":") || address === "0.0.0.0";
}
