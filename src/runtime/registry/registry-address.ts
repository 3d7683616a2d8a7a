/** Where a registry is, and whether plain HTTP will do. Pure. */

export type Scheme = "https" | "http";

/** Schemes to try in order. Loopback, private addresses and names without a dot may be plain when they do not speak TLS. */
export function schemesFor(registry: string): readonly Scheme[] {
  return isPrivate(hostName(registry)) ? ["https", "http"] : ["https"];
}

/** Host and port to dial: Docker Hub's registry is not at the name that it is called by. */
export function apiHost(registry: string): string {
  return registry === "docker.io" || registry === "index.docker.io" ? "registry-1.docker.io" : registry;
}

/** Whether a login for the one is a login for the other. */
export function isSameRegistry(one: string, other: string): boolean {
  return apiHost(one).toLowerCase() === apiHost(other).toLowerCase();
}

function hostName(registry: string): string {
  const { hostname } = new URL(`http://${registry}`);
  return hostname.replace(/^\[|\]$/g, "");
}

function isPrivate(host: string): boolean {
  if (host.includes(":")) return host === "::1" || /^f[cd]|^fe[89ab]/i.test(host);
  if (!host.includes(".")) return true;
  return (
    /^(?:10|127|192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))\.[\d.]+$/.test(host) ||
    /\.(?:local|lan|internal|home\.arpa)$/.test(host)
  );
}
