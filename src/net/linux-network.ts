/**
 * The Linux kernel as `Network` and `Overlay`: veth, namespaces, routes, and nft tables of our own. README.md specifies the packet paths.
 * The kernel is the store as well: a link's alias names the owner, the map of host ports who has which. So nothing on disk can
 * contradict it, a restarted agent reads back what is, and a reboot forgets exactly what it destroyed.
 */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod/mini";
import { contains, formatAddress, formatSubnet, parseAddress } from "../addressing/subnet.ts";
import type { Clock } from "../base/clock.ts";
import { hasCode, isAbort } from "../base/errors.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { isReserved, PortMapping } from "../protocol/ports.ts";
import { bringUp, type Found } from "./bring-up.ts";
import { NO_TABLES } from "./compile.ts";
import { forgetSandbox, forgetUdpPort } from "./conntrack.ts";
import { readResolvConfs } from "./host.ts";
import { hasPort, withPorts } from "./host-ports.ts";
import { IpBatch } from "./ip-batch.ts";
import { KernelOverlay } from "./kernel-overlay.ts";
import { initialState, withIdentity, withoutSandbox, withSandbox } from "./kernel-state.ts";
import type { Network, Sandbox } from "./network.ts";
import { exhausted, notAttached, otherWorker, portBusy, unavailable } from "./network-errors.ts";
import { type Nft, openNft } from "./nft.ts";
import { NftTable } from "./nft-table.ts";
import type { FastPathState, MissListener, Overlay, OverlaySettings, Routes, UnderlayPath } from "./overlay.ts";
import { removeLinks } from "./overlay-links.ts";
import { frameOf, planOverlay } from "./overlay-plan.ts";
import { sandboxResolvConf } from "./resolv-conf.ts";
import { SandboxAddresses } from "./sandbox-addresses.ts";
import { SandboxLinks } from "./sandbox-links.ts";
import { linkName, namespacePath } from "./sandbox-names.ts";
import { SandboxPool } from "./sandbox-pool.ts";
import { findListener } from "./sockets.ts";
import { readUsed } from "./used-addresses.ts";

export interface LinuxNetworkOptions {
  /** Holds resolv.conf; nothing here need survive. */
  readonly stateDir: string;
  /** Where sandbox addresses come from until `configure` says otherwise, as `10.18.0.0/22`. */
  readonly subnet?: string | undefined;
  /** Sandboxes kept ready. */
  readonly poolSize?: number;
  /** False: every packet passes the rules. */
  readonly fastPath?: boolean;
  readonly log: Logger;
  readonly clock: Clock;
}

/** What exists between start and stop. */
interface Running {
  readonly ip: IpBatch;
  readonly nft: Nft;
  readonly links: SandboxLinks;
  readonly pool: SandboxPool;
}

export class LinuxNetwork implements Network, Overlay {
  readonly #options: LinuxNetworkOptions;
  readonly #resolvConf: string;
  readonly #queue = new KeyedQueue();
  readonly #background = new Set<Promise<void>>();
  readonly #table: NftTable;
  readonly #overlay: KernelOverlay;
  readonly #addresses = new SandboxAddresses();
  /** Sandbox address by instance. */
  readonly #owned = new Map<string, number>();
  /** Instance address by instance, also of those without a sandbox. */
  readonly #identities = new Map<string, number>();
  /** Instances whose sandbox is being removed, or could not be removed entirely. */
  readonly #leaving = new Set<string>();
  #running: Running | undefined;
  #mtu = 1500;
  #nameServer: string | undefined;

  /** @throws SUBNET_INVALID */
  constructor(options: LinuxNetworkOptions) {
    const { subnet, log, clock } = options;
    const plan = planOverlay({ subnets: subnet === undefined ? [] : [subnet] });
    const frame = frameOf(plan, { subnets: plan.subnets, peerSubnets: [], clashing: [] });
    this.#options = options;
    this.#resolvConf = join(options.stateDir, "resolv.conf");
    this.#table = new NftTable({ log, clock, state: initialState(frame) });
    this.#overlay = new KernelOverlay({ plan, table: this.#table, fastPath: options.fastPath ?? true, log, clock });
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#running) return;
    const { stateDir, log } = this.#options;
    const ip = new IpBatch();
    let nft: Nft | undefined;
    try {
      await this.#writeResolvConf();
      nft = await openNft({ folder: stateDir, log });
      const links = new SandboxLinks({ ip, mtu: () => this.#mtu });
      const found = await bringUp({
        ...{ plan: this.#overlay.plan, nft, links, log, signal },
        claim: (host) => this.#overlay.claim(host),
      });
      this.#mtu = found.host.egressMtu;
      await this.#adopt(found);
      await this.#overlay.open(nft);
      this.#running = { ip, nft, links, pool: this.#makePool(links) };
    } catch (error) {
      await this.#overlay.close();
      this.#table.close();
      ip.close();
      nft?.close();
      if (hasCode(error, "NET_CLASH") || isAbort(error)) throw error;
      if (hasCode(error, "TUN_BUSY")) throw otherWorker(error);
      throw unavailable("set up the network of instances", error);
    }
    log.info({ subnets: this.#overlay.plan.subnets.map(formatSubnet), adopted: this.#owned.size }, "network is up");
    this.#running.pool.refill(0);
  }

  attach(instanceId: string, signal: AbortSignal): Promise<Sandbox> {
    return this.#queue.run(assertPlain(instanceId), async () => {
      signal.throwIfAborted();
      const { pool, links } = this.#assertRunning();
      if (this.#leaving.has(instanceId)) await this.#remove(instanceId);
      const existing = this.#owned.get(instanceId);
      if (existing !== undefined) return this.#sandbox(instanceId, existing);
      const address = await pool.take();
      if (address === undefined) throw exhausted(this.#addresses.subnets.map(formatSubnet));
      this.#owned.set(instanceId, address);
      try {
        await links.own(address, instanceId);
        await this.#table.change((state) => withIdentity(state, address, this.#identities.get(instanceId)));
      } catch (error) {
        // Someone removed the link: this sandbox is of no use to anyone.
        await this.#remove(instanceId);
        throw error;
      }
      pool.refill();
      return this.#sandbox(instanceId, address);
    });
  }

  detach(instanceId: string, signal: AbortSignal): Promise<void> {
    return this.#queue.run(assertPlain(instanceId), async () => {
      signal.throwIfAborted();
      this.#assertRunning();
      if (this.#owned.has(instanceId)) await this.#remove(instanceId);
    });
  }

  publish(instanceId: string, ports: readonly PortMapping[], signal: AbortSignal): Promise<void> {
    return this.#queue.run(assertPlain(instanceId), async () => {
      signal.throwIfAborted();
      this.#assertRunning();
      const wanted = z.parse(z.array(PortMapping), ports);
      const address = this.#owned.get(instanceId);
      if (address === undefined) throw notAttached(instanceId);
      const added = wanted.filter((port) => !hasPort(this.#table.state, address, port));
      for (const port of added) {
        if (isReserved(port)) throw portBusy(port, { kind: "worker" });
        const listener = await findListener(port);
        if (listener) throw portBusy(port, { kind: "process", ...listener });
      }
      await this.#table.change((state) =>
        withPorts(state, { address, ports: wanted }, (other) => this.#instanceAt(other)),
      );
      const { log } = this.#options;
      for (const { protocol, hostPort } of added)
        if (protocol === "udp") this.#inBackground(this.#forgetConnections(forgetUdpPort(hostPort, log)));
    });
  }

  unpublish(instanceId: string, signal: AbortSignal): Promise<void> {
    return this.#queue.run(assertPlain(instanceId), async () => {
      signal.throwIfAborted();
      this.#assertRunning();
      const address = this.#owned.get(instanceId);
      if (address === undefined || !this.#table.state.ports.some((port) => port.address === address)) return;
      await this.#table.change((state) => withPorts(state, { address, ports: [] }, (other) => this.#instanceAt(other)));
      this.#inBackground(this.#forgetConnections(forgetSandbox(address, this.#options.log)));
    });
  }

  list(): readonly Sandbox[] {
    return [...this.#owned].map(([instanceId, address]) => this.#sandbox(instanceId, address));
  }

  async configure(settings: OverlaySettings): Promise<void> {
    const plan = planOverlay(settings);
    await this.#overlay.configure(plan);
    this.#nameServer = settings.nameServer;
    this.#addresses.setSubnets(plan.subnets, this.#table.state.sandboxes);
    if (!this.#running) return;
    await this.#writeResolvConf();
    const { pool, links } = this.#running;
    const isOurs = (address: number) => plan.subnets.some((subnet) => contains(subnet, address));
    for (const address of pool.discard((ready) => !isOurs(ready))) await this.#unmake(links, address);
    pool.refill();
  }

  async setIdentity(instanceId: string, instanceAddress: string | undefined): Promise<void> {
    const identity = instanceAddress === undefined ? undefined : parseAddress(instanceAddress);
    if (identity === undefined) this.#identities.delete(instanceId);
    else this.#identities.set(instanceId, identity);
    const address = this.#owned.get(instanceId);
    if (address !== undefined) await this.#table.change((state) => withIdentity(state, address, identity));
  }

  setRoutes(routes: Routes): Promise<void> {
    return this.#overlay.setRoutes(routes);
  }

  onMiss(listener: MissListener): void {
    this.#overlay.onMiss(listener);
  }

  refuse(address: string): Promise<void> {
    return this.#overlay.refuse(address);
  }

  async usedAddresses(): Promise<readonly string[]> {
    this.#assertRunning();
    return readUsed(await this.#table.list("list set ip oakestra used"));
  }

  async flush(sandboxAddress: string): Promise<void> {
    await this.#forgetConnections(forgetSandbox(parseAddress(sandboxAddress) ?? 0, this.#options.log));
  }

  get fastPath(): FastPathState {
    return this.#overlay.fastPath;
  }

  freeAddresses(): number {
    return this.#addresses.count + (this.#running?.pool.readyCount ?? 0);
  }

  underlayTo(address: string): Promise<UnderlayPath> {
    return this.#overlay.underlayTo(address);
  }

  /** Looks for what other programs changed, and puts it right; done by itself every half minute. */
  check(): Promise<void> {
    return this.#overlay.check();
  }

  async stop({ purge }: { purge: boolean }): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    const { ip, nft, links, pool } = running;
    const ready = await pool.stop();
    await Promise.all(this.#background);
    await this.#overlay.close();
    try {
      // What is ready has no owner, so the next start would take it for an orphan: it may as well go now.
      for (const address of purge ? [...ready, ...this.#owned.values()] : ready) await links.remove(address);
      if (purge) await this.#purge(nft);
    } finally {
      this.#table.close();
      this.#owned.clear();
      this.#leaving.clear();
      ip.close();
      nft.close();
    }
  }

  async #adopt(found: Found): Promise<void> {
    const taken = [...found.owned.values()];
    for (const [instanceId, address] of found.owned) this.#owned.set(instanceId, address);
    const known = [...found.owned].flatMap(([instanceId, address]): [number, number][] => {
      const identity = this.#identities.get(instanceId);
      return identity === undefined ? [] : [[address, identity]];
    });
    // From scratch: what was set before the start knew of no sandbox.
    this.#addresses.setSubnets([], []);
    this.#addresses.setSubnets(this.#overlay.plan.subnets, taken);
    await this.#table.change((state) => ({
      ...state,
      sandboxes: taken,
      identities: new Map(known),
      ports: found.ports,
    }));
    await this.#overlay.adopt(found);
  }

  async #purge(nft: Nft): Promise<void> {
    const addresses = this.#table.state.sandboxes;
    this.#table.close();
    await nft.run(NO_TABLES);
    await this.#table.change((state) => ({ ...initialState(state.frame), guardedHosts: state.guardedHosts }));
    await this.#overlay.removeRoutes();
    await removeLinks();
    for (const address of addresses) await forgetSandbox(address, this.#options.log);
  }

  /** First nothing may get there any more, then it goes, then its address is free. Repeatable after a failure at any point. */
  async #remove(instanceId: string): Promise<void> {
    const { links, pool } = this.#assertRunning();
    const address = this.#owned.get(instanceId);
    if (address === undefined) return;
    this.#leaving.add(instanceId);
    await this.#unmake(links, address);
    this.#owned.delete(instanceId);
    this.#leaving.delete(instanceId);
    pool.release(address);
  }

  async #unmake(links: SandboxLinks, address: number): Promise<void> {
    await this.#table.change((state) => withoutSandbox(state, address));
    // Whatever fails below: nothing gets there any more.
    this.#overlay.follow();
    await Promise.all([links.remove(address), this.#forgetConnections(forgetSandbox(address, this.#options.log))]);
    await this.#overlay.forget(linkName(address));
  }

  #makePool(links: SandboxLinks): SandboxPool {
    const { poolSize = 2, clock, log } = this.#options;
    return new SandboxPool({
      size: poolSize,
      free: this.#addresses,
      make: async (address) => {
        const subnet = this.#addresses.subnets.find((other) => contains(other, address));
        await links.make(address, (subnet?.base ?? address) + 1);
        await this.#table.change((state) => withSandbox(state, address));
        await this.#overlay.sync();
      },
      refillDelayMs: 250,
      clock,
      log,
    });
  }

  /** In place, not by a new file: running instances have this one mounted, and see the change. */
  async #writeResolvConf(): Promise<void> {
    await mkdir(this.#options.stateDir, { recursive: true, mode: 0o700 });
    await writeFile(this.#resolvConf, sandboxResolvConf(await readResolvConfs(), this.#nameServer));
    // Whatever the umask: programs in containers that are not root's read it too.
    await chmod(this.#resolvConf, 0o644);
  }

  /** What follows by itself from connections goes with them. */
  async #forgetConnections(work: Promise<void>): Promise<void> {
    await work;
    this.#overlay.forgetFlows();
  }

  #inBackground(work: Promise<void>): void {
    const tracked = work.finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }

  #instanceAt(address: number): string {
    return [...this.#owned].find(([, other]) => other === address)?.[0] ?? "unknown";
  }

  #sandbox(instanceId: string, address: number): Sandbox {
    return {
      instanceId,
      address: formatAddress(address),
      namespacePath: namespacePath(address),
      resolvConf: this.#resolvConf,
    };
  }

  #assertRunning(): Running {
    if (!this.#running) throw unavailable("change the network of instances: it was not started");
    return this.#running;
  }
}

/** Instance ids become an alias in the kernel: what could be more than a word there is a defect of the caller. */
function assertPlain(instanceId: string): string {
  if (!/^[\w.-]{1,200}$/.test(instanceId)) throw new TypeError(`Not an instance id: ${JSON.stringify(instanceId)}`);
  return instanceId;
}
