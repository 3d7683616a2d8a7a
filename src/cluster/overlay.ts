/** The overlay's parts of a cluster, wired. */
import type { Subnet } from "../addressing/subnet.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { topics } from "../protocol/mqtt.ts";
import { AddressHolders } from "./address-holders.ts";
import type { Broker } from "./broker.ts";
import { type Lie, lieIn } from "./claims.ts";
import type { ClusterState } from "./cluster-state.ts";
import type { Live } from "./live.ts";
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
  readonly broker: Pick<Broker, "retain" | "deliver" | "disconnect" | "connectedFrom">;
  /** Where workers may have subnets of their own. */
  readonly allowedSubnets: readonly Subnet[];
  readonly workers: Pick<Workers, "trustOf" | "areAllTrusted" | "contact">;
  readonly uplink: Pick<Uplink, "isConnected" | "sendInterest" | "membershipChanged">;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Overlay {
  readonly own: OwnServices;
  readonly routes: Routes;
  readonly subnets: Subnets;
  load(): void;
  /** What in a worker's word on where an instance's traffic is to go cannot be true: none will go there. */
  lieIn(workerId: string, live: Live): Lie | undefined;
  /** Other instances of which the root must be told something else when this one changes. */
  affectedBy(instanceId: string): readonly string[];
  /** Traffic should come to this worker's instances again, or not any more; what their siblings get depends on it. */
  trustChanged(workerId: string): void;
  /** The worker is removed. */
  forget(workerId: string): void;
}

export function createOverlay(parts: OverlayParts): Overlay {
  const { state, store, broker, workers, uplink, allowedSubnets, clock, log } = parts;
  const holders = new AddressHolders({
    connectedFrom: (address) => broker.connectedFrom(address),
    isConnected: (id) => workers.contact(id).connected,
  });
  const lieOf = (workerId: string, live: Live) => {
    const holderOf = (address: string) => {
      const holder = holders.otherThan(workerId, address);
      return holder === undefined ? undefined : state.worker(holder)?.hostname;
    };
    const isOverlay = (address: number) => subnets.isOverlay(address);
    return lieIn(live, { given: subnets.given(workerId), allowed: allowedSubnets, isOverlay, holderOf });
  };
  const isBelieved = (workerId: string, live: Live) => lieOf(workerId, live) === undefined;
  const own = new OwnServices({ state, trustOf: workers.trustOf, isBelieved });
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
    lieIn: lieOf,
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
    forget: (workerId) => {
      holders.forget(workerId);
      routes.leave(workerId);
    },
  };
}
