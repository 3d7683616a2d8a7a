/**
 * The Linux kernel as `Network`: bridge, veth, namespaces, and nft tables of our own. README.md specifies the packet paths.
 * The kernel is the store as well: a link's alias names the owner, the map of host ports who has which. So nothing on disk can
 * contradict it, a restarted agent reads back what is, and a reboot forgets exactly what it destroyed.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod/mini";
import { FreeAddresses } from "../addressing/free-addresses.ts";
import { formatAddress, formatSubnet, parseSubnet, type Subnet } from "../addressing/subnet.ts";
import type { Clock } from "../base/clock.ts";
import { hasCode, isAbort } from "../base/errors.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { PortMapping } from "../protocol/ports.ts";
import { bringUp } from "./bring-up.ts";
import { NO_TABLES, withoutSandbox, withSandbox } from "./compile.ts";
import { forgetConnections, ofSandboxes, ofUdpPort } from "./conntrack.ts";
import { readResolvConfs } from "./host.ts";
import { hasPort, withPorts } from "./host-ports.ts";
import { IpBatch } from "./ip-batch.ts";
import type { Network, Sandbox } from "./network.ts";
import { exhausted, notAttached, portBusy, unavailable } from "./network-errors.ts";
import { type Nft, openNft } from "./nft.ts";
import { NftTable } from "./nft-table.ts";
import { sandboxResolvConf } from "./resolv-conf.ts";
import type { SandboxLinks } from "./sandbox-links.ts";
import { namespacePath } from "./sandbox-names.ts";
import { SandboxPool } from "./sandbox-pool.ts";
import { findListener } from "./sockets.ts";

export interface LinuxNetworkOptions {
  /** Holds resolv.conf; nothing here need survive. */
  readonly stateDir: string;
  /** Sandbox addresses, as `10.18.0.0/22`. The first one is the bridge's. */
  readonly subnet: string;
  /** Sandboxes kept ready. */
  readonly poolSize?: number;
  readonly log: Logger;
  readonly clock: Clock;
}

/** What exists between start and stop. */
interface Running {
  readonly ip: IpBatch;
  readonly nft: Nft;
  readonly table: NftTable;
  readonly links: SandboxLinks;
  readonly pool: SandboxPool;
}

export class LinuxNetwork implements Network {
  readonly #options: LinuxNetworkOptions;
  readonly #subnet: Subnet;
  readonly #resolvConf: string;
  readonly #queue = new KeyedQueue();
  readonly #background = new Set<Promise<void>>();
  /** Sandbox address by instance. */
  readonly #owned = new Map<string, number>();
  /** Instances whose sandbox is being removed, or could not be removed entirely. */
  readonly #leaving = new Set<string>();
  #running: Running | undefined;

  /** @throws SUBNET_INVALID */
  constructor(options: LinuxNetworkOptions) {
    this.#options = options;
    this.#subnet = parseSubnet(options.subnet);
    this.#resolvConf = join(options.stateDir, "resolv.conf");
  }

  async start(signal: AbortSignal): Promise<void> {
    if (this.#running) return;
    const { stateDir, log } = this.#options;
    const ip = new IpBatch();
    let nft: Nft | undefined;
    try {
      await this.#writeResolvConf();
      nft = await openNft({ folder: stateDir, log });
      const { links, owned, ports } = await bringUp({ subnet: this.#subnet, ip, nft, log, signal });
      const state = { subnet: this.#subnet, sandboxes: [...owned.values()], ports };
      const table = new NftTable({ nft, log, state });
      await table.replace();
      for (const [instanceId, address] of owned) this.#owned.set(instanceId, address);
      this.#running = { ip, nft, table, links, pool: this.#makePool(links, table) };
    } catch (error) {
      ip.close();
      nft?.close();
      if (hasCode(error, "NET_CLASH") || isAbort(error)) throw error;
      throw unavailable("set up the network of instances", error);
    }
    log.info({ subnet: this.#options.subnet, adopted: this.#owned.size }, "network is up");
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
      if (address === undefined) throw exhausted(this.#options.subnet);
      this.#owned.set(instanceId, address);
      try {
        await links.own(address, instanceId);
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
      const { table } = this.#assertRunning();
      const wanted = z.parse(z.array(PortMapping), ports);
      const address = this.#owned.get(instanceId);
      if (address === undefined) throw notAttached(instanceId);
      const added = wanted.filter((port) => !hasPort(table.state, address, port));
      for (const port of added) {
        const listener = await findListener(port);
        if (listener) throw portBusy(port, { kind: "process", ...listener });
      }
      await table.change((state) => withPorts(state, { address, ports: wanted }, (other) => this.#instanceAt(other)));
      for (const { protocol, hostPort } of added) if (protocol === "udp") this.#forget([ofUdpPort(hostPort)]);
    });
  }

  unpublish(instanceId: string, signal: AbortSignal): Promise<void> {
    return this.#queue.run(assertPlain(instanceId), async () => {
      signal.throwIfAborted();
      const { table } = this.#assertRunning();
      const address = this.#owned.get(instanceId);
      if (address === undefined || !table.state.ports.some((port) => port.address === address)) return;
      await table.change((state) => withPorts(state, { address, ports: [] }, (other) => this.#instanceAt(other)));
      this.#forget(ofSandboxes(formatAddress(address)));
    });
  }

  list(): readonly Sandbox[] {
    return [...this.#owned].map(([instanceId, address]) => this.#sandbox(instanceId, address));
  }

  async stop({ purge }: { purge: boolean }): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    const { ip, nft, links, pool } = running;
    const ready = await pool.stop();
    await Promise.all(this.#background);
    try {
      // What is ready has no owner, so the next start would take it for an orphan: it may as well go now.
      for (const address of purge ? [...ready, ...this.#owned.values()] : ready) await links.remove(address);
      if (purge) {
        await links.removeBridge();
        await nft.run(NO_TABLES);
        await forgetConnections(ofSandboxes(formatSubnet(this.#subnet)), this.#options.log);
      }
    } finally {
      this.#owned.clear();
      this.#leaving.clear();
      ip.close();
      nft.close();
    }
  }

  /** First nothing may get there any more, then it goes, then its address is free. Repeatable after a failure at any point. */
  async #remove(instanceId: string): Promise<void> {
    const { table, links, pool } = this.#assertRunning();
    const address = this.#owned.get(instanceId);
    if (address === undefined) return;
    this.#leaving.add(instanceId);
    await table.change((state) => withoutSandbox(state, address));
    await Promise.all([
      links.remove(address),
      forgetConnections(ofSandboxes(formatAddress(address)), this.#options.log),
    ]);
    this.#owned.delete(instanceId);
    this.#leaving.delete(instanceId);
    pool.release(address);
  }

  #makePool(links: SandboxLinks, table: NftTable): SandboxPool {
    const { poolSize = 2, clock, log } = this.#options;
    return new SandboxPool({
      size: poolSize,
      free: new FreeAddresses(this.#subnet, this.#owned.values()),
      make: async (address) => {
        await table.change((state) => withSandbox(state, address));
        await links.make(address);
      },
      refillDelayMs: 250,
      clock,
      log,
    });
  }

  /** In place, not by a new file: running instances have this one mounted, and see the change. */
  async #writeResolvConf(): Promise<void> {
    await mkdir(this.#options.stateDir, { recursive: true, mode: 0o700 });
    await writeFile(this.#resolvConf, sandboxResolvConf(await readResolvConfs()), { mode: 0o644 });
  }

  #forget(filters: readonly (readonly string[])[]): void {
    const forgetting = forgetConnections(filters, this.#options.log).finally(() => this.#background.delete(forgetting));
    this.#background.add(forgetting);
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
