/** From whatever the host is to bridge, sysctls and adopted sandboxes. Done at every start; running sandboxes are not touched. */
import { formatSubnet, type Subnet } from "../addressing/subnet.ts";
import { AppError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { adopt } from "./adoption.ts";
import { describeRoute, findClash } from "./clash.ts";
import { BRIDGE, type PublishedPort } from "./compile.ts";
import { droppingForwardChains } from "./foreign-chains.ts";
import { type HostNetwork, readHostNetwork, writeSysctls } from "./host.ts";
import { readPorts } from "./host-ports.ts";
import type { IpBatch } from "./ip-batch.ts";
import type { Nft } from "./nft.ts";
import { SandboxLinks } from "./sandbox-links.ts";

export interface Found {
  readonly links: SandboxLinks;
  /** Sandbox address by instance. */
  readonly owned: ReadonlyMap<string, number>;
  readonly ports: readonly PublishedPort[];
}

/** @throws NET_CLASH when the subnet cannot be used on this host. */
export async function bringUp(parts: {
  readonly subnet: Subnet;
  readonly ip: IpBatch;
  readonly nft: Nft;
  readonly log: Logger;
  readonly signal: AbortSignal;
}): Promise<Found> {
  const { subnet, ip, nft, log, signal } = parts;
  const host = await readHostNetwork(signal);
  const { owned, foreign, orphanLinks, orphanNamespaces } = adopt({ subnet, ...host });
  assertUsable(subnet, host, foreign.size);

  const links = new SandboxLinks({ ip, subnet, mtu: host.egressMtu });
  for (const link of orphanLinks) await links.removeByName({ link });
  for (const namespace of orphanNamespaces) await links.removeByName({ namespace });
  if (orphanLinks.length + orphanNamespaces.length > 0) log.info({ orphanLinks, orphanNamespaces }, "orphans removed");

  const hasBridge = host.links.some(({ name }) => name === BRIDGE);
  const isStale = hasBridge && owned.size === 0;
  // Nothing is on it: made anew, so that no address of an earlier subnet stays.
  if (isStale) await links.removeBridge();
  await links.makeBridge(hasBridge && !isStale);
  await writeSysctls();
  await warnOfDroppedForwarding(nft, log);
  const addresses = new Set(owned.values());
  const ports = (await listPorts(nft)).filter(({ address }) => addresses.has(address));
  return { links, owned, ports };
}

function assertUsable(subnet: Subnet, host: HostNetwork, foreignSandboxes: number): void {
  const text = formatSubnet(subnet);
  const clash = (why: string, remedy: string) =>
    new AppError("NET_CLASH", `Cannot use the subnet ${text} for instances: ${why}; ${remedy}`, {
      details: { subnet: text },
    });
  if (subnet.prefix > 29) throw clash("it has room for fewer than five instances", "choose one of at most /29");
  const route = findClash(subnet, host.routes);
  if (route) throw clash(`the host has the route ${describeRoute(route)}`, 'choose another with the setting "subnet"');
  const bridge = host.links.find(({ name }) => name === BRIDGE);
  if (bridge && bridge.kind !== "bridge") {
    throw clash(`the host has a link "${BRIDGE}" that is no bridge`, `rename or remove it (ip link delete ${BRIDGE})`);
  }
  if (foreignSandboxes > 0) {
    const remedy = "stop them first, or set the subnet back";
    throw clash(`${foreignSandboxes} instance(s) still run with addresses of another one`, remedy);
  }
}

async function listPorts(nft: Nft): Promise<PublishedPort[]> {
  try {
    return readPorts(await nft.list("list map ip oakestra host_ports"));
  } catch (error) {
    // No such table: the first start since boot. Any other trouble shows when the table is written.
    if (hasCode(error, "NFT_FAILED")) return [];
    throw error;
  }
}

/** A packet must pass everyone's chains: ours cannot overrule another one's drop, so all we can do is tell. */
async function warnOfDroppedForwarding(nft: Nft, log: Logger): Promise<void> {
  const chains = droppingForwardChains(await nft.list("list chains"));
  if (chains.length === 0) return;
  const remedy = `accept what comes from and goes to ${BRIDGE} there; with Docker: iptables -I DOCKER-USER -i ${BRIDGE} -j ACCEPT; iptables -I DOCKER-USER -o ${BRIDGE} -j ACCEPT`;
  log.warn({ chains, remedy }, "the host drops forwarded packets, also those of instances");
}
