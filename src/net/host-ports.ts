/** Host ports as data: who has which, and what the kernel's map says. Pure. */
import * as z from "zod/mini";
import { parseAddress } from "../addressing/subnet.ts";
import { PortMapping } from "../protocol/ports.ts";
import type { KernelState, PublishedPort } from "./kernel-state.ts";
import { portBusy } from "./network-errors.ts";

/**
 * The state in which the sandbox has exactly these host ports.
 * @throws PORT_BUSY naming the instance that has one of them.
 */
export function withPorts(
  state: KernelState,
  wanted: { readonly address: number; readonly ports: readonly PortMapping[] },
  instanceAt: (address: number) => string,
): KernelState {
  const others = state.ports.filter(({ address }) => address !== wanted.address);
  for (const port of wanted.ports) {
    const holder = others.find((other) => other.hostPort === port.hostPort && other.protocol === port.protocol);
    if (holder) throw portBusy(port, { kind: "instance", instanceId: instanceAt(holder.address) });
  }
  return { ...state, ports: [...others, ...wanted.ports.map((port) => ({ ...port, address: wanted.address }))] };
}

export function hasPort(state: KernelState, address: number, port: PortMapping): boolean {
  return state.ports.some(
    (other) => other.address === address && other.hostPort === port.hostPort && other.protocol === port.protocol,
  );
}

const Concatenation = z.object({
  concat: z.tuple([z.union([z.string(), z.number()]), z.union([z.string(), z.number()])]),
});
const Listing = z.object({
  nftables: z.array(
    z.object({ map: z.optional(z.object({ elem: z.optional(z.array(z.tuple([Concatenation, Concatenation]))) })) }),
  ),
});
/** nft prints numbers where the host has no /etc/protocols. */
const PROTOCOLS: Readonly<Record<string, "tcp" | "udp">> = { tcp: "tcp", udp: "udp", "6": "tcp", "17": "udp" };

/** What `list map ip oakestra host_ports` says, as nft's JSON. Entries that we would not have written are left out. */
export function readPorts(listing: unknown): PublishedPort[] {
  return z.parse(Listing, listing).nftables.flatMap(({ map }) =>
    (map?.elem ?? []).flatMap(([key, value]) => {
      const [protocol, hostPort] = key.concat;
      const [target, containerPort] = value.concat;
      const address = parseAddress(String(target));
      const port = z.safeParse(PortMapping, { protocol: PROTOCOLS[String(protocol)], hostPort, containerPort });
      return port.success && address !== undefined ? [{ ...port.data, address }] : [];
    }),
  );
}
