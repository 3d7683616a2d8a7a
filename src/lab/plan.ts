/**
 * From a topology to namespaces, devices and addresses: pure. A site is a router (a network namespace) with a bridge `lan`, to
 * which its hosts are plugged; routers are linked pairwise; the router of the root's site is the gate to the machine outside.
 *
 * Addresses: the lab's network in blocks of 256. Block 0 holds the link to the machine, block n the n-th site (its router is .1),
 * and the links between sites fill the network from its end, two addresses each.
 */
import { contains, formatAddress, overlaps, parseAddress, parseSubnet, type Subnet } from "../addressing/subnet.ts";
import { AppError } from "../base/errors.ts";
import type { Host, Shape, Site, SiteLink, Topology } from "./topology.ts";

/** `ip` commands, in order. `@node` stands for the process that holds the namespace of that host or router. */
export type IpCommands = readonly string[];

export interface RouterPlan {
  /** Of the site. */
  readonly name: string;
  readonly nat: boolean;
  readonly ip: IpCommands;
  readonly tc: readonly string[];
}

export interface HostPlan {
  readonly host: Host;
  readonly site: string;
  readonly address: string;
  readonly gateway: string;
  /** Its device in the bridge `lan` of the site's router. */
  readonly port: string;
  /** What plugs it in: run each time it starts. */
  readonly plug: {
    readonly router: IpCommands;
    readonly routerTc: readonly string[];
    readonly inside: IpCommands;
    readonly insideTc: readonly string[];
  };
}

/** A link that a process has to carry, between two TAP devices. */
export interface CarriedLink {
  readonly ends: readonly [CarriedEnd, CarriedEnd];
  readonly shape: Shape;
}

export interface CarriedEnd {
  readonly router: string;
  readonly device: string;
}

export interface LabPlan {
  readonly network: string;
  readonly machine: {
    readonly device: string;
    readonly address: string;
    readonly gate: string;
    readonly gateRouter: string;
  };
  readonly routers: readonly RouterPlan[];
  readonly hosts: readonly HostPlan[];
  readonly carried: readonly CarriedLink[];
}

export interface PlanOptions {
  /** Of the whole lab, in blocks of 256 addresses. */
  readonly network: Subnet;
  /** The kernel can shape traffic itself; if not, a process carries the packets. */
  readonly hasNetem: boolean;
}

const BLOCK = 256;
export const PORTS = { root: 10_000, join: 10_100 } as const;

/** @throws AppError NETWORK_TOO_SMALL */
export function planLab(topology: Topology, { network, hasNetem }: PlanOptions): LabPlan {
  const { sites, links } = topology;
  checkSize(network, sites.length, links.length);
  const gate = sites.find(({ hosts }) => hosts.some(({ role }) => role === "root"))!;
  const addressing: Addressing = { network, topology, gate: gate.name };
  const machine = {
    device: machineDevice(network),
    address: formatAddress(network.base + 1),
    gate: formatAddress(network.base + 2),
    gateRouter: gate.name,
  };
  const carriedHosts = sites.flatMap((site) => (hasNetem ? [] : site.hosts.flatMap((host) => carriedPlug(site, host))));
  const carriedLinks = hasNetem ? [] : links.flatMap((link) => carriedSiteLink(sites, link));
  return {
    network: `${formatAddress(network.base)}/${network.prefix}`,
    machine,
    routers: sites.map((site) => planRouter(site, addressing, hasNetem)),
    hosts: sites.flatMap((site) => site.hosts.map((host) => planHost(site, host, addressing, hasNetem))),
    carried: [...carriedHosts, ...carriedLinks],
  };
}

/** Named by the network, so that the kernel refuses a second lab on the same addresses. */
export function machineDevice({ base }: Subnet): string {
  return `ol${base.toString(16).padStart(8, "0")}`;
}

/**
 * The first of the blocks of `within` that shares no address with `taken`, which are subnets of this machine.
 * @throws AppError NETWORK_TAKEN
 */
export function freeNetwork(within: Subnet, prefix: number, taken: readonly Subnet[]): Subnet {
  const size = 2 ** (32 - prefix);
  for (let base = within.base; contains(within, base); base += size) {
    const candidate = { base, prefix };
    if (!taken.some((other) => overlaps(other, candidate))) return candidate;
  }
  throw new AppError(
    "NETWORK_TAKEN",
    `No /${prefix} of ${formatAddress(within.base)}/${within.prefix} is free on this machine: stop a lab, or name another network`,
  );
}

/** Subnets of this machine, by what `ip -o -4 address` and `ip -4 route` print. */
export function takenSubnets(addresses: string, routes: string): Subnet[] {
  const found = [...addresses.matchAll(/ inet (\S+)/g), ...routes.matchAll(/^(?:\w+ )?(\d[\d./]+)/gm)];
  return found.flatMap(([, text = ""]) => {
    const [address = "", prefix = "32"] = text.split("/");
    const number = parseAddress(address);
    if (number === undefined) return [];
    const size = 2 ** (32 - Number(prefix));
    return [{ base: Math.floor(number / size) * size, prefix: Number(prefix) }];
  });
}

/** @throws AppError CONFIG_INVALID when it is none, or too small for anything */
export function parseNetwork(text: string): Subnet {
  try {
    return parseSubnet(text);
  } catch (cause) {
    throw new AppError("CONFIG_INVALID", `The lab's network does not accept "${text}"`, { cause });
  }
}

interface Addressing {
  readonly network: Subnet;
  readonly topology: Topology;
  readonly gate: string;
}

function checkSize({ base, prefix }: Subnet, sites: number, links: number): void {
  const needed = 1 + sites + Math.ceil((links * 2) / BLOCK);
  const blocks = 2 ** Math.max(0, 24 - prefix);
  if (needed > blocks) {
    throw new AppError(
      "NETWORK_TOO_SMALL",
      `${sites} sites need ${needed} blocks of 256 addresses, and ${formatAddress(base)}/${prefix} has ${blocks}: name a larger network`,
      { details: { needed, blocks } },
    );
  }
}

function planRouter(site: Site, addressing: Addressing, hasNetem: boolean): RouterPlan {
  const { network, topology, gate } = addressing;
  const { sites } = topology;
  const ip = [
    "link set lo up",
    "link add lan type bridge mcast_snooping 0",
    `address add ${siteAddress(addressing, site, 1)}/24 dev lan`,
    "link set lan up",
  ];
  const tc: string[] = [];
  for (const { between, link } of topology.links.filter((one) => one.between.includes(site.name))) {
    const other = sites.find(({ name }) => name !== site.name && between.includes(name))!;
    const device = towards(sites, other.name);
    const isFirst = between[0] === site.name;
    // Where a process carries the link, its TAP devices are there already.
    if (isFirst && (link === undefined || hasNetem)) {
      ip.push(`link add ${device} type veth peer name ${towards(sites, site.name)} netns @${other.name}`);
    }
    if (link && hasNetem) tc.push(netem(device, link));
    ip.push(
      `address add ${linkAddress(addressing, between, isFirst ? 0 : 1)}/31 dev ${device}`,
      `link set ${device} up`,
    );
    const peer = linkAddress(addressing, between, isFirst ? 1 : 0);
    ip.push(`route add ${siteAddress(addressing, other, 0)}/24 via ${peer} dev ${device} onlink`);
    if (other.name === gate) ip.push(`route add default via ${peer} dev ${device} onlink`);
  }
  if (site.name === gate) {
    ip.push(
      `address add ${formatAddress(network.base + 2)}/30 dev out`,
      "link set out up",
      `route add default via ${formatAddress(network.base + 1)} dev out`,
      // What is nobody's would go round between here and the machine.
      `route add unreachable ${formatAddress(network.base)}/${network.prefix}`,
    );
  }
  for (const [index, host] of site.hosts.entries()) {
    if (!host.link || hasNetem) continue;
    const [near, far] = tapNames(index);
    ip.push(`link add b${index} type bridge mcast_snooping 0`, `link set b${index} up`);
    ip.push(`link set ${near} master b${index} up`, `link set ${far} master lan up`);
  }
  return { name: site.name, nat: site.nat, ip, tc };
}

function planHost(site: Site, host: Host, addressing: Addressing, hasNetem: boolean): HostPlan {
  const index = site.hosts.indexOf(host);
  const address = siteAddress(addressing, site, index + 2);
  const gateway = siteAddress(addressing, site, 1);
  const device = `p${index}`;
  const isCarried = host.link !== undefined && !hasNetem;
  const tc = (name: string) => (host.link && hasNetem ? [netem(name, host.link)] : []);
  return {
    host,
    site: site.name,
    address,
    gateway,
    port: isCarried ? tapNames(index)[1] : device,
    plug: {
      router: [
        `link add ${device} type veth peer name eth0 netns @${host.name}`,
        `link set ${device} master ${isCarried ? `b${index}` : "lan"} up`,
      ],
      routerTc: tc(device),
      inside: [`address add ${address}/24 dev eth0`, "link set eth0 up", `route add default via ${gateway}`],
      insideTc: tc("eth0"),
    },
  };
}

function carriedPlug(site: Site, host: Host): CarriedLink[] {
  if (!host.link) return [];
  const [near, far] = tapNames(site.hosts.indexOf(host));
  const end = (device: string) => ({ router: site.name, device });
  return [{ ends: [end(near), end(far)], shape: host.link }];
}

function carriedSiteLink(sites: readonly Site[], { between: [a, b], link }: SiteLink): CarriedLink[] {
  if (!link) return [];
  return [
    {
      ends: [
        { router: a, device: towards(sites, b) },
        { router: b, device: towards(sites, a) },
      ],
      shape: link,
    },
  ];
}

/** Device names have 15 characters at most, so numbers stand for names. */
const towards = (sites: readonly Site[], name: string) => `to${sites.findIndex((site) => site.name === name)}`;
const tapNames = (index: number): [string, string] => [`d${index}a`, `d${index}b`];

function siteAddress({ network, topology }: Addressing, site: Site, host: number): string {
  return formatAddress(network.base + (topology.sites.indexOf(site) + 1) * BLOCK + host);
}

function linkAddress({ network, topology }: Addressing, between: readonly [string, string], end: 0 | 1): string {
  const index = topology.links.findIndex((link) => link.between.every((name, at) => name === between[at]));
  return formatAddress(network.base + 2 ** (32 - network.prefix) - 2 * (index + 1) + end);
}

/** A line for `tc -batch`. Its queue must hold what a fast sender puts on a long link. */
function netem(device: string, { delayMs, jitterMs, lossPercent, bitsPerSecond }: Shape): string {
  const parts = [`qdisc replace dev ${device} root netem limit 20000`];
  if (delayMs > 0 || jitterMs > 0) parts.push(`delay ${delayMs}ms${jitterMs > 0 ? ` ${jitterMs}ms` : ""}`);
  if (lossPercent > 0) parts.push(`loss ${lossPercent}%`);
  if (bitsPerSecond !== undefined) parts.push(`rate ${bitsPerSecond}bit`);
  return parts.join(" ");
}
