/** The kernel's objects besides nft, as data: addresses, routes, rules, neighbours and tunnel entries. Pure. */
import { formatAddress, formatSubnet, overlaps, type Subnet } from "../addressing/subnet.ts";
import type { KernelPeer, KernelState } from "./kernel-state.ts";
import {
  ANY_PEER_ADDRESS,
  ANY_PEER_MAC,
  GATEWAY_LINK,
  MARK_BASE,
  MARK_MASK,
  peerMark,
  ROUTE_PROTOCOL,
  RULES_FROM,
  RULES_TO,
  TABLE_BASE,
  VXLAN_LINK,
  vxlanMac,
} from "./overlay-names.ts";
import { linkName, macAddress } from "./sandbox-names.ts";

/**
 * Objects by what identifies them: two with the same key cannot exist at once. The value is what `ip` needs to make it so.
 * Keys and values are plain words of `ip`: `route 10.18.0.64/26`, `via 10.18.0.65 dev oakvx onlink …`.
 */
export type IpState = ReadonlyMap<string, string>;

export interface IpInput {
  readonly state: KernelState;
  /** Where this worker's sandboxes have addresses, those included that only last until their sandboxes end. */
  readonly subnets: readonly Subnet[];
}

export function compileIpState({ state, subnets }: IpInput): IpState {
  const { frame, sandboxes, peers } = state;
  const source = frame.gateway === undefined ? "" : ` src ${formatAddress(frame.gateway)}`;
  const services = formatSubnet(frame.serviceRange);
  const plain = peers.filter((peer) => plainLink(peer) !== undefined);
  return new Map<string, string>([
    ...subnets.map((subnet) => [`address ${formatAddress(subnet.base + 1)}/32 dev ${GATEWAY_LINK}`, ""] as const),
    ...subnets.map((subnet) => [`route unreachable ${formatSubnet(subnet)} metric 4000`, ""] as const),
    ...sandboxes.map(
      (address) => [`route ${formatAddress(address)}`, `dev ${linkName(address)} scope link${source}`] as const,
    ),
    ...sandboxes.map((address) => [neighbour(address, linkName(address)), macAddress(address)] as const),
    [`route ${services}`, `via ${ANY_PEER_ADDRESS} dev ${VXLAN_LINK}${source} onlink`],
    [`neighbour ${ANY_PEER_ADDRESS} dev ${VXLAN_LINK}`, ANY_PEER_MAC],
    ...peers.flatMap((peer) => peerObjects(withoutOurs(peer, subnets), source)),
    ...(plain.length === 0 ? [] : OUR_MARKS_ONLY),
    ...plain.flatMap((peer) => plainReplies(peer, services)),
  ]);
}

/** Packets without a mark of ours skip the peers' rules. */
const OUR_MARKS_ONLY = [
  [`rule ${RULES_FROM}`, `not fwmark ${hex(MARK_BASE)}/${hex(MARK_MASK)} goto ${RULES_TO}`],
  [`rule ${RULES_TO}`, "nop"],
] as const;

/** Of a subnet that changes hands we may be told first that it is ours, or last that it is not: as long as it is, it is nobody else's. */
function withoutOurs(peer: KernelPeer, ours: readonly Subnet[]): KernelPeer {
  return { ...peer, subnets: peer.subnets.filter((subnet) => !ours.some((own) => overlaps(own, subnet))) };
}

/** The tunnel to it is always there, so that a change of path loses nothing. */
function peerObjects(peer: KernelPeer, source: string): [string, string][] {
  const mac = vxlanMac(peer.address);
  const link = plainLink(peer);
  const tunnelled = peer.subnets.flatMap((subnet): [string, string][] => {
    const gateway = formatAddress(subnet.base + 1);
    const next =
      link === undefined ? `via ${gateway} dev ${VXLAN_LINK}` : `via ${formatAddress(peer.address)} dev ${link}`;
    return [
      [neighbour(subnet.base + 1, VXLAN_LINK), mac],
      [`route ${formatSubnet(subnet)}`, `${next}${source}${link === undefined ? " onlink" : ""}`],
    ];
  });
  return [[`fdb ${mac}`, formatAddress(peer.address)], ...tunnelled];
}

function plainReplies(peer: KernelPeer, services: string): [string, string][] {
  const table = TABLE_BASE + peer.number;
  return [
    [`route ${services} table ${table}`, `via ${formatAddress(peer.address)} dev ${plainLink(peer)}`],
    [`rule ${RULES_FROM + peer.number}`, `fwmark ${peerMark(peer.number)} lookup ${table}`],
  ];
}

function plainLink({ path, neighbour }: KernelPeer): string | undefined {
  return path === "plain" ? neighbour?.link : undefined;
}

export interface IpCommands {
  /** For `bridge -batch`. */
  readonly bridge: readonly string[];
  /** For `ip -batch`, to be run after those. */
  readonly ip: readonly string[];
}

/**
 * First what is missing or different, then what is too much: a packet finds the old way or the new one. Only the way to a subnet that
 * was ours comes last, since the kernel takes no next hop that it has for an address of its own.
 */
export function ipCommands(actual: IpState, desired: IpState): IpCommands {
  const made = [...desired].filter(([key, value]) => actual.get(key) !== value);
  const gone = [...actual].filter(([key]) => !desired.has(key));
  const given = new Set(gone.flatMap(([key]) => /^address (\S+)\/32 /.exec(key)?.[1] ?? []));
  const isGiven = ([, value]: readonly [string, string]) => given.has(/^via (\S+)/.exec(value)?.[1] ?? "");
  const bridge = [
    ...made
      .filter(isTunnelEntry)
      .map(([key, value]) => `fdb replace ${macOf(key)} dev ${VXLAN_LINK} dst ${value} self permanent`),
    ...gone.filter(isTunnelEntry).map(([key]) => `fdb del ${macOf(key)} dev ${VXLAN_LINK}`),
  ];
  const objects = made.filter((entry) => !isTunnelEntry(entry));
  const make = ([key, value]: readonly [string, string]) => makeCommands(key, value, actual.has(key));
  const ip = [
    ...objects.filter((entry) => !isGiven(entry)).flatMap(make),
    ...gone.filter((entry) => !isTunnelEntry(entry)).map(([key]) => removeCommand(key)),
    ...objects.filter(isGiven).flatMap(make),
  ];
  return { bridge, ip };
}

const isTunnelEntry = ([key]: readonly [string, string]) => key.startsWith("fdb ");
const macOf = (key: string) => key.slice("fdb ".length);

function makeCommands(key: string, value: string, exists: boolean): string[] {
  const [kind, ...words] = key.split(" ");
  const rest = words.join(" ");
  if (kind === "address") return [`address replace ${rest}`];
  if (kind === "neighbour") return [`neighbour replace ${rest} lladdr ${value} nud permanent`];
  if (kind === "rule") {
    const add = `rule add pref ${rest} ${value}`;
    return exists ? [add, removeCommand(key)] : [add];
  }
  return [`route replace ${rest}${value === "" ? "" : ` ${value}`} proto ${ROUTE_PROTOCOL}`];
}

function removeCommand(key: string): string {
  const [kind, ...words] = key.split(" ");
  if (kind === "rule") return `rule del pref ${words.join(" ")}`;
  return `${kind} del ${words.join(" ")}${kind === "route" ? ` proto ${ROUTE_PROTOCOL}` : ""}`;
}

function neighbour(address: number, link: string): string {
  return `neighbour ${formatAddress(address)} dev ${link}`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
