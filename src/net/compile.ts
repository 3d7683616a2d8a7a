/**
 * From what should be to nft text: pure. Rules change with the frame only; sandboxes, ports, peers and services are elements.
 * README.md beside this file says which packet meets which rule, and why. Text is made of our own constants, of numbers, of names
 * derived from numbers, and of names of links that the kernel gave: nothing that a user wrote gets here.
 */
import { formatAddress, formatSubnet } from "../addressing/subnet.ts";
import type { KernelPeer, KernelState, PublishedPort } from "./kernel-state.ts";
import {
  MARK_BASE,
  MARK_MASK,
  MISS_ADDRESS,
  peerMark,
  SANDBOX_GROUP,
  TUN_GROUP,
  TUN_LINK,
  VXLAN_LINK,
  VXLAN_PORT,
  vxlanMac,
} from "./overlay-names.ts";
import { formatRanges } from "./ranges.ts";
import { linkName } from "./sandbox-names.ts";

/** Every set and map whose elements follow from the state; services are apart (balancing-text.ts). */
const ELEMENTS: readonly {
  readonly family: "ip" | "netdev";
  readonly name: string;
  readonly of: (state: KernelState) => readonly string[];
}[] = [
  { family: "ip", name: "sandboxes", of: ({ sandboxes }) => sandboxes.map(sender) },
  { family: "ip", name: "self", of: ({ identities }) => [...identities].map(identity) },
  { family: "ip", name: "host_ports", of: ({ ports }) => ports.map(hostPort) },
  { family: "ip", name: "peers", of: ({ peers }) => peers.flatMap(peerArrivals) },
  { family: "ip", name: "vteps", of: ({ peers }) => unique(peers.map(({ address }) => formatAddress(address))) },
  {
    family: "ip",
    name: "hosts",
    of: ({ peers, guardedHosts }) =>
      unique([...peers.map(({ address }) => address), ...guardedHosts].map(formatAddress)),
  },
  { family: "netdev", name: "macs", of: ({ peers }) => peers.map(tunnelMac) },
];

/** Replaces our tables, whatever they were; services are to follow in the same transaction. Connections are not touched by it. */
export function compile(state: KernelState): string {
  const commands = ELEMENTS.map(({ family, name, of }) => elementCommand("add", family, name, of(state)));
  const { ranges, hasFastPath } = state.frame;
  const flows = hasFastPath ? flowTable(formatRanges(ranges)) : NO_FLOW_TABLE;
  return `${NO_RULES}${ipTable(state)}${netdevTable(state)}${flows}${commands.join("")}`;
}

/** Removes the tables that are made anew, also when they do not exist. */
const NO_RULES = ["ip", "netdev"]
  .map((family) => `table ${family} oakestra\ndelete table ${family} oakestra\n`)
  .join("");

const NO_FLOW_TABLE = "table ip oakestra_flows\ndelete table ip oakestra_flows\n";

/** Removes all of ours, also when they do not exist. */
export const NO_TABLES = `${NO_RULES}${NO_FLOW_TABLE}`;

/**
 * Of a connection on the fast path the kernel may not have seen the last acknowledgement: it would forget it after 5 idle minutes. In a
 * table of its own, which stays: with the old one, connections would lose what it gave them.
 */
export function flowTable(ours: string): string {
  return `table ip oakestra_flows {
	ct timeout long {
		protocol tcp
		l3proto ip
		policy = { retrans : 432000, unack : 432000 }
	}
	chain begin { type filter hook prerouting priority -149; policy accept; }
}
flush chain ip oakestra_flows begin
add rule ip oakestra_flows begin ip daddr ${ours} ct state new meta l4proto tcp ct timeout set "long"
`;
}

/** From one state to another with the same frame, in one transaction; empty when nothing differs. */
export function compileChange(from: KernelState, to: KernelState): string {
  const changes = ELEMENTS.map(({ family, name, of }) => ({ family, name, ...difference(of(from), of(to)) }));
  return [
    ...changes.map(({ family, name, removed }) => elementCommand("delete", family, name, removed)),
    ...changes.map(({ family, name, added }) => elementCommand("add", family, name, added)),
  ].join("");
}

function elementCommand(verb: "add" | "delete", family: string, name: string, elements: readonly string[]): string {
  return elements.length === 0 ? "" : `${verb} element ${family} oakestra ${name} { ${elements.join(", ")} }\n`;
}

function ipTable({ frame }: KernelState): string {
  const ours = formatRanges(frame.ranges);
  const services = formatSubnet(frame.serviceRange);
  const gateway = frame.gateway === undefined ? undefined : formatAddress(frame.gateway);
  const guarded = frame.guardedPorts.length === 0 ? undefined : `{ ${frame.guardedPorts.join(", ")} }`;
  const isOurMark = `ct mark and ${hex(MARK_MASK)} == ${hex(MARK_BASE)}`;
  return `table ip oakestra {
	set sandboxes { type ifname . ipv4_addr; }
	map self { type ipv4_addr : ipv4_addr; }
	map host_ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
	map peers { type ifname . ether_addr : mark; }
	set vteps { type ipv4_addr; }
	set hosts { type ipv4_addr; }
	set refused { type ipv4_addr; size 65536; flags timeout; }
	set used { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 5m; }
	set missrate { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 10s; }
	set idle { type ipv4_addr; }
	map svc1 { type ipv4_addr : ipv4_addr; }
	map hot { type ipv4_addr : verdict; }
	map hotinst { typeof ip daddr . numgen inc mod 2 : ip daddr; }
	map inst { typeof ip daddr . numgen inc mod 2 : ip daddr; }

	chain raw_prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifgroup ${SANDBOX_GROUP} goto raw_sandbox
		udp dport ${VXLAN_PORT} goto raw_vxlan
	}
	chain raw_sandbox {
		iifname . ip saddr != @sandboxes drop
		ip daddr 127.0.0.0/8 drop
		udp dport ${VXLAN_PORT}-${VXLAN_PORT + 2} drop
	}
	chain raw_vxlan {
		ip saddr @vteps notrack accept
		fib daddr type local drop
	}
	chain raw_output {
		type filter hook output priority -300; policy accept;
		udp dport ${VXLAN_PORT} notrack
	}

	chain arrival {
		type filter hook prerouting priority -150; policy accept;
		ip saddr != ${ours} ip daddr != ${ours} accept
		iifgroup vmap { ${SANDBOX_GROUP} : goto from_sandbox, ${TUN_GROUP} : goto from_tun }
		iif "lo" accept
		iifname "${VXLAN_LINK}" ip daddr != ${ours} drop
		ct state new ip daddr ${services} drop
		ct mark set iifname . ether saddr map @peers accept
		drop
	}
	chain from_sandbox {
		ct direction reply ${isOurMark} meta mark set ct mark
		ct state new ip daddr ${services} goto known
	}
	chain from_tun {
		ip daddr != ${services} drop
		ct state new goto known
	}
	chain departure {
		type route hook output priority -150; policy accept;
		ip daddr != ${ours} accept
		oifgroup ${SANDBOX_GROUP} icmp type redirect drop
		ip daddr != ${services} accept
		ct state new goto known
		ct direction reply ${isOurMark} meta mark set ct mark
	}
	chain known {
		ip daddr @refused goto refuse
		ip daddr @idle goto refuse
	}
	chain refuse {
		meta l4proto tcp reject with tcp reset
		meta l4proto udp reject with icmp port-unreachable
		reject with icmp host-unreachable
	}

	chain nat_prerouting {
		type nat hook prerouting priority -105; policy accept;
		ip daddr ${services} goto service
		fib daddr type local dnat ip to ip protocol . th dport map @host_ports
	}
	chain nat_output {
		type nat hook output priority -105; policy accept;
		ip daddr ${services} goto service
		ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 accept
		fib daddr type local dnat ip to ip protocol . th dport map @host_ports
	}
	chain service {
		dnat ip to ip daddr map @svc1
		ip daddr vmap @hot
		goto shared
	}
	chain shared {
		iifname "${TUN_LINK}" drop
		update @missrate { ip saddr limit rate 64/second burst 256 packets } limit rate 2000/second burst 4000 packets dup to ${MISS_ADDRESS} device "${TUN_LINK}"
		drop
	}

	chain input {
		type filter hook input priority -5; policy accept;
${guarded ? guardedRules(`ip saddr ${ours} iif != "lo"`, guarded) : ""}	}
	chain forward {
		type filter hook forward priority -5; policy accept;
		tcp flags syn / syn,rst jump clamp
		ct state vmap { established : accept, related : accept }
		iifgroup ${SANDBOX_GROUP} ct state invalid drop
${guarded ? guardedRules(`iifgroup ${SANDBOX_GROUP} ip daddr @hosts`, guarded) : ""}	}
	chain clamp {
		oifname "${VXLAN_LINK}" tcp option maxseg size set rt mtu
		iifname "${VXLAN_LINK}" tcp option maxseg size set rt mtu
	}

	chain nat_postrouting {
		type nat hook postrouting priority 95; policy accept;
		ct original ip daddr ${services} update @used { ct original ip daddr }
		ip daddr ${ours} snat ip to ip saddr map @self
${gateway ? ownSources(ours, gateway) : ""}		iifgroup ${SANDBOX_GROUP} ip daddr != ${ours} masquerade
	}
}
`;
}

function guardedRules(condition: string, ports: string): string {
  return `\t\t${condition} tcp dport ${ports} reject with tcp reset
\t\t${condition} udp dport ${ports} reject with icmp port-unreachable
`;
}

function ownSources(ours: string, gateway: string): string {
  return `\t\tip daddr ${ours} fib saddr type local snat ip to ${gateway}
\t\tiifgroup ${SANDBOX_GROUP} oifgroup ${SANDBOX_GROUP} ct status dnat snat ip to ${gateway}
`;
}

/** A packet to an instance elsewhere has the tunnel's common next hop: the mark of its connection says whose MAC it gets. */
function netdevTable({ frame }: KernelState): string {
  const services = formatSubnet(frame.serviceRange);
  return `table netdev oakestra {
	map macs { typeof meta mark : @ll,16,32; }
	chain tunnel {
		type filter hook egress device "${VXLAN_LINK}" priority 0; policy accept;
		ip daddr ${services} @ll,16,32 set meta mark map @macs accept
		ip daddr ${services} drop
	}
}
`;
}

function sender(address: number): string {
  return `"${linkName(address)}" . ${formatAddress(address)}`;
}

function identity([sandbox, instance]: readonly [number, number]): string {
  return `${formatAddress(sandbox)} : ${formatAddress(instance)}`;
}

function hostPort({ protocol, hostPort, address, containerPort }: PublishedPort): string {
  return `${protocol} . ${hostPort} : ${formatAddress(address)} . ${containerPort}`;
}

function peerArrivals({ address, number, neighbour }: KernelPeer): string[] {
  const tunnel = `"${VXLAN_LINK}" . ${vxlanMac(address)} : ${peerMark(number)}`;
  return neighbour ? [tunnel, `"${neighbour.link}" . ${neighbour.mac} : ${peerMark(number)}`] : [tunnel];
}

function tunnelMac({ address, number }: KernelPeer): string {
  return `${peerMark(number)} : ${hex(address)}`;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}

function unique(list: readonly string[]): readonly string[] {
  return [...new Set(list)];
}

function difference(from: readonly string[], to: readonly string[]): { removed: string[]; added: string[] } {
  const [before, after] = [new Set(from), new Set(to)];
  return { removed: from.filter((item) => !after.has(item)), added: to.filter((item) => !before.has(item)) };
}
