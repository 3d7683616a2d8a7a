/** The overlay's parts of a cluster, wired. */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { topics } from "../protocol/mqtt.ts";
import type { Broker } from "./broker.ts";
import type { ClusterState } from "./cluster-state.ts";
import { OwnServices } from "./own-services.ts";
import { RouteBook } from "./route-book.ts";
import { Routes } from "./routes.ts";
import type { ClusterStore } from "./store/cluster-store.ts";
import { Subnets } from "./subnets.ts";
import type { Uplink } from "./uplink.ts";
import type { Workers } from "./workers.ts";

export interface OverlayParts {
  readonly state: ClusterState;
  readonly store: ClusterStore;
  readonly broker: Pick<Broker, "retain" | "deliver" | "disconnect">;
  readonly workers: Pick<Workers, "trustOf" | "areAllTrusted">;
  readonly uplink: Pick<Uplink, "isConnected" | "sendInterest" | "membershipChanged">;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Overlay {
  readonly own: OwnServices;
  readonly routes: Routes;
  readonly subnets: Subnets;
  load(): void;
  /** Other instances of which the root must be told something else when this one changes. */
  affectedBy(instanceId: string): readonly string[];
  /** Traffic should come to this worker's instances again, or not any more; what their siblings get depends on it. */
  trustChanged(workerId: string): void;
}

export function createOverlay({ state, store, broker, workers, uplink, clock, log }: OverlayParts): Overlay {
  const own = new OwnServices({ state, trustOf: workers.trustOf });
  const routes = new Routes({
    state,
    own,
    book: new RouteBook(store),
    nextEpoch: () => store.write(() => store.overlay.nextEpoch()),
    isConnected: () => uplink.isConnected,
    sendInterest: (interest) => uplink.sendInterest(interest),
    deliver: (id, update) => broker.deliver(topics.routes(id), update),
    clock,
    log,
  });
  const subnets = new Subnets({
    state,
    store,
    retain: (topic, payload) => broker.retain(topic, payload),
    onFewLeft: () => uplink.membershipChanged(),
    clock,
    log,
  });
  return {
    own,
    routes,
    subnets,
    load: () => {
      routes.load();
      subnets.load();
    },
    affectedBy: (instanceId) => (workers.areAllTrusted ? [] : own.siblings(instanceId)),
    trustChanged: (workerId) => {
      const affected = state.instancesOn(workerId).flatMap(({ assignment }) => own.siblings(assignment.instanceId));
      state.touch(new Set(affected));
      if (workers.trustOf(workerId) !== "lost") return;
      routes.leave(workerId);
      // Should it be there after all, its next connection begins with all of its interest.
      broker.disconnect(workerId);
    },
  };
}
