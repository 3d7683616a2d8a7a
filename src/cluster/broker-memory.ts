/**
 * What the broker keeps: retained messages, in memory. Sessions are clean, so no subscription or message outlives its connection,
 * and nothing of QoS 2 comes this far. A look-up costs the same however many workers there are: the library's own store looks at every
 * message there is for every topic that anybody subscribes to.
 */
import { Readable } from "node:stream";

/** Of the broker's packets, what matters here. */
export interface RetainedPacket {
  readonly topic: string;
  readonly payload: Uint8Array | string;
}

/** The broker's port for storage: all methods that it calls, since a client may send whatever it likes. */
export class BrokerMemory {
  /** Folder of the topic → topic → message. Filters have a wildcard for the last level, or none: see access.ts. */
  readonly #folders = new Map<string, Map<string, RetainedPacket>>();

  async setup(): Promise<void> {}

  async storeRetained(packet: RetainedPacket): Promise<void> {
    const { topic, payload } = packet;
    const folder = folderOf(topic);
    const messages = this.#folders.get(folder) ?? new Map<string, RetainedPacket>();
    if (payload.length > 0) this.#folders.set(folder, messages.set(topic, { ...packet }));
    else if (messages.delete(topic) && messages.size === 0) this.#folders.delete(folder);
  }

  createRetainedStreamCombi(filters: readonly string[]): Readable {
    return Readable.from(filters.flatMap((filter) => this.retained(filter)));
  }

  retained(filter: string): RetainedPacket[] {
    const messages = this.#folders.get(folderOf(filter));
    if (filter.endsWith("/+")) return [...(messages?.values() ?? [])];
    const message = messages?.get(filter);
    return message ? [message] : [];
  }

  async subscriptionsByTopic(): Promise<readonly never[]> {
    return NOTHING;
  }

  outgoingStream(): Readable {
    return Readable.from(NOTHING);
  }

  async cleanSubscriptions(): Promise<void> {}
  async cleanIncoming(): Promise<void> {}
  async removeSubscriptions(): Promise<void> {}
  async outgoingEnqueueCombi(): Promise<void> {}
  async outgoingClearMessageId(): Promise<void> {}
  /** A will lives with its connection, which this process has; no other broker would publish it. */
  async putWill(): Promise<void> {}
  async delWill(): Promise<void> {}

  streamWill(): Readable {
    return Readable.from(NOTHING);
  }

  /** Of messages of QoS 2, none of which gets this far, and of sessions that last: nobody has any. */
  async incomingStorePacket(): Promise<void> {}
  async incomingGetPacket(): Promise<undefined> {}
  async incomingDelPacket(): Promise<void> {}
  async outgoingUpdate(): Promise<void> {}
  async outgoingEnqueue(): Promise<void> {}
  async addSubscriptions(): Promise<void> {}
  async subscriptionsByClient(): Promise<readonly never[]> {
    return NOTHING;
  }
}

const NOTHING: readonly never[] = [];

function folderOf(topic: string): string {
  return topic.slice(0, topic.lastIndexOf("/"));
}
