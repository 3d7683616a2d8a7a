/** The worker's own links: `oak0` has its addresses, `oakvx` leads to other workers, `oaktun` to the agent. */
import { formatAddress } from "../addressing/subnet.ts";
import { type HostLink, writeSysctls } from "./host.ts";
import {
  GATEWAY_LINK,
  GATEWAY_MAC,
  TUN_ADDRESS,
  TUN_GROUP,
  TUN_LINK,
  VXLAN_ADDRESS,
  VXLAN_LINK,
  VXLAN_PORT,
  vxlanMac,
} from "./overlay-names.ts";
import { runBatch } from "./run-batch.ts";

/** Outer Ethernet, IPv4, UDP and VXLAN header. */
const VXLAN_OVERHEAD = 50;
const GONE = /Cannot find device|No such device/;

export interface WantedLinks {
  /** The worker's address among workers. */
  readonly underlay: number | undefined;
  readonly mtu: number;
}

/**
 * What brings the links to what they should be: pure. One that is right is left alone: it carries traffic, and even setting the
 * address that it has already would make the kernel forget its neighbours.
 */
export function linkCommands(found: readonly HostLink[], { underlay, mtu }: WantedLinks): string[] {
  const local = underlay === undefined ? undefined : formatAddress(underlay);
  const links = [
    {
      name: GATEWAY_LINK,
      kind: "bridge forward_delay 0 stp_state 0",
      mac: GATEWAY_MAC,
      mtu,
      isRight: ({ kind }: HostLink) => kind === "bridge",
    },
    {
      name: VXLAN_LINK,
      kind: `vxlan id ${VXLAN_PORT} dstport ${VXLAN_PORT}${local === undefined ? "" : ` local ${local}`} nolearning`,
      // Without an address nobody knows us.
      mac: vxlanMac(underlay ?? 1),
      mtu: mtu - VXLAN_OVERHEAD,
      isRight: ({ kind, tunnel, mac }: HostLink) =>
        kind === "vxlan" && tunnel?.id === VXLAN_PORT && tunnel.local === local && mac === vxlanMac(underlay ?? 1),
    },
  ];
  const own = links.flatMap(({ name, kind, mac, mtu: wanted, isRight }) => {
    const existing = found.find((link) => link.name === name);
    if (existing && isRight(existing)) return existing.mtu === wanted ? [] : [`link set dev ${name} mtu ${wanted}`];
    return [...(existing ? [`link delete ${name}`] : []), `link add ${name} address ${mac} mtu ${wanted} type ${kind}`];
  });
  return [
    ...own,
    ...(found.some(({ name }) => name === TUN_LINK) ? [] : [`tuntap add dev ${TUN_LINK} mode tun`]),
    `link set dev ${GATEWAY_LINK} addrgenmode none up`,
    `link set dev ${VXLAN_LINK} addrgenmode none up`,
    // The queue takes a burst of first packets: with the default of 500 they are lost.
    `link set dev ${TUN_LINK} group ${TUN_GROUP} txqueuelen 4000 mtu ${mtu} addrgenmode none up`,
    // With loose source checks the kernel drops whatever comes by a link without an address.
    `address replace ${VXLAN_ADDRESS}/32 dev ${VXLAN_LINK} scope link`,
    `address replace ${TUN_ADDRESS}/32 dev ${TUN_LINK} scope link`,
  ];
}

/** True when a link had to be made, after which rules that are bound to it have to be made too. */
export async function ensureLinks(found: readonly HostLink[], wanted: WantedLinks): Promise<boolean> {
  const commands = linkCommands(found, wanted);
  await runBatch("ip", commands);
  await writeSysctls({
    "ipv4/ip_forward": "1",
    // Loose: what comes by them has sources that are routed elsewhere. The stricter one of "all" and the link's counts otherwise.
    [`ipv4/conf/${VXLAN_LINK}/rp_filter`]: "2",
    [`ipv4/conf/${TUN_LINK}/rp_filter`]: "2",
    // First packets of the worker itself come back through the agent.
    [`ipv4/conf/${TUN_LINK}/accept_local`]: "1",
    [`ipv6/conf/${VXLAN_LINK}/disable_ipv6`]: "1",
    [`ipv6/conf/${TUN_LINK}/disable_ipv6`]: "1",
    [`ipv6/conf/${GATEWAY_LINK}/disable_ipv6`]: "1",
  });
  return commands.some((command) => /^(?:link|tuntap) add /.test(command));
}

export async function removeLinks(): Promise<void> {
  const commands = [GATEWAY_LINK, VXLAN_LINK, TUN_LINK].map((name) => `link delete ${name}`);
  await runBatch("ip", commands, { tolerate: GONE });
}

/** What comes from a peer has a source that is routed through the tunnel: a strict link would drop it. */
export async function loosenSourceCheck(link: string): Promise<void> {
  await writeSysctls({ [`ipv4/conf/${link}/rp_filter`]: "2" });
}
