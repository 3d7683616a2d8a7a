/**
 * The link to the root: dialled from here, kept up with back-off. At every connect each side tells everything, then only changes,
 * with consecutive revisions. Whatever happens while there is no link is state, and told at the next connect.
 */
import WebSocket from "ws";
import { type Clock, deadline, pause } from "../base/clock.ts";
import { AppError, describeError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { jitter } from "../base/random.ts";
import { backoffMs } from "../base/retry.ts";
import type { Landmark } from "../protocol/capacity.ts";
import type { Interest, RouteUpdate } from "../protocol/route.ts";
import {
  type ClusterMessage,
  PLAN_VERSION,
  type PlannedInstance,
  PROTOCOL_VERSION,
  RootMessage,
  UPLINK_PATH,
  UPLINK_SILENCE_MS,
} from "../protocol/uplink.ts";
import type { DesiredChange } from "./cluster-state.ts";
import { decode } from "./decode.ts";
import type { Forecast } from "./forecast.ts";
import { OutgoingState, type OutgoingView } from "./outgoing-state.ts";
import { isRefusal, unreachable, whoAnswers } from "./uplink-errors.ts";

type Answer = Extract<ClusterMessage, { type: "explain.answer" }>;

export interface UplinkOptions {
  readonly rootUrl: string;
  readonly identity: {
    readonly clusterName: string;
    readonly location: string;
    readonly key: string;
    readonly version: string;
  };
  /** Our key was made just now: the root cannot know it. */
  readonly isNew: boolean;
  /** A token with which the root admits us the first time, if there is one. */
  readonly joinToken: () => Promise<string | undefined>;
  readonly view: OutgoingView;
  /** Throws when it cannot be stored; the link is then made anew. */
  readonly onDesired: (change: DesiredChange) => void;
  readonly onRoutes: (update: RouteUpdate) => void;
  readonly onNetwork: (network: Omit<Extract<RootMessage, { type: "network" }>, "type">) => void;
  readonly onLandmarks: (peers: readonly Landmark[]) => void;
  /** What this cluster knows of how an instance came to be where it is. */
  readonly explain: (instanceId: string) => Pick<Answer, "timeline" | "decisions">;
  /** Where instances would go if they were handed to this cluster now. */
  readonly forecast: (question: Forecast) => PlannedInstance[];
  readonly onUp: () => void;
  readonly onLog: (message: Extract<RootMessage, { type: "log.open" | "log.close" }>) => void;
  readonly onDown: () => void;
  readonly log: Logger;
  readonly clock: Clock;
}

const HANDSHAKE_MS = 10_000;
const BEAT_MS = 3_000;
/** The root pings more often: only where it does not is there anything for us to do. */
const PING_MS = UPLINK_SILENCE_MS / 2;
const BACKOFF = { firstMs: 500, maxMs: 15_000 };
/** A refusal ends by an operator's hand, if at all. */
const REFUSED_BACKOFF = { firstMs: 5_000, maxMs: 60_000 };
/** After a link that stood this long, back-off starts over. */
const STABLE_MS = 30_000;
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** Output of instances is given up beyond this; state is not, the link ends instead. */
const MAX_LOG_BACKLOG_BYTES = 1024 * 1024;
const MAX_BACKLOG_BYTES = 16 * 1024 * 1024;

interface Link {
  readonly socket: WebSocket;
  readonly ended: AbortController;
  readonly outgoing: OutgoingState;
  heardAt: number;
  /** Of the root's desired state; undefined: waiting for all of it. */
  desired: number | undefined;
}

export class Uplink {
  readonly #options: UplinkOptions;
  #link: Link | undefined;
  #needsToken: boolean;
  #isFlushDue = false;
  #problem: string | undefined;

  constructor(options: UplinkOptions) {
    this.#options = options;
    this.#needsToken = options.isNew;
  }

  /** The root has welcomed us, and the link stands. */
  get isConnected(): boolean {
    return this.#link !== undefined;
  }

  /** Why there is no link, as of the last try. */
  get problem(): string | undefined {
    return this.isConnected ? undefined : this.#problem;
  }

  /** What the root should know of this instance has changed. News go out at the end of this tick, measurements with the next beat. */
  changed(instanceId: string, isNews: boolean): void {
    this.#link?.outgoing.mark(instanceId);
    if (isNews) this.#flushSoon();
  }

  /** A worker came or went. */
  membershipChanged(): void {
    this.#link?.outgoing.urge();
    this.#flushSoon();
  }

  /** Nothing happens without a link: with the next one, all of the interest is told. */
  sendInterest(interest: Interest): void {
    if (this.#link) this.#send(this.#link, { type: "interest", ...interest });
  }

  /** False: not sent, because there is no link or the root does not keep up. */
  sendLog(message: ClusterMessage): boolean {
    const link = this.#link;
    if (!link || link.socket.bufferedAmount > MAX_LOG_BACKLOG_BYTES) return false;
    this.#send(link, message);
    return true;
  }

  /** Keeps a link until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, rootUrl } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = clock.monotonic();
      const hadToken = this.#needsToken;
      try {
        await this.#session(signal);
      } catch (error) {
        if (signal.aborted) return;
        failures = clock.monotonic() - startedAt > STABLE_MS ? 1 : failures + 1;
        const reason = describeError(error);
        this.#problem = reason;
        // Refused by its key alone, the cluster has a token to try, if it has one.
        const isFinal = isRefusal(error) && hadToken;
        const retryInMs = jitter(backoffMs(failures, isFinal ? REFUSED_BACKOFF : BACKOFF));
        const fields = { rootUrl, reason, failures, retryInMs };
        if (isFinal) log.error(fields, "no link to the root until an operator acts; the cluster goes on without it");
        else log.warn(fields, "no link to the root; the cluster goes on without it");
        await pause(clock, retryInMs, signal);
      }
    }
  }

  async #session(signal: AbortSignal): Promise<void> {
    const { log, clock, rootUrl, onUp, onDown } = this.#options;
    const token = this.#needsToken ? await this.#options.joinToken() : undefined;
    const socket = new WebSocket(new URL(UPLINK_PATH, rootUrl.replace(/^http/, "ws")), {
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: MAX_MESSAGE_BYTES,
      perMessageDeflate: false,
    });
    const ended = new AbortController();
    const outgoing = new OutgoingState(this.#options.view, clock);
    const link: Link = { socket, ended, outgoing, heardAt: clock.monotonic(), desired: undefined };
    try {
      const { clusterId } = await this.#greet(
        link,
        token,
        deadline(HANDSHAKE_MS, AbortSignal.any([signal, ended.signal])),
      );
      this.#needsToken = false;
      this.#link = link;
      log.info({ rootUrl, clusterId }, "link to the root is up");
      onUp();
      this.#flush(link);
      await this.#beat(link, signal);
    } finally {
      const wasUp = this.#link === link;
      this.#link = undefined;
      ended.abort(closed());
      if (signal.aborted) socket.close(1001);
      else socket.terminate();
      if (wasUp) onDown();
    }
  }

  /** Says hello and waits for the answer. */
  #greet(link: Link, joinToken: string | undefined, limit: AbortSignal): Promise<{ clusterId: string }> {
    const { socket, ended } = link;
    const hear = () => {
      link.heardAt = this.#options.clock.monotonic();
    };
    return new Promise((resolve, reject) => {
      limit.addEventListener("abort", () => reject(limit.reason), { once: true });
      socket.on("error", (error) => ended.abort(unreachable(error, this.#options.rootUrl)));
      socket.on("unexpected-response", (_request, response) => {
        response.resume();
        whoAnswers(this.#options.rootUrl, response.statusCode ?? 0, limit).then((error) => ended.abort(error), reject);
      });
      socket.on("close", () => ended.abort(closed()));
      socket.on("ping", hear);
      socket.on("pong", hear);
      socket.on("open", () => {
        const { identity } = this.#options;
        this.#send(link, {
          type: "hello",
          protocol: PROTOCOL_VERSION,
          ...identity,
          clock: this.#options.clock.now(),
          ...(joinToken === undefined ? {} : { joinToken }),
        });
      });
      socket.on("message", (data: Buffer) => {
        hear();
        try {
          this.#receive(link, data, { resolve, reject });
        } catch (error) {
          ended.abort(error);
        }
      });
    });
  }

  #receive(
    link: Link,
    data: Buffer,
    greeting: { resolve: (welcome: { clusterId: string }) => void; reject: (error: Error) => void },
  ): void {
    const decoded = decode(RootMessage, data);
    if ("problem" in decoded) {
      this.#options.log.warn({ problem: decoded.problem }, "malformed message of the root dropped");
      return;
    }
    const message = decoded.value;
    switch (message.type) {
      case "welcome":
        greeting.resolve(message);
        return;
      case "refused":
        // Perhaps the root has forgotten us: the next hello brings a token, if there is one.
        this.#needsToken = true;
        greeting.reject(new AppError("UPLINK_REFUSED", `The root refused this cluster: ${message.message}`));
        return;
      case "desired":
        this.#desired(link, message);
        return;
      case "resync":
        link.outgoing.startOver();
        this.#flush(link);
        return;
      case "routes":
        this.#options.onRoutes(message);
        return;
      case "network":
        this.#options.onNetwork(message);
        return;
      case "landmarks":
        this.#options.onLandmarks(message.peers);
        return;
      case "explain.ask": {
        const { question, instanceId } = message;
        const clock = this.#options.clock.now();
        this.#send(link, { type: "explain.answer", question, ...this.#options.explain(instanceId), clock });
        return;
      }
      case "plan.ask": {
        const { question } = message;
        const instances = this.#options.forecast(message);
        this.#send(link, { type: "plan.answer", version: PLAN_VERSION, question, instances });
        return;
      }
      case "log.open":
      case "log.close":
        this.#options.onLog(message);
        return;
      default:
        message satisfies never;
    }
  }

  #desired(link: Link, message: Extract<RootMessage, { type: "desired" }>): void {
    if (!message.full && message.revision !== (link.desired ?? Number.NaN) + 1) {
      // Asked once; what comes until everything is told again is of no use.
      if (link.desired !== undefined) this.#send(link, { type: "resync" });
      link.desired = undefined;
      return;
    }
    this.#options.onDesired(message);
    link.desired = message.revision;
  }

  /** Says that we are there, listens whether the root is. Returns when `signal` aborts. */
  async #beat(link: Link, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const either = AbortSignal.any([signal, link.ended.signal]);
    let pingedAt = clock.monotonic();
    for (;;) {
      await pause(clock, BEAT_MS, either);
      if (signal.aborted) return;
      link.ended.signal.throwIfAborted();
      const now = clock.monotonic();
      if (now - link.heardAt > UPLINK_SILENCE_MS) throw new AppError("UPLINK_SILENT", "The root says nothing any more");
      if (now - Math.max(link.heardAt, pingedAt) >= PING_MS) {
        link.socket.ping();
        pingedAt = now;
      }
      this.#flush(link);
    }
  }

  #flushSoon(): void {
    if (!this.#link || this.#isFlushDue) return;
    this.#isFlushDue = true;
    queueMicrotask(() => {
      this.#isFlushDue = false;
      if (this.#link) this.#flush(this.#link);
    });
  }

  #flush(link: Link): void {
    const message = link.outgoing.next();
    if (message) this.#send(link, message);
  }

  #send({ socket, ended }: Link, message: ClusterMessage): void {
    if (socket.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount > MAX_BACKLOG_BYTES)
      ended.abort(new AppError("UPLINK_SLOW", "The root does not read what it is sent"));
    else socket.send(JSON.stringify(message));
  }
}

function closed(): AppError {
  return new AppError("UPLINK_CLOSED", "The link to the root was closed");
}
