/**
 * A small MQTT 3.1.1 client over a plain socket: one connection at a time, made again with back-off for as long as `run()` runs.
 * Sessions are clean: what must survive a cut is retained by the broker, and comes again with each subscription.
 * Messages are handed on as bytes; whoever receives them validates them.
 */
import { connect, type Socket } from "node:net";
import mqtt, { type Packet } from "mqtt-packet";
import { type Clock, deadline, pause, systemClock } from "../base/clock.ts";
import { AppError, isAbort } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { jitter } from "../base/random.ts";
import { type Backoff, backoffMs } from "../base/retry.ts";

// The library's table of encoded numbers costs 8 MB for a few nanoseconds.
mqtt.writeToStream.cacheNumbers = false;

export interface MqttMessage {
  readonly topic: string;
  readonly payload: string;
  readonly qos: 0 | 1;
  readonly retain: boolean;
}

export interface MqttClientOptions {
  readonly host: string;
  readonly port: number;
  readonly clientId: string;
  readonly username?: string;
  readonly password?: string;
  /** Published by the broker when the connection ends without a farewell. */
  readonly will?: MqttMessage;
  /** Published by us before a clean end. */
  readonly farewell?: MqttMessage;
  readonly subscriptions: readonly {
    readonly topic: string;
    readonly qos: 0 | 1;
    /** A broker of an older version, which refuses it, will do as well. */
    readonly isOptional?: true;
  }[];
  /** Called in order of arrival; must not throw. */
  readonly onMessage: (topic: string, payload: Buffer, retained: boolean) => void;
  /** Connected and subscribed; nothing has arrived yet. `signal` aborts when this connection ends. */
  readonly onConnected?: (signal: AbortSignal) => void;
  readonly onDisconnected?: (reason: Error) => void;
  /** The broker refused the credentials: true keeps trying, false ends `run()` with MQTT_UNAUTHORIZED. */
  readonly retryUnauthorized?: boolean;
  readonly log: Logger;
  readonly clock?: Clock;
  /** The other end is given up after one and a half times this without a word, and so are we there. */
  readonly keepAliveMs?: number;
  /** A ping is sent when so long nothing else was, or nothing heard; default: half of the former. */
  readonly pingMs?: number;
  readonly connectTimeoutMs?: number;
  readonly backoff?: Backoff;
  /** Failures in a row with which `run()` ends; default: none, it tries for ever. */
  readonly maxFailures?: number;
  /** Unacknowledged QoS 1 messages kept for sending again; more are refused with MQTT_QUEUE_FULL. */
  readonly queueLimit?: number;
}

interface Pending {
  readonly message: MqttMessage;
  readonly resend: boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  messageId: number;
  sent: boolean;
}

interface Connection {
  readonly socket: Socket;
  readonly ended: AbortController;
  /** Monotonic ms. */
  heardAt: number;
  sentAt: number;
}

export class MqttClient {
  readonly #options: MqttClientOptions;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #connection: Connection | undefined;
  #nextId = 1;

  constructor(options: MqttClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  /** QoS 1 messages that no one has acknowledged yet. */
  get unacknowledged(): number {
    return this.#pending.size;
  }

  /**
   * QoS 0 resolves when written, QoS 1 when acknowledged. While there is no connection QoS 0 is refused with MQTT_OFFLINE;
   * QoS 1 waits and is sent (again) after the next connect, unless `resend` is false: then a cut rejects it with MQTT_OFFLINE.
   */
  async publish(message: MqttMessage, { resend = true }: { resend?: boolean } = {}): Promise<void> {
    if (!this.#connection && (message.qos === 0 || !resend)) throw offline(message.topic);
    if (message.qos === 0) {
      await this.#write({ cmd: "publish", dup: false, ...message });
      return;
    }
    if (this.#pending.size >= (this.#options.queueLimit ?? 1000)) {
      throw new AppError("MQTT_QUEUE_FULL", `Cannot publish to "${message.topic}": too many unacknowledged messages`);
    }
    await new Promise<void>((resolve, reject) => {
      const pending: Pending = { message, resend, resolve, reject, messageId: this.#takeId(), sent: false };
      this.#pending.set(pending.messageId, pending);
      if (this.#connection) this.#send(pending);
    });
  }

  /** Keeps a connection until `signal` aborts, then says farewell and resolves. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, backoff = { firstMs: 250, maxMs: 15_000 }, maxFailures = Number.POSITIVE_INFINITY } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = this.#clock.monotonic();
      try {
        await this.#session(signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        if ((error as AppError).code === "MQTT_UNAUTHORIZED" && !this.#options.retryUnauthorized) throw error;
        // A link that held for a while starts over with a short delay.
        failures = this.#clock.monotonic() - startedAt > 30_000 ? 1 : failures + 1;
        if (failures >= maxFailures) throw error;
        const retryInMs = jitter(backoffMs(failures, backoff));
        log.warn({ host: this.#options.host, port: this.#options.port, failures, retryInMs, error }, "mqtt link lost");
        await pause(this.#clock, retryInMs, signal);
      }
    }
  }

  /** One connection, from dialling to its end; resolves only for the clean end. */
  async #session(signal: AbortSignal): Promise<void> {
    const { host, port, connectTimeoutMs = 10_000 } = this.#options;
    const socket = connect({ host, port, noDelay: true });
    const ended = new AbortController();
    const now = this.#clock.monotonic();
    const connection: Connection = { socket, ended, heardAt: now, sentAt: now };
    const parser = mqtt.parser({ protocolVersion: 4 });
    const fail = (error: Error) => ended.abort(error);
    const greeted = new Promise<void>((resolve) => {
      parser.on("packet", (packet) => {
        connection.heardAt = this.#clock.monotonic();
        const greeted = () => {
          // At once: the next packet may already be there, in the same chunk.
          this.#greeted(connection);
          resolve();
        };
        this.#receive(packet, { connection, greeted, fail });
      });
    });
    parser.on("error", (error: Error) => fail(error));
    socket.on("data", (chunk) => parser.parse(chunk));
    socket.on("error", (error) => fail(error));
    socket.on("close", () => fail(new AppError("MQTT_CLOSED", `The broker at ${host}:${port} closed the connection`)));
    socket.on("connect", () => mqtt.writeToStream(this.#connectPacket(), socket));
    let isClean = false;
    try {
      await raced(greeted, deadline(connectTimeoutMs, AbortSignal.any([signal, ended.signal])));
      await this.#keepAlive(connection, signal);
      isClean = true;
    } catch (error) {
      // Given up by us: whoever listens for the end of the connection must hear of this one as well.
      if (!signal.aborted) fail(error as Error);
      throw error;
    } finally {
      if (isClean) await this.#farewell(connection);
      this.#connection = undefined;
      const wasEnded = ended.signal.aborted;
      ended.abort(new AppError("MQTT_CLOSED", "The connection was closed"));
      socket.destroy();
      this.#dropVolatile();
      if (wasEnded) this.#options.onDisconnected?.(ended.signal.reason as Error);
    }
  }

  #greeted(connection: Connection): void {
    const { host, port, log, onConnected } = this.#options;
    this.#connection = connection;
    log.info({ host, port }, "mqtt link up");
    for (const pending of this.#pending.values()) this.#send(pending);
    onConnected?.(connection.ended.signal);
  }

  #connectPacket(): Packet {
    const { clientId, username, password, will, keepAliveMs = 30_000 } = this.#options;
    return {
      cmd: "connect",
      protocolId: "MQTT",
      protocolVersion: 4,
      clean: true,
      clientId,
      keepalive: Math.ceil(keepAliveMs / 1000),
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password: Buffer.from(password) }),
      ...(will ? { will } : {}),
    };
  }

  #receive(
    packet: Packet,
    { connection, greeted, fail }: { connection: Connection; greeted: () => void; fail: (error: Error) => void },
  ): void {
    switch (packet.cmd) {
      case "connack": {
        const subscriptions = this.#options.subscriptions.map(({ topic, qos }) => ({ topic, qos }));
        if (packet.returnCode !== 0) fail(refused(packet.returnCode ?? 0));
        else if (subscriptions.length === 0) greeted();
        else mqtt.writeToStream({ cmd: "subscribe", messageId: this.#takeId(), subscriptions }, connection.socket);
        return;
      }
      case "suback": {
        const denied = this.#options.subscriptions.filter(
          ({ isOptional }, index) => packet.granted[index] === 128 && !isOptional,
        );
        const names = denied.map(({ topic }) => topic).join(", ");
        if (denied.length === 0) greeted();
        else fail(new AppError("MQTT_SUBSCRIPTION_REFUSED", `The broker refused the subscription to ${names}`));
        return;
      }
      case "publish":
        this.#options.onMessage(packet.topic, Buffer.from(packet.payload), packet.retain);
        if (packet.qos === 1 && packet.messageId !== undefined) {
          mqtt.writeToStream({ cmd: "puback", messageId: packet.messageId }, connection.socket);
          connection.sentAt = this.#clock.monotonic();
        }
        return;
      case "puback": {
        const pending = this.#pending.get(packet.messageId ?? 0);
        this.#pending.delete(packet.messageId ?? 0);
        pending?.resolve();
        return;
      }
      default:
        return;
    }
  }

  /** Gives the connection up when nothing was heard for one and a half of the keep-alive. What is in use needs no pings. */
  async #keepAlive(connection: Connection, signal: AbortSignal): Promise<void> {
    const { keepAliveMs = 30_000, pingMs = keepAliveMs / 2 } = this.#options;
    const either = AbortSignal.any([signal, connection.ended.signal]);
    let pingedAt = this.#clock.monotonic();
    for (;;) {
      const { sentAt, heardAt } = connection;
      const dueAt = Math.min(sentAt, Math.max(heardAt, pingedAt)) + pingMs;
      await pause(this.#clock, Math.max(1, dueAt - this.#clock.monotonic()), either);
      if (connection.ended.signal.aborted) throw connection.ended.signal.reason;
      if (signal.aborted) return;
      const now = this.#clock.monotonic();
      const silentMs = now - connection.heardAt;
      if (silentMs > keepAliveMs * 1.5) {
        throw new AppError("MQTT_SILENT", `The broker has been silent for ${Math.round(silentMs / 1000)} s`);
      }
      if (now - connection.sentAt < pingMs && now - connection.heardAt < pingMs) continue;
      mqtt.writeToStream({ cmd: "pingreq" }, connection.socket);
      connection.sentAt = pingedAt = now;
    }
  }

  async #farewell({ socket, ended }: Connection): Promise<void> {
    const { farewell } = this.#options;
    try {
      if (farewell) await raced(this.publish(farewell, { resend: false }), deadline(1000, ended.signal));
      mqtt.writeToStream({ cmd: "disconnect" }, socket);
      await raced(new Promise<void>((resolve) => socket.end(() => resolve())), deadline(1000));
    } catch (error) {
      this.#options.log.debug({ error }, "mqtt farewell not delivered");
    }
  }

  #send(pending: Pending): void {
    const { message, messageId, sent } = pending;
    pending.sent = true;
    this.#write({ cmd: "publish", dup: sent, messageId, ...message }).catch((error: unknown) => {
      this.#options.log.debug({ error }, "mqtt write failed; sent again after the next connect");
    });
  }

  async #write(packet: Packet): Promise<void> {
    const connection = this.#connection;
    if (!connection) throw offline("");
    connection.sentAt = this.#clock.monotonic();
    if (mqtt.writeToStream(packet, connection.socket)) return;
    await raced(new Promise<void>((resolve) => connection.socket.once("drain", resolve)), connection.ended.signal);
  }

  #dropVolatile(): void {
    for (const [id, pending] of this.#pending) {
      if (pending.resend) continue;
      this.#pending.delete(id);
      pending.reject(offline(pending.message.topic));
    }
  }

  #takeId(): number {
    do this.#nextId = (this.#nextId % 65_535) + 1;
    while (this.#pending.has(this.#nextId));
    return this.#nextId;
  }
}

function offline(topic: string): AppError {
  return new AppError("MQTT_OFFLINE", `Cannot publish to "${topic}": there is no connection to the broker`);
}

function refused(returnCode: number): AppError {
  if (returnCode === 4 || returnCode === 5) {
    return new AppError("MQTT_UNAUTHORIZED", "The broker refused our user name or password");
  }
  return new AppError("MQTT_REFUSED", `The broker refused the connection (MQTT return code ${returnCode})`);
}

/** The promise, or the signal's reason, whichever is first. */
function raced<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(isAbort(signal.reason) ? new AppError("MQTT_CLOSED", "Stopped") : signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
