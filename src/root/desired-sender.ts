import type { Assignment } from "../protocol/instance.ts";
import type { RootMessage } from "../protocol/uplink.ts";

/** One instance that a cluster should have. */
export interface Wanted {
  readonly instanceId: string;
  /** Differs whenever the assignment does. */
  readonly version: string;
  /** Another cluster is in charge of it. */
  readonly isStandby?: boolean;
  readonly make: () => Assignment;
}

/** What one link has been told of the desired state, so that it is told everything once and then what changed. */
export class DesiredSender {
  #versions: ReadonlyMap<string, string> | undefined;
  #revision = 0;
  #standby: ReadonlySet<string> = new Set();

  /** Instances of which another cluster is in charge, as far as it has been told. */
  get standby(): ReadonlySet<string> {
    return this.#standby;
  }

  /** The message that brings the other side to `wanted`, taken as sent; undefined when there is nothing to say. */
  next(wanted: readonly Wanted[]): Extract<RootMessage, { type: "desired" }> | undefined {
    const before = this.#versions;
    const versions = new Map(wanted.map(({ instanceId, version }) => [instanceId, version]));
    const changed = wanted.filter(({ instanceId, version }) => before?.get(instanceId) !== version);
    const removed = [...(before?.keys() ?? [])].filter((instanceId) => !versions.has(instanceId));
    if (before && changed.length === 0 && removed.length === 0) return undefined;
    this.#versions = versions;
    this.#standby = new Set(wanted.filter(({ isStandby }) => isStandby).map(({ instanceId }) => instanceId));
    this.#revision += 1;
    return {
      type: "desired",
      revision: this.#revision,
      full: before === undefined,
      assignments: changed.map(({ make }) => make()),
      removed,
    };
  }

  /** The next message is a full one. */
  reset(): void {
    this.#versions = undefined;
  }
}
