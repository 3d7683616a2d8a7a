import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { secretDigest } from "../base/random.ts";
import { Reconciler } from "../base/reconciler.ts";
import type { RegistryCredentials } from "../protocol/instance.ts";
import type { ScheduleOptions } from "../scheduler/candidate.ts";
import type { ClusterView } from "./candidates.ts";
import type { Changes } from "./changes.ts";
import { type Declines, untilRetryMs, updateDeclines } from "./declines.ts";
import type { Wanted } from "./desired-sender.ts";
import type { Downlink } from "./downlink.ts";
import type { Instance, Service } from "./model.ts";
import { type Placement, planPlacements } from "./placement-plan.ts";
import type { RegistrySecrets } from "./registry-secrets.ts";
import { assignment } from "./request.ts";
import type { RootStore } from "./store/root-store.ts";

/** Long enough to be cheap, short enough that a lost cluster is noticed about when it should be. */
const RESYNC_MS = 10_000;

export interface PlacementLoopOptions {
  readonly store: Pick<RootStore, "services" | "instances" | "clusters" | "placeInstances">;
  readonly downlink: Pick<Downlink, "link" | "publish" | "silentMs">;
  readonly registrySecrets: Pick<RegistrySecrets, "credentials">;
  readonly changes: Changes;
  readonly strategy: ScheduleOptions["strategy"];
  readonly clock: Clock;
  readonly log: Logger;
}

/** The root's loop: observe the store and the links → plan → store the placements → tell the clusters what they should run. */
export class PlacementLoop {
  readonly #options: PlacementLoopOptions;
  readonly #loop: Reconciler;
  #declines: Declines = new Map();
  /** Monotonic ms. */
  #startedAt = 0;

  constructor(options: PlacementLoopOptions) {
    const { clock, log } = options;
    this.#options = options;
    this.#loop = new Reconciler({ name: "placement", pass: () => this.#pass(), log, clock, resyncMs: RESYNC_MS });
  }

  trigger(): void {
    this.#loop.trigger();
  }

  run(signal: AbortSignal): Promise<void> {
    this.#startedAt = this.#options.clock.monotonic();
    return this.#loop.run(signal);
  }

  async #pass(): Promise<{ againInMs: number } | undefined> {
    const { store, strategy, clock, downlink } = this.#options;
    const [all, instances, clusters] = await Promise.all([store.services(), store.instances(), this.#views()]);
    const services = new Map(all.map((service) => [service.id, service]));
    const now = clock.now();
    this.#declines = updateDeclines(this.#declines, instances, clusters, now);
    const placements = planPlacements({ services, instances, clusters, declines: this.#declines, strategy, now });
    if (placements.length > 0) await this.#apply(placements, instances, now);
    const placed = placements.length > 0 ? await store.instances() : instances;
    downlink.publish(await this.#wanted(placed, services));
    const againInMs = untilRetryMs(this.#declines, now);
    return againInMs === undefined ? undefined : { againInMs };
  }

  async #views(): Promise<ClusterView[]> {
    const clusters = await this.#options.store.clusters();
    const { clock, downlink } = this.#options;
    const now = clock.now();
    const upMs = clock.monotonic() - this.#startedAt;
    return clusters.map(({ id, name, aggregate }) => {
      const link = downlink.link(id);
      return {
        id,
        name,
        connected: link !== undefined,
        // While this root was down it could hear nobody: silence counts from its start. And it is a span, not a stored time:
        // when the clock jumps, who has not spoken since would be lost at once.
        heardAt: now - (downlink.silentMs(id) ?? upMs),
        aggregate: link?.aggregate ?? aggregate,
        counted: link?.received.counted ?? new Map(),
      };
    });
  }

  async #apply(placements: readonly Placement[], instances: readonly Instance[], now: number): Promise<void> {
    const { store, changes, log } = this.#options;
    await store.placeInstances(placements, now);
    for (const { id, clusterId, status, detail } of placements) {
      log.info({ instance: id, cluster: clusterId, status, detail }, "instance placed");
    }
    const ids = new Set(placements.map(({ id }) => id));
    changes.notify(instances.filter(({ id }) => ids.has(id)).map(({ serviceId }) => serviceId));
  }

  async #wanted(
    instances: readonly Instance[],
    services: ReadonlyMap<string, Service>,
  ): Promise<Map<string, Wanted[]>> {
    const wanted = new Map<string, Wanted[]>();
    const credentials = this.#credentials();
    for (const instance of instances) {
      const service = services.get(instance.serviceId);
      if (!service || instance.clusterId === undefined || !this.#options.downlink.link(instance.clusterId)) continue;
      const login = await credentials(service.owner, (instance.descriptor ?? service.descriptor).registry);
      const list = wanted.get(instance.clusterId) ?? [];
      wanted.set(instance.clusterId, list);
      list.push({
        instanceId: instance.id,
        version: `${instance.generation} ${service.roundRobin} ${service.closest} ${login ? secretDigest(JSON.stringify(login)) : ""}`,
        make: () => assignment(instance, service, login),
      });
    }
    return wanted;
  }

  /** Looks each credential up once a pass. One that is missing or unreadable leaves the pull to be refused by its registry. */
  #credentials(): (owner: string, name: string | undefined) => Promise<RegistryCredentials | undefined> {
    const { registrySecrets, log } = this.#options;
    const found = new Map<string, Promise<RegistryCredentials | undefined>>();
    return async (owner, name) => {
      if (name === undefined) return undefined;
      const key = JSON.stringify([owner, name]);
      const lookup =
        found.get(key) ??
        registrySecrets.credentials(owner, name).catch((error: unknown) => {
          log.warn({ owner, registry: name, error }, "registry login unreadable");
          return undefined;
        });
      found.set(key, lookup);
      return lookup;
    };
  }
}
