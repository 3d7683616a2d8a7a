/**
 * This worker's part in the overlay: what it knows of routes, peers and its own place, and how that gets into the kernel. One pass
 * brings the kernel up to date with all of it; everything else only notes what has changed, and asks for a pass.
 */
import { join } from "node:path";
import { type Clock, deadline, pause } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { KeyedQueue } from "../../base/keyed-queue.ts";
import type { Logger } from "../../base/log.ts";
import { Reconciler } from "../../base/reconciler.ts";
import { runTogether } from "../../base/task-group.ts";
import type { Sandbox } from "../../net/network.ts";
import type { Overlay, OverlaySettings } from "../../net/overlay.ts";
import { RttProber } from "../../net/rtt.ts";
import type { DesiredInstance, WorkerNetwork } from "../../protocol/mqtt.ts";
import { type Interest, interestIn, RouteUpdate, type WorkerEndpoint } from "../../protocol/route.ts";
import type { InstanceOverlay } from "../apply.ts";
import type { DesiredSet } from "../desired.ts";
import type { EngineOverlay } from "../engine.ts";
import { RouteTable } from "../routes/route-table.ts";
import { StateFile } from "../state-file.ts";
import { GatewayServers } from "./gateway-servers.ts";
import { InterestSender } from "./interest-sender.ts";
import { Introductions } from "./introductions.ts";
import { KernelRoutes } from "./kernel-routes.ts";
import { Misses } from "./misses.ts";
import type { OwnInstance } from "./own-instances.ts";
import { OwnPlace } from "./own-place.ts";
import { PeerPaths } from "./peer-paths.ts";
import type { FixedPlace } from "./place.ts";

const RESYNC_MS = 60_000;
const UPKEEP_MS = 60_000;
/** How long an instance's start waits for the routes of its application. */
const PREFETCH_MS = 2000;
/** An instance's end waits no longer for the kernel. */
const WITHDRAW_MS = 2000;
/** Between passes for the same thing that nothing else asks for. */
const AGAIN_MS = 50;

export interface WorkerOverlayOptions {
  readonly stateDir: string;
  readonly fixed: FixedPlace;
  readonly clusterHost: string;
  readonly overlay: Overlay;
  readonly sandboxes: () => readonly Sandbox[];
  readonly desired: () => DesiredSet | undefined;
  readonly own: () => ReadonlyMap<string, OwnInstance>;
  readonly link: { readonly isConnected: boolean; sendInterest(interest: Interest): Promise<void> };
  /** There are more addresses for instances, or fewer. */
  readonly onAddresses: () => void;
  /** Others reach this worker's instances elsewhere now. */
  readonly onEndpoint: () => void;
  /** Where this worker is probed by others; default: PROBE_PORT of every address. */
  readonly probes?: { readonly address: string; readonly port: number } | undefined;
  readonly log: Logger;
  readonly clock: Clock;
}

export class WorkerOverlay implements InstanceOverlay, EngineOverlay {
  readonly routes: RouteTable;
  readonly kernel: KernelRoutes;
  readonly prober: RttProber;
  readonly place: OwnPlace;
  readonly #options: WorkerOverlayOptions;
  readonly #paths: PeerPaths;
  readonly #introductions: Introductions;
  readonly #misses: Misses;
  readonly #interest: InterestSender;
  readonly #routesFile: StateFile<typeof RouteUpdate>;
  readonly #gateways: GatewayServers;
  readonly #loop: Reconciler;
  readonly #queue = new KeyedQueue();
  /** Instance addresses as the kernel was told. */
  readonly #identities = new Map<string, string>();
  #configured: OverlaySettings | undefined;
  #problem: string | undefined;
  #isNetworkUp = false;
  /** Of the pass that begins next. */
  #passed = Promise.withResolvers<void>();

  constructor(options: WorkerOverlayOptions) {
    const { overlay, stateDir, sandboxes, desired, link, log, clock } = options;
    this.#options = options;
    this.routes = new RouteTable({
      clock,
      onInterest: () => this.#interest.trigger(),
      onRoutes: (serviceIds) => this.#routesChanged(serviceIds),
    });
    this.prober = new RttProber({
      ...{ clock, log, ...options.probes },
      isPeer: (address) => this.kernel.isPeer(address),
      onMeasured: (workerId) => this.#measured(workerId),
      onOther: (bytes, source) => this.#introductions.receive(bytes, source),
    });
    this.#introductions = new Introductions({
      ...{ clock, log },
      key: () => this.place.current?.network?.key,
      self: () => this.place.endpoint,
      send: (bytes, address) => this.prober.send(bytes, address),
      onIntroduced: (endpoint) => this.#introduced(endpoint),
      onReachable: () => {
        this.kernel.reachable();
        this.trigger();
      },
    });
    const quality = this.prober.quality.bind(this.prober);
    this.#paths = new PeerPaths({ overlay, quality, clock });
    this.place = new OwnPlace({
      ...{ fixed: options.fixed, clusterHost: options.clusterHost, path: join(stateDir, "network.json"), clock, log },
      isConnected: () => link.isConnected,
      closed: () => this.#paths.closed,
      onChange: () => this.trigger(),
      onEndpoint: () => {
        this.#introductions.repeat();
        options.onEndpoint();
      },
    });
    this.kernel = new KernelRoutes({
      ...{ overlay, prober: this.prober, introductions: this.#introductions, paths: this.#paths, clock, log },
      tables: () => this.routes.tables,
      own: options.own,
      selfId: () => this.place.current?.workerId ?? "",
      isUnsure: (serviceId) => !this.#isNetworkUp && runsHere(desired(), serviceId),
      isDesired: (instanceId) => desired()?.instances.has(instanceId) ?? true,
      callers: () => this.place.callers,
    });
    const { routes } = this;
    this.#misses = new Misses({ routes, overlay, onResolved: () => this.trigger(), log });
    this.#interest = new InterestSender({
      ...{ routes, log, clock },
      isConnected: () => link.isConnected,
      send: (interest) => link.sendInterest(interest),
    });
    this.#routesFile = new StateFile({
      ...{ path: join(stateDir, "routes.json"), schema: RouteUpdate, log, clock },
      snapshot: () => routes.snapshot(),
    });
    this.#gateways = new GatewayServers({
      ...{ routes, sandboxes, desired, log, clock },
      isServiceAddress: (address) => this.place.isServiceAddress(address),
      isPeer: (address) => this.kernel.isPeer(address),
      subnets: () => (this.#isNetworkUp ? (this.#configured?.subnets ?? []) : []),
    });
    this.#loop = new Reconciler({ name: "overlay", pass: () => this.#pass(), log, clock, resyncMs: RESYNC_MS });
  }

  /** How others reach this worker's instances; undefined: not known yet. */
  get endpoint(): WorkerEndpoint | undefined {
    return this.place.endpoint;
  }

  get sandboxes(): readonly Sandbox[] {
    return this.#options.sandboxes();
  }

  get addresses(): EngineOverlay["addresses"] {
    const { overlay, fixed } = this.#options;
    if (fixed.subnet !== undefined) return undefined;
    const subnets = this.#configured?.subnets ?? [];
    const free = subnets.length === 0 ? 0 : overlay.freeAddresses();
    if (this.#problem !== undefined) return { free, whyNone: `no address for it: ${this.#problem}` };
    if (subnets.length === 0) return { free, whyNone: "waiting for the cluster to give this worker a subnet" };
    return { free, whyNone: `waiting for a free address: all of ${subnets.join(", ")} are taken` };
  }

  /** For the report; undefined: nothing that the cluster should care for. */
  get addressesFree(): number | undefined {
    // Without a subnet it gets one anyway.
    return (this.#configured?.subnets.length ?? 0) > 0 ? this.addresses?.free : undefined;
  }

  /** What an earlier run knew gets into the kernel's first transaction. To be called before anything else happens. */
  async open(): Promise<void> {
    this.#options.overlay.onMiss((address, source) => this.#misses.miss(address, source));
    await this.place.restore();
    this.#paths.restore(this.place.current?.closed ?? []);
    const stored = await this.#routesFile.read();
    if (stored) this.routes.restore(stored);
    this.desiredChanged();
    const known = [...this.routes.tables.values()].flatMap(({ workers }) => workers.map(({ id }) => id));
    try {
      await this.#pass(new Set(known));
    } catch (error) {
      this.#options.log.warn({ error }, "overlay is not as it was; trying again");
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#misses.stop(), { once: true });
    await runTogether(
      {
        overlay: (stop) => this.#loop.run(stop),
        place: (stop) => this.place.run(stop),
        "gateway servers": (stop) => this.#gateways.run(stop),
        interest: (stop) => this.#interest.run(stop),
        "round-trip times": (stop) => this.prober.run(stop),
        introductions: (stop) => this.#introductions.run(stop),
        "routes file": (stop) => this.#routesFile.run(stop),
        upkeep: (stop) => this.#upkeep(stop),
      },
      signal,
    );
  }

  /** Something that the pass looks at has changed. */
  trigger(): void {
    this.#loop.trigger();
  }

  async startNetwork(start: () => Promise<void>): Promise<void> {
    await this.#queue.run("kernel", start);
    this.#isNetworkUp = true;
    this.#gateways.trigger();
  }

  /** A new connection to the cluster. */
  connected(workerId: string, mqttPort: number): void {
    this.place.connected(workerId, mqttPort);
    this.#interest.connected();
  }

  takeNetwork(network: WorkerNetwork): void {
    this.place.takeNetwork(network);
  }

  takeRoutes(update: RouteUpdate): void {
    this.routes.apply(update);
  }

  desiredChanged(): void {
    const desired = this.#options.desired();
    if (desired) this.routes.keepApplications([...desired.instances.values()].map((one) => one.applicationId));
    this.trigger();
  }

  async prepare(instance: DesiredInstance, signal: AbortSignal): Promise<void> {
    const { link, log } = this.#options;
    const { instanceId, applicationId } = instance;
    await this.#identify(instance);
    const isReady = () => this.routes.servicesOf(applicationId).every((one) => this.kernel.isSettled(one.serviceId));
    const limit = deadline(PREFETCH_MS, signal);
    try {
      if (link.isConnected) await this.routes.settled(interestIn.application(applicationId), limit);
      await this.#passUntil(isReady, limit);
    } catch (error) {
      signal.throwIfAborted();
      log.info({ instanceId, reason: describeError(error) }, "started without all routes of its application");
    }
  }

  async withdraw(instanceId: string, signal: AbortSignal): Promise<void> {
    let passes = 0;
    const isGone = () => passes++ > 0 && !this.kernel.leadsTo(instanceId);
    try {
      await this.#passUntil(isGone, deadline(WITHDRAW_MS, signal));
    } catch (error) {
      signal.throwIfAborted();
      this.#options.log.warn(
        { instanceId, reason: describeError(error) },
        "routes still lead to an instance that ends",
      );
    }
  }

  async release(instanceId: string): Promise<void> {
    if (!this.#identities.has(instanceId)) return;
    await this.#options.overlay.setIdentity(instanceId, undefined);
    this.#identities.delete(instanceId);
  }

  #pass(known?: ReadonlySet<string>): Promise<{ againInMs: number } | undefined> {
    return this.#queue.run("kernel", () => this.#bringUpToDate(known));
  }

  async #bringUpToDate(known?: ReadonlySet<string>): Promise<{ againInMs: number } | undefined> {
    const passed = this.#passed;
    this.#passed = Promise.withResolvers();
    try {
      await this.#configure();
      for (const instance of this.#options.desired()?.instances.values() ?? []) await this.#identify(instance);
      return await this.kernel.apply(known);
    } finally {
      passed.resolve();
    }
  }

  async #configure(): Promise<void> {
    const { overlay, onAddresses } = this.#options;
    const { settings } = this.place;
    if (JSON.stringify(settings) === JSON.stringify(this.#configured)) return;
    if (!this.place.current && settings.subnets.length === 0) return;
    try {
      await overlay.configure(settings);
      this.#configured = settings;
      this.#problem = undefined;
    } catch (error) {
      this.#problem = describeError(error);
      throw error;
    } finally {
      this.#gateways.trigger();
      onAddresses();
    }
  }

  async #identify({ instanceId, network }: DesiredInstance): Promise<void> {
    if (!network || this.#identities.get(instanceId) === network.instanceAddress) return;
    await this.#options.overlay.setIdentity(instanceId, network.instanceAddress);
    this.#identities.set(instanceId, network.instanceAddress);
  }

  /** Lets passes be made until `isDone`. @throws the signal's reason on abort */
  async #passUntil(isDone: () => boolean, signal: AbortSignal): Promise<void> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      for (let isDue = true; !isDone(); ) {
        signal.throwIfAborted();
        const { promise } = this.#passed;
        if (isDue) this.trigger();
        // What one pass has not brought comes with an event, which passes without a break would keep out.
        const again = this.#options.clock.sleep(AGAIN_MS).then(() => true);
        isDue = await Promise.race([promise.then(() => false), aborted.promise, again]);
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #routesChanged(serviceIds: ReadonlySet<string>): void {
    this.kernel.routesChanged(serviceIds);
    this.#routesFile.trigger();
    this.trigger();
  }

  #measured(workerId: string): void {
    if ((this.prober.quality(workerId, "underlay")?.missed ?? 0) > 0) this.#introductions.doubt(workerId);
    if (this.kernel.measured(workerId)) this.trigger();
  }

  async #introduced(endpoint: WorkerEndpoint): Promise<void> {
    this.place.addCaller(endpoint);
    await this.#passUntil(() => this.kernel.takesFrom(endpoint), deadline(PREFETCH_MS));
  }

  async #upkeep(signal: AbortSignal): Promise<void> {
    const { overlay, clock, log } = this.#options;
    while (!signal.aborted) {
      await pause(clock, UPKEEP_MS, signal);
      if (signal.aborted) return;
      try {
        if (this.#isNetworkUp) this.routes.used(await overlay.usedAddresses());
        this.routes.expire();
        await this.#paths.refresh();
      } catch (error) {
        log.warn({ reason: describeError(error) }, "use of routes not looked at");
      }
    }
  }
}

function runsHere(desired: DesiredSet | undefined, serviceId: string): boolean {
  return [...(desired?.instances.values() ?? [])].some((instance) => instance.serviceId === serviceId);
}
