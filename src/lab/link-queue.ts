/** One direction of a slow link: which packets are lost, and when the others come out. Pure: time and chance are handed in. */
import type { Shape } from "./topology.ts";

export interface LinkQueueOptions {
  readonly shape: Shape;
  /** Evenly from 0 to below 1. */
  readonly random: () => number;
  /** More than that under way is lost, as at a full buffer. */
  readonly maxBytes?: number;
}

interface Packet {
  readonly dueMs: number;
  readonly bytes: Uint8Array;
}

const MAX_BYTES = 16 * 1024 * 1024;
/** Space of packets that are gone is given back in pieces. */
const COMPACT_AT = 1024;

export class LinkQueue {
  readonly #options: LinkQueueOptions;
  #packets: Packet[] = [];
  #head = 0;
  #bytes = 0;
  /** When the line is free for the next packet. */
  #freeAtMs = 0;
  #lastDueMs = 0;

  constructor(options: LinkQueueOptions) {
    this.#options = options;
  }

  /** Takes a packet in; false: it is lost. Jitter never changes the order. */
  push(bytes: Uint8Array, nowMs: number): boolean {
    const { shape, random, maxBytes = MAX_BYTES } = this.#options;
    const { delayMs, jitterMs, lossPercent, bitsPerSecond } = shape;
    if (lossPercent > 0 && random() * 100 < lossPercent) return false;
    if (this.#bytes + bytes.length > maxBytes) return false;
    const sentAtMs = Math.max(nowMs, this.#freeAtMs) + (bitsPerSecond ? (bytes.length * 8000) / bitsPerSecond : 0);
    if (bitsPerSecond) this.#freeAtMs = sentAtMs;
    const deviationMs = jitterMs > 0 ? (random() * 2 - 1) * jitterMs : 0;
    const dueMs = Math.max(this.#lastDueMs, sentAtMs + Math.max(0, delayMs + deviationMs));
    this.#lastDueMs = dueMs;
    this.#packets.push({ dueMs, bytes });
    this.#bytes += bytes.length;
    return true;
  }

  /** When the next packet comes out, or undefined when none is under way. */
  get nextDueMs(): number | undefined {
    return this.#packets[this.#head]?.dueMs;
  }

  /** Takes out the next packet that is due. */
  pop(nowMs: number): Uint8Array | undefined {
    const packet = this.#packets[this.#head];
    if (!packet || packet.dueMs > nowMs) return undefined;
    this.#head++;
    this.#bytes -= packet.bytes.length;
    if (this.#head === this.#packets.length || this.#head >= COMPACT_AT) {
      this.#packets = this.#packets.slice(this.#head);
      this.#head = 0;
    }
    return packet.bytes;
  }
}
