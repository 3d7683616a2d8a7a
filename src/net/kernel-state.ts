/** All that the kernel's rules depend on, and how it changes: plain data, pure functions. Addresses are numbers. */
import type { Subnet } from "../addressing/subnet.ts";
import type { PortMapping } from "./network.ts";
import type { AddressRange } from "./ranges.ts";

export interface KernelState {
  readonly frame: Frame;
  /** Sandbox addresses in use, those of the warm pool included. */
  readonly sandboxes: readonly number[];
  /** Instance address by sandbox address. */
  readonly identities: ReadonlyMap<number, number>;
  readonly ports: readonly PublishedPort[];
  readonly peers: readonly KernelPeer[];
  /** Addresses whose guarded ports are not for instances, besides the peers'. */
  readonly guardedHosts: readonly number[];
}

/** What the rules themselves contain: a change of it makes the tables anew. */
export interface Frame {
  readonly serviceRange: Subnet;
  /** Every address that only sandboxes, instances and services have; merged. */
  readonly ranges: readonly AddressRange[];
  /** What the worker itself talks to sandboxes as; undefined while it has no subnet. */
  readonly gateway: number | undefined;
  readonly guardedPorts: readonly number[];
  /** Packets of established connections may pass the rules by. */
  readonly hasFastPath: boolean;
}

export interface PublishedPort extends PortMapping {
  readonly address: number;
}

export interface KernelPeer {
  readonly id: string;
  /** Low half of the mark that its connections carry: the same across restarts of the agent. */
  readonly number: number;
  readonly address: number;
  readonly subnets: readonly Subnet[];
  /** How packets to it leave. They may come either way. */
  readonly path: "plain" | "vxlan";
  /** Where it is on a common link, once its MAC is known. */
  readonly neighbour?: { readonly link: string; readonly mac: string } | undefined;
}

export function initialState(frame: Frame): KernelState {
  return { frame, sandboxes: [], identities: new Map(), ports: [], peers: [], guardedHosts: [] };
}

export function withSandbox(state: KernelState, address: number): KernelState {
  return state.sandboxes.includes(address) ? state : { ...state, sandboxes: [...state.sandboxes, address] };
}

/** Its host ports and its identity go with it. */
export function withoutSandbox(state: KernelState, address: number): KernelState {
  return {
    ...withIdentity(state, address, undefined),
    sandboxes: state.sandboxes.filter((other) => other !== address),
    ports: state.ports.filter((port) => port.address !== address),
  };
}

export function withIdentity(state: KernelState, sandbox: number, instance: number | undefined): KernelState {
  if (state.identities.get(sandbox) === instance) return state;
  const others = [...state.identities].filter(([address]) => address !== sandbox);
  return { ...state, identities: new Map(instance === undefined ? others : [...others, [sandbox, instance]]) };
}
