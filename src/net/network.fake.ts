import { formatAddress, formatSubnet, parseAddress } from "../addressing/subnet.ts";
import { AppError } from "../base/errors.ts";
import { formatPort, isReserved } from "../protocol/ports.ts";
import type { Network, PortMapping, Sandbox } from "./network.ts";
import { exhausted, notAttached, portBusy } from "./network-errors.ts";
import type { FastPathState, MissListener, Overlay, OverlaySettings, Routes, UnderlayPath } from "./overlay.ts";
import { planOverlay } from "./overlay-plan.ts";
import { SandboxAddresses } from "./sandbox-addresses.ts";

/** A network in memory that keeps the ports' promises, for tests of whoever uses it. */
export class FakeNetwork implements Network, Overlay {
  readonly #addresses = new SandboxAddresses();
  readonly #sandboxes = new Map<string, Sandbox>();
  readonly #holders = new Map<string, string>();
  #listener: MissListener | undefined;
  /** Processes of the host that listen, by `8080/tcp`: tests add and remove them. */
  readonly hostListeners = new Map<string, { pid: number; name: string }>();
  /** When set, `attach` fails with it. */
  attachFailure: Error | undefined;
  started = false;
  /** What was set last. */
  settings: OverlaySettings | undefined;
  routes: Routes = { services: [], peers: [] };
  readonly identities = new Map<string, string>();
  /** In the order of the calls. */
  readonly refused: string[] = [];
  readonly flushed: string[] = [];
  /** What `usedAddresses` and `underlayTo` answer. */
  used: readonly string[] = [];
  underlay: UnderlayPath = { onLink: false, mtu: 1500 };
  fastPath: FastPathState = { on: true };

  constructor({ subnet = "10.18.0.0/22" }: { subnet?: string } = {}) {
    this.#addresses.setSubnets(planOverlay({ subnets: [subnet] }).subnets, []);
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
    const number = this.#addresses.take();
    if (number === undefined) throw exhausted(this.#addresses.subnets.map(formatSubnet));
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
    this.#addresses.release(parseAddress(sandbox.address)!);
  }

  async publish(instanceId: string, ports: readonly PortMapping[], signal: AbortSignal): Promise<void> {
    this.#assertStarted();
    signal.throwIfAborted();
    if (!this.#sandboxes.has(instanceId)) throw notAttached(instanceId);
    for (const port of ports) {
      if (isReserved(port)) throw portBusy(port, { kind: "worker" });
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

  async configure(settings: OverlaySettings): Promise<void> {
    const taken = this.list().flatMap(({ address }) => parseAddress(address) ?? []);
    this.#addresses.setSubnets(planOverlay(settings).subnets, taken);
    this.settings = settings;
  }

  async setIdentity(instanceId: string, instanceAddress: string | undefined): Promise<void> {
    if (instanceAddress === undefined) this.identities.delete(instanceId);
    else this.identities.set(instanceId, instanceAddress);
  }

  async setRoutes(routes: Routes): Promise<void> {
    this.routes = routes;
  }

  onMiss(listener: MissListener): void {
    this.#listener = listener;
  }

  /** As if an instance had sent a packet to an address that no route knows. */
  miss(address: string, source = "10.18.0.2"): void {
    this.#listener?.(address, source);
  }

  async refuse(address: string): Promise<void> {
    this.refused.push(address);
  }

  async usedAddresses(): Promise<readonly string[]> {
    return this.used;
  }

  async flush(sandboxAddress: string): Promise<void> {
    this.flushed.push(sandboxAddress);
  }

  freeAddresses(): number {
    return this.#addresses.count;
  }

  async underlayTo(_address: string): Promise<UnderlayPath> {
    return this.underlay;
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
