/**
 * Port: the semantic overlay of a worker. The caller decides what should be; the kernel forwards. Everything is a level, not an
 * event: the same call again changes nothing, and what is set before `Network.start` is part of its first transaction, so that a
 * restarted agent which first sets what it knew puts back exactly what is there.
 */
export interface Overlay {
  /** @throws NET_CLASH when the host routes one of the ranges elsewhere; nothing has changed then. */
  configure(settings: OverlaySettings): Promise<void>;
  /** The address that others see the instance as; `undefined` takes it away. May come before its sandbox. */
  setIdentity(instanceId: string, instanceAddress: string | undefined): Promise<void>;
  /**
   * All services and peers that this worker knows. Compared by reference first: pass the same objects for what did not change.
   * Packets that were held for an address which is known now are delivered.
   */
  setRoutes(routes: Routes): Promise<void>;
  /** Called once for an address of the service range that no route knows, while its first packets are held (at most 2 s). */
  onMiss(listener: MissListener): void;
  /** Nobody has the address: what is held for it, and what is sent there in the next 5 s, is answered by "unreachable". */
  refuse(address: string): Promise<void>;
  /** Service and instance addresses that got a new connection from here in the last 5 min. */
  usedAddresses(): Promise<readonly string[]>;
  /** Forgets the connections with a sandbox of another worker, which is gone: their clients are refused at once. */
  flush(sandboxAddress: string): Promise<void>;
  /** Sandbox addresses that no instance has. */
  freeAddresses(): number;
  /** Whether packets of established connections may pass the rules by, or why not. */
  readonly fastPath: FastPathState;
  /** The way to another worker's address, before any tunnel. */
  underlayTo(address: string): Promise<UnderlayPath>;
}

export type FastPathState = { readonly on: true } | { readonly on: false; readonly reason: string };

/** @param source of the first packet */
export type MissListener = (address: string, source: string) => void;

export interface OverlaySettings {
  /** Where sandbox addresses come from. One that is taken away stays until its last sandbox has gone. */
  readonly subnets: readonly string[];
  readonly serviceRange?: string;
  /** Ranges of all workers' subnets: nobody else's packets have such addresses. */
  readonly workerRanges?: readonly string[];
  /** This worker's address on the network between the workers; without it there are no tunnels. */
  readonly address?: string | undefined;
  /** TCP and UDP ports of this worker and of `guardedHosts` that are not for instances. */
  readonly guardedPorts?: readonly number[];
  /** Hosts besides the peers whose guarded ports are not for instances: the cluster's, the root's. */
  readonly guardedHosts?: readonly string[];
  /** Whom instances ask for names; missing: whom the host asks. */
  readonly nameServer?: string | undefined;
}

export interface Routes {
  readonly services: readonly ServiceRoutes[];
  readonly peers: readonly Peer[];
}

export interface ServiceRoutes {
  readonly id: string;
  readonly roundRobin: string;
  readonly closest: string;
  /** Sandbox address of the closest live instance. Missing: round robin. */
  readonly closestTarget?: string | undefined;
  readonly instances: readonly InstanceRoute[];
}

export interface InstanceRoute {
  readonly address: string;
  /** Sandbox address; missing while the instance takes no traffic: then it is refused. */
  readonly sandbox?: string | undefined;
}

/** Another worker. */
export interface Peer {
  readonly id: string;
  /** On the network between the workers. */
  readonly address: string;
  readonly subnets: readonly string[];
  /** `plain` needs a common link; where there is none, the tunnel is used. */
  readonly path: "plain" | "vxlan";
}

export interface UnderlayPath {
  readonly onLink: boolean;
  readonly mtu: number;
}
