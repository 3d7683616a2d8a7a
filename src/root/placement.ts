import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { secretDigest } from "../base/random.ts";
import { Reconciler } from "../base/reconciler.ts";
import type { Decided } from "../hierarchy/delegate.ts";
import type { History } from "../hierarchy/history.ts";
import type { RegistryCredentials } from "../protocol/instance.ts";
import type { ScheduleOptions } from "../scheduler/candidate.ts";
import type { PlacementVoter } from "../transport/placement-voter.ts";
import { type ClusterView, holdersOf } from "./candidates.ts";
import type { Changes } from "./changes.ts";
import { type Declines, untilRetryMs, updateDeclines } from "./declines.ts";
import type { Wanted } from "./desired-sender.ts";
import type { Downlink } from "./downlink.ts";
import type { Instance } from "./model.ts";
import { MoveMemory } from "./move-memory.ts";
import { isMoving, type MoveStep } from "./moves.ts";
import { type PlacementInput, plan, pluginQuestions } from "./placement-plan.ts";
import type { Placement } from "./placement-words.ts";
import type { RegistrySecrets } from "./registry-secrets.ts";
import { assignment } from "./request.ts";
import { requestFor } from "./service-requests.ts";
import type { RootStore } from "./store/root-store.ts";
import { Survey } from "./survey.ts";

/** Long enough to be cheap, short enough that a lost cluster is noticed about when it should be. */
const RESYNC_MS = 10_000;

/** While instances move: until the next step of each is looked for again. */
const MOVING_MS = 1_000;
/** A pass looks at all instances: with thousands of them, what comes meanwhile is decided together. */
const MAX_SHARE = 0.5;

export interface PlacementLoopOptions {
  readonly store: Pick<RootStore, "services" | "instances" | "clusters" | "placeInstances" | "moveInstances">;
  readonly downlink: Pick<Downlink, "link" | "publish" | "silentMs">;
  readonly registrySecrets: Pick<RegistrySecrets, "credentials">;
  readonly changes: Changes;
  readonly strategy: ScheduleOptions["strategy"];
  /** Absent: the strategy alone decides. */
  readonly voter?: Pick<PlacementVoter, "votes"> | undefined;
  readonly history: History;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The root's loop: observe the store and the links → plan → store the placements → tell the clusters what they should run. */
export class PlacementLoop {
  readonly #options: PlacementLoopOptions;
  readonly #loop: Reconciler;
  #declines: Declines = new Map();
  readonly #moves = new MoveMemory();
  /** Monotonic ms. */
  #startedAt = 0;

  constructor(options: PlacementLoopOptions) {
    const { clock, log } = options;
    this.#options = options;
    this.#loop = new Reconciler({
      ...{ name: "placement", pass: () => this.#pass(), log, clock },
      ...{ resyncMs: RESYNC_MS, maxShare: MAX_SHARE },
    });
  }

  trigger(): void {
    this.#loop.trigger();
  }

  run(signal: AbortSignal): Promise<void> {
    this.#startedAt = this.#options.clock.monotonic();
    return this.#loop.run(signal);
  }

  async #pass(): Promise<{ againInMs: number } | undefined> {
    const { store, clock, downlink, voter, history } = this.#options;
    const plain = await this.observe();
    const { now, instances, clusters, services } = plain;
    const existing = new Set(instances.map(({ id }) => id));
    history.retain((id) => existing.has(id));
    this.#declines = updateDeclines(this.#declines, instances, clusters, now);
    for (const { id, clusterId, status, detail, since } of instances) {
      if (clusterId === undefined) history.happened(id, { at: since, status, detail });
    }
    this.#moves.observe(instances, clock.monotonic());
    const observed = { ...plain, declines: this.#declines };
    const votes = voter && (await voter.votes(pluginQuestions(observed)));
    const { placements, moves } = plan({
      ...observed,
      votes,
      monotonic: () => clock.monotonic(),
      onDecision: (decided) => this.#noteDecision(decided, now),
    });
    if (moves.length > 0) await this.#move(moves, instances, now);
    if (placements.length > 0) await this.#apply(placements, instances, now);
    const placed = placements.length + moves.length > 0 ? await store.instances() : instances;
    downlink.publish(await this.#wanted({ ...plain, instances: placed, services }));
    const againInMs = Math.min(
      untilRetryMs(this.#declines, now) ?? Number.POSITIVE_INFINITY,
      moves.length > 0 || placed.some(isMoving) ? MOVING_MS : Number.POSITIVE_INFINITY,
    );
    return againInMs === Number.POSITIVE_INFINITY ? undefined : { againInMs };
  }

  /** All that the next decision will be made from. */
  async observe(): Promise<PlacementInput> {
    const { store, strategy, clock } = this.#options;
    const [all, instances, clusters] = await Promise.all([store.services(), store.instances(), this.#views()]);
    const services = new Map(all.map((service) => [service.id, service]));
    return {
      ...{ services, instances, clusters, declines: this.#declines, strategy, now: clock.now() },
      tried: (id) => this.#moves.resting(id, clock.monotonic()),
      hasMovedLately: (id) => this.#moves.hasMovedLately(id, clock.monotonic()),
      standbyForMs: (id) => this.#moves.standbyForMs(id, clock.monotonic()),
    };
  }

  #noteDecision(decided: Decided, now: number): void {
    const { history, log } = this.#options;
    history.decided(decided, now);
    for (const warning of decided.decision.warnings ?? [])
      log.warn({ instance: decided.instanceId, warning }, "placement decided without its plugin");
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

  async #move(steps: readonly MoveStep[], instances: readonly Instance[], now: number): Promise<void> {
    const { store, changes, log, history, clock } = this.#options;
    const done = await store.moveInstances(steps, now);
    this.#moves.took(steps, instances, clock.monotonic());
    for (const { id, status, detail } of done) history.happened(id, { at: now, status, detail });
    for (const { do: move, id, clusterId, reason } of steps)
      log.info({ move, instance: id, cluster: clusterId, reason }, "instance moves between clusters");
    changes.notify(done.map(({ serviceId }) => serviceId));
  }

  async #apply(placements: readonly Placement[], instances: readonly Instance[], now: number): Promise<void> {
    const { store, changes, log, history } = this.#options;
    await store.placeInstances(placements, now);
    for (const { id, clusterId, status, detail } of placements) {
      history.happened(id, { at: now, status, detail });
      log.info({ instance: id, cluster: clusterId, status, detail }, "instance placed");
    }
    const ids = new Set(placements.map(({ id }) => id));
    changes.notify(instances.filter(({ id }) => ids.has(id)).map(({ serviceId }) => serviceId));
  }

  async #wanted(observed: PlacementInput): Promise<Map<string, Wanted[]>> {
    const { instances, services } = observed;
    const survey = new Survey(observed);
    const wanted = new Map<string, Wanted[]>();
    const credentials = this.#credentials();
    for (const instance of instances) {
      const service = services.get(instance.serviceId);
      const holders = holdersOf(instance).filter(({ clusterId }) => this.#options.downlink.link(clusterId));
      if (!service || holders.length === 0) continue;
      const { registry } = instance.descriptor ?? service.descriptor;
      const login = registry === undefined ? undefined : await credentials(service.owner, registry);
      const plain = survey.requests.ofInstance(instance)!;
      for (const { clusterId, generation } of holders) {
        const request = plain.links ? requestFor(clusterId, plain, survey.targets) : plain;
        const isStandby = clusterId !== instance.clusterId;
        const list = wanted.get(clusterId) ?? [];
        wanted.set(clusterId, list);
        list.push({
          instanceId: instance.id,
          isStandby,
          version: [
            generation,
            service.roundRobin,
            service.closest,
            login ? secretDigest(JSON.stringify(login)) : "",
            request.links ? JSON.stringify(request.links) : "",
            isStandby ? "standby" : "",
          ].join(" "),
          make: () => assignment({ ...instance, generation }, service, request, { credentials: login, isStandby }),
        });
      }
    }
    return wanted;
  }

  /** Looks each credential up once a pass. One that is missing or unreadable leaves the pull to be refused by its registry. */
  #credentials(): (owner: string, name: string) => Promise<RegistryCredentials | undefined> {
    const { registrySecrets, log } = this.#options;
    const found = new Map<string, Promise<RegistryCredentials | undefined>>();
    return async (owner, name) => {
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
