/**
 * From what should be to nft text: pure. The rules never change while the agent runs; sandboxes and ports are elements of a
 * set and a map. README.md beside this file says which packet meets which rule, and why. Text is made of our own constants,
 * numbers, and names derived from numbers: nothing that a user wrote gets here.
 */
import { formatAddress, formatSubnet, type Subnet } from "../addressing/subnet.ts";
import type { PortMapping } from "./network.ts";
import { linkName, macAddress } from "./sandbox-names.ts";

export const BRIDGE = "oak0";

/** All that the rules depend on. */
export interface KernelState {
  readonly subnet: Subnet;
  /** Sandbox addresses in use, those of the warm pool included. */
  readonly sandboxes: readonly number[];
  readonly ports: readonly PublishedPort[];
}

export interface PublishedPort extends PortMapping {
  readonly address: number;
}

export function withSandbox(state: KernelState, address: number): KernelState {
  return state.sandboxes.includes(address) ? state : { ...state, sandboxes: [...state.sandboxes, address] };
}

/** Its host ports go with it. */
export function withoutSandbox(state: KernelState, address: number): KernelState {
  return {
    ...state,
    sandboxes: state.sandboxes.filter((other) => other !== address),
    ports: state.ports.filter((port) => port.address !== address),
  };
}

/** Replaces our two tables, whatever they were, in one transaction. Established connections are not touched by it. */
export function compile(state: KernelState): string {
  const subnet = formatSubnet(state.subnet);
  return `table ip oakestra
delete table ip oakestra
table ip oakestra {
	map host_ports {
		type inet_proto . inet_service : ipv4_addr . inet_service${elements(state.ports.map(hostPort))}
	}

	chain raw_prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname "${BRIDGE}" ip daddr 127.0.0.0/8 drop
	}

	chain nat_prerouting {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local dnat ip to ip protocol . th dport map @host_ports
	}

	chain nat_output {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.0/8 ip daddr != 127.0.0.1 accept
		fib daddr type local dnat ip to ip protocol . th dport map @host_ports
	}

	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname != "${BRIDGE}" oifname "${BRIDGE}" ct state new ct status & dnat == 0 drop
	}

	chain output {
		type filter hook output priority 0; policy accept;
		oifname "${BRIDGE}" icmp type redirect drop
	}

	chain nat_postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr ${subnet} oifname "${BRIDGE}" ct status dnat masquerade
		oifname "${BRIDGE}" ip saddr 127.0.0.0/8 masquerade
		ip saddr ${subnet} oifname != "${BRIDGE}" masquerade
	}
}
table bridge oakestra
delete table bridge oakestra
table bridge oakestra {
	set senders {
		type ifname . ether_addr . ipv4_addr${elements(state.sandboxes.map(sender))}
	}

	chain prerouting {
		type filter hook prerouting priority -300; policy accept;
		iifname != "oak*" accept
		iifname . ether saddr . ip saddr @senders accept
		iifname . arp saddr ether . arp saddr ip @senders accept
		drop
	}
}
`;
}

/** Removes both tables, also when they do not exist. */
export const NO_TABLES = `table ip oakestra
delete table ip oakestra
table bridge oakestra
delete table bridge oakestra
`;

/** From one state to another with the same subnet, in one transaction; empty when nothing differs. */
export function compileChange(from: KernelState, to: KernelState): string {
  const senders = difference(from.sandboxes, to.sandboxes);
  const ports = difference(from.ports.map(hostPort), to.ports.map(hostPort));
  const lines = [
    ["delete", "ip", "host_ports", ports.removed],
    ["delete", "bridge", "senders", senders.removed.map(sender)],
    ["add", "bridge", "senders", senders.added.map(sender)],
    ["add", "ip", "host_ports", ports.added],
  ] as const;
  return lines
    .filter(([, , , changed]) => changed.length > 0)
    .map(([verb, family, name, changed]) => `${verb} element ${family} oakestra ${name} { ${changed.join(", ")} }\n`)
    .join("");
}

function hostPort({ protocol, hostPort, address, containerPort }: PublishedPort): string {
  return `${protocol} . ${hostPort} : ${formatAddress(address)} . ${containerPort}`;
}

function sender(address: number): string {
  return `"${linkName(address)}" . ${macAddress(address)} . ${formatAddress(address)}`;
}

function elements(list: readonly string[]): string {
  return list.length === 0 ? "" : `\n\t\telements = { ${list.join(", ")} }`;
}

function difference<T>(from: readonly T[], to: readonly T[]): { removed: T[]; added: T[] } {
  const [before, after] = [new Set(from), new Set(to)];
  return { removed: from.filter((item) => !after.has(item)), added: to.filter((item) => !before.has(item)) };
}
