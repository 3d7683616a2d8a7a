import { FreeAddresses } from "../addressing/free-addresses.ts";
import { formatAddress, parseSubnet } from "../addressing/subnet.ts";
import { AppError } from "../base/errors.ts";
import { formatPort } from "../protocol/ports.ts";
import type { Network, PortMapping, Sandbox } from "./network.ts";
import { exhausted, notAttached, portBusy } from "./network-errors.ts";

/** A network in memory that keeps the port's promises, for tests of whoever uses it. */
export class FakeNetwork implements Network {
  readonly #subnet: string;
  readonly #free: FreeAddresses;
  readonly #sandboxes = new Map<string, Sandbox>();
  readonly #holders = new Map<string, string>();
  /** Processes of the host that listen, by `8080/tcp`: tests add and remove them. */
  readonly hostListeners = new Map<string, { pid: number; name: string }>();
  /** When set, `attach` fails with it. */
  attachFailure: Error | undefined;
  started = false;

  constructor({ subnet = "10.18.0.0/22" }: { subnet?: string } = {}) {
    this.#subnet = subnet;
    this.#free = new FreeAddresses(parseSubnet(subnet), []);
  }

  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.started = true;
  }

  async attach(instanceId: string, signal: AbortSignal): Promise<Sandbox> {
    this.#assertStarted();
    signal.throwIfAborted();
    const existing = this.#sandboxes.get(instanceId);
    if (existing) return existing;
    if (this.attachFailure) throw this.attachFailure;
    const number = this.#free.take();
    if (number === undefined) throw exhausted(this.#subnet);
    const address = formatAddress(number);
    const sandbox = {
      instanceId,
      address,
      namespacePath: `/run/netns/oak-${address}`,
      resolvConf: "/var/lib/oakestra/worker/resolv.conf",
    };
    this.#sandboxes.set(instanceId, sandbox);
    return sandbox;
  }

  async detach(instanceId: string, signal: AbortSignal): Promise<void> {
    await this.unpublish(instanceId, signal);
    const sandbox = this.#sandboxes.get(instanceId);
    if (!sandbox) return;
    this.#sandboxes.delete(instanceId);
    const bytes = sandbox.address.split(".").map(Number);
    this.#free.release(bytes.reduce((value, byte) => value * 256 + byte, 0));
  }

  async publish(instanceId: string, ports: readonly PortMapping[], signal: AbortSignal): Promise<void> {
    this.#assertStarted();
    signal.throwIfAborted();
    if (!this.#sandboxes.has(instanceId)) throw notAttached(instanceId);
    for (const port of ports) {
      const key = formatPort(port);
      const holder = this.#holders.get(key);
      if (holder === instanceId) continue;
      if (holder !== undefined) throw portBusy(port, { kind: "instance", instanceId: holder });
      const listener = this.hostListeners.get(key);
      if (listener) throw portBusy(port, { kind: "process", ...listener });
    }
    await this.unpublish(instanceId, signal);
    for (const port of ports) this.#holders.set(formatPort(port), instanceId);
  }

  async unpublish(instanceId: string, _signal: AbortSignal): Promise<void> {
    for (const [key, holder] of this.#holders) if (holder === instanceId) this.#holders.delete(key);
  }

  list(): readonly Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  async stop({ purge }: { purge: boolean }): Promise<void> {
    this.started = false;
    if (!purge) return;
    this.#holders.clear();
    for (const instanceId of this.#sandboxes.keys()) await this.detach(instanceId, new AbortController().signal);
  }

  /** Who has a host port now, by `8080/tcp`. */
  holderOf(port: string): string | undefined {
    return this.#holders.get(port);
  }

  #assertStarted(): void {
    if (!this.started) throw new AppError("NET_UNAVAILABLE", "The network was not started");
  }
}
