/** What the API needs of the root's orchestration: to wake it, and to see what only it knows. */
import type { Aggregate } from "../protocol/capacity.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { Draft } from "./draft.ts";
import type { Explanation } from "./explanations.ts";
import type { Predicted } from "./forecasts.ts";
import type { Instance } from "./model.ts";

export interface Orchestration {
  /** The desired state in the store has changed: place and send at once. */
  trigger(): void;
  /** Whether the cluster's link is open and not silent. */
  isActive(clusterId: string): boolean;
  /** The cluster's newest; undefined until it has reported since this root started. */
  aggregateOf(clusterId: string): Aggregate | undefined;
  /** The cluster's clock less ours, as its open link began. */
  clockOffMs(clusterId: string): number | undefined;
  /** Epoch ms of the last message of an open link. */
  heardAt(clusterId: string): number | undefined;
  /** The newest report, with the measured figures that the store does not keep. */
  reportOf(instance: Pick<Instance, "id" | "clusterId">): InstanceReport | undefined;
  /**
   * The instance's output, as text; ends with the container's log, or with the signal.
   * @throws AppError NOT_FOUND when nothing runs under that id, UNAVAILABLE when its cluster or worker cannot be reached
   */
  openLog(
    instanceId: string,
    options: { readonly follow: boolean; readonly tailLines: number },
    signal: AbortSignal,
  ): AsyncIterable<string>;
  explain(instance: Instance): Promise<Explanation>;
  /** Where instances would go that there may not be yet, asking the clusters. Nothing changes. */
  predict(draft: Draft, options: { readonly namesWorkers: boolean }): Promise<readonly Predicted[]>;
  /** Ends the link of a cluster that has been removed. */
  disconnect(clusterId: string): void;
}
