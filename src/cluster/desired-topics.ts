/** Keeps the retained topics of every worker equal to the desired state; one worker at a time in order, workers side by side. */
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import type { Assignment } from "../protocol/instance.ts";
import { type DesiredInstance, type Manifest, topics } from "../protocol/mqtt.ts";
import type { ClusterState } from "./cluster-state.ts";
import { idOf, isStandby, type Placed } from "./model.ts";

export interface DesiredTopicsOptions {
  readonly state: ClusterState;
  /** Publishes a retained message; the empty one removes the topic. */
  readonly retain: (topic: string, payload: string) => Promise<void>;
  /** A connected worker has been written that it is to run instances of these applications, too. */
  readonly onAssigned: (workerId: string, applicationIds: readonly string[]) => void;
  /** It has been written that it is to run nothing of these applications any more. */
  readonly onWithdrawn: (workerId: string, applicationIds: readonly string[]) => void;
  readonly log: Logger;
}

interface Published {
  revision: number;
  readonly instances: Map<string, PublishedInstance>;
}

interface PublishedInstance {
  /** Another object is another content. */
  readonly assignment: Assignment;
  readonly number: number;
  readonly standby: boolean;
}

export class DesiredTopics {
  readonly #options: DesiredTopicsOptions;
  readonly #queue = new KeyedQueue();
  readonly #published = new Map<string, Published>();
  readonly #queued = new Set<string>();

  constructor(options: DesiredTopicsOptions) {
    this.#options = options;
  }

  /** Publishes whatever differs, and resolves when it is out. Never rejects: what cannot be published is tried again with the next call. */
  async sync(): Promise<void> {
    const { state } = this.#options;
    const stale = [...this.#published.keys()].filter((id) => !state.worker(id));
    const changed = state.workers.filter(
      ({ id, manifestRevision }) => this.#published.get(id)?.revision !== manifestRevision,
    );
    await Promise.all([...stale, ...changed.map(({ id }) => id)].map((id) => this.#enqueue(id)));
  }

  async #enqueue(workerId: string): Promise<void> {
    if (this.#queued.has(workerId)) return;
    this.#queued.add(workerId);
    try {
      await this.#queue.run(workerId, async () => {
        this.#queued.delete(workerId);
        await this.#publish(workerId);
      });
    } catch (error) {
      this.#options.log.warn({ workerId, error }, "desired state not published");
    }
  }

  async #publish(workerId: string): Promise<void> {
    const { state, retain, onAssigned, onWithdrawn } = this.#options;
    const worker = state.worker(workerId);
    const published = this.#published.get(workerId) ?? { revision: -1, instances: new Map() };
    this.#published.set(workerId, published);
    const wanted = state.placedOn(workerId);
    const ids = new Set(wanted.map(({ instance }) => idOf(instance)));
    const gone = [...published.instances].filter(([id]) => !ids.has(id));
    const applicationIds = new Set<string>();
    for (const { instance, placement } of wanted) {
      const { assignment } = instance;
      // The root's word on its cluster holds for whichever of its workers has it.
      const standby = assignment.standby === true || isStandby(instance, placement);
      const now = { assignment, number: placement.number, standby };
      const known = published.instances.get(assignment.instanceId);
      if (known?.assignment === assignment && known.number === now.number && known.standby === now.standby) continue;
      await retain(topics.desired(workerId, assignment.instanceId), JSON.stringify(toDesired(now)));
      published.instances.set(assignment.instanceId, now);
      applicationIds.add(assignment.applicationId);
    }
    const manifest = worker && JSON.stringify(toManifest(worker.manifestRevision, wanted));
    await retain(topics.manifest(workerId), manifest ?? "");
    if (applicationIds.size > 0) onAssigned(workerId, [...applicationIds]);
    const left = without(gone, wanted);
    if (left.length > 0) onWithdrawn(workerId, left);
    for (const [instanceId] of gone) {
      await retain(topics.desired(workerId, instanceId), "");
      published.instances.delete(instanceId);
    }
    if (worker) published.revision = worker.manifestRevision;
    else {
      await retain(topics.presence(workerId), "");
      this.#published.delete(workerId);
    }
  }
}

/** The applications of those that are gone, but for those that have other instances there. */
function without(gone: readonly [string, PublishedInstance][], wanted: readonly Placed[]): string[] {
  const applicationIds = new Set(gone.map(([, { assignment }]) => assignment.applicationId));
  for (const { instance } of wanted) applicationIds.delete(instance.assignment.applicationId);
  return [...applicationIds];
}

function toDesired({ assignment, number, standby }: PublishedInstance): DesiredInstance {
  const { request: _inner, standby: _above, ...rest } = assignment;
  return { ...rest, generation: number, ...(standby ? { standby } : {}) };
}

function toManifest(revision: number, placed: readonly Placed[]): Manifest {
  return {
    revision,
    instances: placed.map(({ instance, placement }) => ({
      instanceId: idOf(instance),
      generation: placement.number,
    })),
  };
}
