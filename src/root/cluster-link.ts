import type { Aggregate } from "../protocol/capacity.ts";
import type { Assignment } from "../protocol/instance.ts";
import type { RootMessage } from "../protocol/uplink.ts";
import { DesiredSender, type Wanted } from "./desired-sender.ts";
import type { LinkSocket } from "./link-socket.ts";
import type { Cluster } from "./model.ts";
import { ReportReceiver } from "./report-receiver.ts";

/** An admitted cluster's link: what was told over it, in both directions. It ends with its socket; the next starts from nothing. */
export class ClusterLink {
  readonly cluster: Cluster;
  /** Its clock less ours, as it connected. */
  readonly clockOffMs: number | undefined;
  readonly received = new ReportReceiver();
  readonly #socket: LinkSocket;
  readonly #desired = new DesiredSender();

  constructor(cluster: Cluster, socket: LinkSocket, clockOffMs?: number | undefined) {
    this.cluster = cluster;
    this.clockOffMs = clockOffMs;
    this.#socket = socket;
  }

  get heardAt(): number {
    return this.#socket.heardAt;
  }

  get silentMs(): number {
    return this.#socket.silentMs;
  }

  get aggregate(): Aggregate | undefined {
    return this.received.aggregate;
  }

  send(message: RootMessage): void {
    this.#socket.send(message);
  }

  /** True: new state waits until the link has drained. */
  isCongested(): boolean {
    return this.#socket.isCongested();
  }

  /**
   * Sends what has changed of the desired state, unless the link is congested: then later, and then all at once.
   * @returns the assignments that were sent
   */
  publish(wanted: readonly Wanted[]): readonly Assignment[] {
    if (this.isCongested()) return [];
    const message = this.#desired.next(wanted);
    if (message) this.#socket.send(message);
    return message?.assignments ?? [];
  }

  /** Another cluster is in charge of the instance. */
  isStandby(instanceId: string): boolean {
    return this.#desired.standby.has(instanceId);
  }

  /** The cluster has lost count: the next publish sends everything. */
  resync(): void {
    this.#desired.reset();
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }
}
