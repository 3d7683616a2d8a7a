/** From whatever the host is to links and adopted sandboxes. Done at every start; running sandboxes are not touched. */
import type { Subnet } from "../addressing/subnet.ts";
import { hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { adopt } from "./adoption.ts";
import { droppingForwardChains } from "./foreign-chains.ts";
import { type HostNetwork, readHostNetwork } from "./host.ts";
import { readPorts } from "./host-ports.ts";
import { readIpState, subnetsOf } from "./ip-listing.ts";
import type { PublishedPort } from "./kernel-state.ts";
import { clash } from "./network-errors.ts";
import type { Nft } from "./nft.ts";
import { ensureLinks } from "./overlay-links.ts";
import { GATEWAY_LINK } from "./overlay-names.ts";
import { assertNoClash, type OverlayPlan } from "./overlay-plan.ts";
import { readPeerNumbers } from "./peer-numbers.ts";
import type { SandboxLinks } from "./sandbox-links.ts";

export interface Found {
  readonly host: HostNetwork;
  /** Sandbox address by instance. */
  readonly owned: ReadonlyMap<string, number>;
  readonly ports: readonly PublishedPort[];
  /** Where sandboxes had addresses before. */
  readonly subnets: readonly Subnet[];
  /** Peers' numbers by underlay address. */
  readonly peerNumbers: ReadonlyMap<number, number>;
}

/** @throws NET_CLASH when the ranges cannot be used on this host. */
export async function bringUp(parts: {
  readonly plan: OverlayPlan;
  readonly nft: Nft;
  readonly links: SandboxLinks;
  /** Makes sure that nobody else works on what is ours; from here on things change. */
  readonly claim: (host: HostNetwork) => Promise<void>;
  readonly log: Logger;
  readonly signal: AbortSignal;
}): Promise<Found> {
  const { plan, nft, links, claim, log, signal } = parts;
  const host = await readHostNetwork(signal);
  assertUsable(plan, host);
  await claim(host);
  const { owned, orphanLinks, orphanNamespaces } = adopt(host);
  for (const link of orphanLinks) await links.removeByName({ link });
  for (const namespace of orphanNamespaces) await links.removeByName({ namespace });
  if (orphanLinks.length + orphanNamespaces.length > 0) log.info({ orphanLinks, orphanNamespaces }, "orphans removed");

  await ensureLinks(host.links, { underlay: plan.underlay, mtu: host.egressMtu });
  await warnOfDroppedForwarding(nft, log);
  const addresses = new Set(owned.values());
  const ports = (await listed(nft, "host_ports", readPorts, [])).filter(({ address }) => addresses.has(address));
  return {
    host,
    owned,
    ports,
    subnets: subnetsOf(await readIpState()),
    peerNumbers: await listed(nft, "peers", readPeerNumbers, new Map()),
  };
}

function assertUsable(plan: OverlayPlan, host: HostNetwork): void {
  assertNoClash(plan, host.routes);
  const gateway = host.links.find(({ name }) => name === GATEWAY_LINK);
  if (gateway && gateway.kind !== "bridge") {
    const remedy = `rename or remove it (ip link delete ${GATEWAY_LINK})`;
    throw clash("of instances", `the host has a link "${GATEWAY_LINK}" that is no bridge`, remedy);
  }
}

async function listed<T>(nft: Nft, map: string, read: (listing: unknown) => T, none: T): Promise<T> {
  try {
    return read(await nft.list(`list map ip oakestra ${map}`));
  } catch (error) {
    // No such table: the first start since boot. Any other trouble shows when the table is written.
    if (hasCode(error, "NFT_FAILED")) return none;
    throw error;
  }
}

/** A packet must pass everyone's chains: ours cannot overrule another one's drop, so all we can do is tell. */
async function warnOfDroppedForwarding(nft: Nft, log: Logger): Promise<void> {
  const chains = droppingForwardChains(await nft.list("list chains"));
  if (chains.length === 0) return;
  const remedy =
    "accept what comes from and goes to links oak* there; with Docker: iptables -I DOCKER-USER -i oak+ -j ACCEPT; iptables -I DOCKER-USER -o oak+ -j ACCEPT";
  log.warn({ chains, remedy }, "the host drops forwarded packets, also those of instances");
}
