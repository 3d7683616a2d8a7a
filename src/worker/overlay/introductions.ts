/** Introduces this worker to those whose instances it is about to call, and knows who has introduced themselves to it. */
import { randomBytes } from "node:crypto";
import { type Clock, pause } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { jitter } from "../../base/random.ts";
import { backoffMs } from "../../base/retry.ts";
import { decodeIntroduction, encodeIntroduction, type Introduction } from "../../net/introduction.ts";
import type { WorkerEndpoint } from "../../protocol/route.ts";
import { Challenges } from "./challenges.ts";

export interface IntroductionsOptions {
  /** Undefined: the cluster gave none, and nobody is introduced to anybody. */
  readonly key: () => string | undefined;
  readonly self: () => WorkerEndpoint | undefined;
  readonly send: (bytes: Buffer, address: string) => void;
  /** Resolves when packets of the other worker are taken. */
  readonly onIntroduced: (endpoint: WorkerEndpoint) => Promise<void>;
  /** Another worker takes our packets, or has not said so for long enough. */
  readonly onReachable: (workerId: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Peer {
  readonly address: string;
  /** Another one after each welcome: an answer to an earlier one means nothing. */
  nonce: string;
  isReachable: boolean;
  isWelcome: boolean;
  /** Since the last welcome. */
  tries: number;
  /** Monotonic ms. */
  readonly since: number;
  sentAt: number;
  nextAt: number;
}

/** What is sent with who we are. */
type Spoken =
  | Omit<Extract<Introduction, { kind: "introduction" }>, "endpoint">
  | Omit<Extract<Introduction, { kind: "proof" }>, "endpoint">;

/** A worker whose agent does not answer has maybe known us for long: packets are tried. */
const GIVE_UP_MS = 500;
const AGAIN = { firstMs: 50, maxMs: 30_000 };
/** Well within the time for which we are known there. */
const STEADY_MS = 300_000;
const DOUBT_MS = 1000;
const IDLE_MS = 3_600_000;

export class Introductions {
  readonly #options: IntroductionsOptions;
  readonly #peers = new Map<string, Peer>();
  readonly #challenges: Challenges;
  #wake: (() => void) | undefined;

  constructor(options: IntroductionsOptions) {
    this.#options = options;
    this.#challenges = new Challenges(options.clock);
  }

  /** @param known the workers among these that took our packets in an earlier run */
  setPeers(endpoints: readonly WorkerEndpoint[], known: ReadonlySet<string> = new Set()): void {
    const now = this.#options.clock.monotonic();
    const ids = new Set(endpoints.map(({ id }) => id));
    for (const id of this.#peers.keys()) if (!ids.has(id)) this.#peers.delete(id);
    for (const { id, address } of endpoints) {
      const before = this.#peers.get(id);
      if (before?.address === address) continue;
      const isReachable = (before?.isReachable ?? known.has(id)) || this.#options.key() === undefined;
      this.#peers.set(id, {
        ...{ address, isReachable, isWelcome: false, tries: 0, since: now, sentAt: now, nextAt: now },
        nonce: "",
      });
    }
    this.#wake?.();
  }

  isReachable(workerId: string): boolean {
    return this.#peers.get(workerId)?.isReachable ?? false;
  }

  /** What we say of ourselves has changed. */
  repeat(): void {
    const now = this.#options.clock.monotonic();
    for (const peer of this.#peers.values()) Object.assign(peer, { isWelcome: false, tries: 0, nextAt: now });
    this.#wake?.();
  }

  /** It did not answer lately: it may have forgotten us. */
  doubt(workerId: string): void {
    const peer = this.#peers.get(workerId);
    const now = this.#options.clock.monotonic();
    if (!peer?.isWelcome || now - peer.sentAt < DOUBT_MS) return;
    Object.assign(peer, { isWelcome: false, tries: 0, nextAt: now });
    this.#wake?.();
  }

  receive(bytes: Buffer, source: string): void {
    const key = this.#options.key();
    const message = key === undefined ? undefined : decodeIntroduction(bytes, key);
    if (message?.kind === "introduction") this.#challenge(message, source);
    if (message?.kind === "proof") void this.#welcome(message, source);
    if (message?.kind !== "welcome" && message?.kind !== "challenge") return;
    for (const [id, peer] of this.#peers) {
      if (peer.nonce !== message.nonce || peer.address !== source) continue;
      if (message.kind === "challenge") {
        this.#send({ kind: "proof", nonce: peer.nonce, cookie: message.cookie }, peer);
        continue;
      }
      const nextAt = this.#options.clock.monotonic() + jitter(STEADY_MS);
      Object.assign(peer, { isWelcome: true, tries: 0, nextAt });
      this.#reached(id, peer);
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const now = clock.monotonic();
      for (const [id, peer] of this.#peers) this.#attend(id, peer, now);
      let due = now + IDLE_MS;
      for (const peer of this.#peers.values()) {
        due = Math.min(due, peer.nextAt, peer.isReachable ? due : peer.since + GIVE_UP_MS);
      }
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await pause(clock, Math.max(1, due - now), AbortSignal.any([signal, woken.signal]));
    }
  }

  #attend(id: string, peer: Peer, now: number): void {
    if (!peer.isReachable && now - peer.since >= GIVE_UP_MS) this.#reached(id, peer);
    if (peer.nextAt > now) return;
    if (peer.tries === 0) peer.nonce = randomBytes(8).toString("hex");
    this.#send({ kind: "introduction", nonce: peer.nonce }, peer);
    peer.tries += 1;
    peer.sentAt = now;
    peer.nextAt = now + (peer.isWelcome ? jitter(STEADY_MS) : backoffMs(peer.tries, AGAIN));
  }

  #reached(id: string, peer: Peer): void {
    if (peer.isReachable) return;
    peer.isReachable = true;
    this.#options.onReachable(id);
  }

  #send(message: Spoken, { address }: Peer): void {
    const { key, self, send } = this.#options;
    const [secret, endpoint] = [key(), self()];
    const bytes = secret !== undefined && endpoint ? encodeIntroduction({ ...message, endpoint }, secret) : undefined;
    if (bytes) send(bytes, address);
  }

  #isFromItself({ address, id }: WorkerEndpoint, source: string): boolean {
    return address === source && id !== this.#options.self()?.id;
  }

  #challenge({ nonce, endpoint }: Extract<Introduction, { kind: "introduction" }>, source: string): void {
    const { key, send } = this.#options;
    if (!this.#isFromItself(endpoint, source)) return;
    const cookie = this.#challenges.cookieFor(source, nonce);
    const bytes = encodeIntroduction({ kind: "challenge", nonce, cookie }, key() ?? "");
    if (bytes) send(bytes, source);
  }

  async #welcome({ nonce, cookie, endpoint }: Extract<Introduction, { kind: "proof" }>, source: string): Promise<void> {
    const { key, send, onIntroduced, log } = this.#options;
    if (!this.#isFromItself(endpoint, source)) return;
    if (!this.#challenges.accepts({ workerId: endpoint.id, source, nonce, cookie })) return;
    try {
      await onIntroduced(endpoint);
      const bytes = encodeIntroduction({ kind: "welcome", nonce }, key() ?? "");
      if (bytes) send(bytes, source);
    } catch (error) {
      log.warn({ workerId: endpoint.id, error }, "another worker is not known to the kernel");
    }
  }
}
