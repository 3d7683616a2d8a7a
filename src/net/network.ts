/**
 * Port: the network of a worker's instances. Sandboxes come first: a network namespace with its link and address exists
 * before the container that runs in it. Every call is idempotent; state survives the agent, since kernel objects
 * tell who owns what: a restarted agent finds running sandboxes as they were.
 */
export interface Network {
  /** Brings links, routes and the nft tables to what they should be. @throws NET_CLASH | NET_UNAVAILABLE */
  start(signal: AbortSignal): Promise<void>;
  /** The instance's sandbox: the same one on each call, made (or taken from the warm pool) on the first. @throws NET_EXHAUSTED */
  attach(instanceId: string, signal: AbortSignal): Promise<Sandbox>;
  /** Removes the instance's sandbox and its published ports. No such sandbox: resolves. */
  detach(instanceId: string, signal: AbortSignal): Promise<void>;
  /**
   * Publishes host ports of an instance. @throws PORT_BUSY naming the holder: another instance, or a process of the host.
   * The client's source address is kept.
   */
  publish(instanceId: string, ports: readonly PortMapping[], signal: AbortSignal): Promise<void>;
  /** Takes the instance's host ports back. */
  unpublish(instanceId: string, signal: AbortSignal): Promise<void>;
  /** Sandboxes that belong to an instance; what is in the warm pool is not listed. */
  list(): readonly Sandbox[];
  /** Stops background work; with `purge` removes every kernel object of ours as well. */
  stop(options: { purge: boolean }): Promise<void>;
}

export interface Sandbox {
  readonly instanceId: string;
  /** Usable as an OCI network namespace path. */
  readonly namespacePath: string;
  /** Sandbox address, IPv4. */
  readonly address: string;
  readonly resolvConf: string;
}

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: "tcp" | "udp";
}
