import type { Aggregate } from "../protocol/capacity.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { ClusterMessage } from "../protocol/uplink.ts";
import { isRoomier } from "./candidates.ts";
import { isNews } from "./reports.ts";

type Report = Extract<ClusterMessage, { type: "report" }>;

/** What one link has told: the cluster's aggregate and instances, kept in memory and true as long as the link stands. */
export class ReportReceiver {
  #revision: number | undefined;
  #aggregate: Aggregate | undefined;
  readonly #reports = new Map<string, InstanceReport>();
  #counted = new Map<string, number>();

  get aggregate(): Aggregate | undefined {
    return this.#aggregate;
  }

  /** Instances, with their generation, whose needs the aggregate has been reduced by. */
  get counted(): ReadonlyMap<string, number> {
    return this.#counted;
  }

  report(instanceId: string): InstanceReport | undefined {
    return this.#reports.get(instanceId);
  }

  /** Undefined for a gap in the revisions: all must be told anew. Otherwise what is worth keeping. */
  take(message: Report): { readonly news: readonly InstanceReport[]; readonly isRoomier: boolean } | undefined {
    const isNext = this.#revision !== undefined && message.revision === this.#revision + 1;
    if (!message.full && !isNext) {
      this.#revision = undefined;
      return undefined;
    }
    this.#revision = message.revision;
    const news = message.instances.filter((one) => isNews(this.#reports.get(one.instanceId), one));
    if (message.full) this.#reports.clear();
    for (const one of message.instances) this.#reports.set(one.instanceId, one);
    for (const instanceId of message.removed) this.#reports.delete(instanceId);
    return { news, isRoomier: this.#takeAggregate(message.aggregate) };
  }

  #takeAggregate(aggregate: Aggregate | undefined): boolean {
    if (!aggregate) return false;
    const grew = isRoomier(aggregate, this.#aggregate);
    this.#aggregate = aggregate;
    // A cluster reserves when it chooses a worker; before that its aggregate knows nothing of the instance.
    const placed = [...this.#reports.values()].filter(({ status }) => status !== "CLUSTER_SCHEDULED");
    this.#counted = new Map(placed.map(({ instanceId, generation }) => [instanceId, generation]));
    return grew;
  }
}
