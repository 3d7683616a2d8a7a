/**
 * The MQTT broker, embedded. A worker is known by its id (user name) and its key (password); what it may touch stands in access.ts.
 * Retained messages live in memory only: whoever starts the broker publishes them again before it listens.
 */
import type { EventEmitter } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Aedes, type AedesPublishPacket, type AuthenticateError, type Client } from "aedes";
import mqtt from "mqtt-packet";
import { type Clock, inNextTurn } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { parseTopic, type WorkerTopic } from "../protocol/mqtt.ts";
import { maySubscribe, publishRefusal } from "./access.ts";
import { BrokerMemory } from "./broker-memory.ts";
import { matchesDigest } from "./keys.ts";
import { PacketMeter } from "./packet-meter.ts";

// The library's table of encoded numbers costs 8 MB for a few nanoseconds.
mqtt.writeToStream.cacheNumbers = false;

export interface BrokerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly keyDigestOf: (workerId: string) => string | undefined;
  /** A worker wrote one of its topics. */
  readonly onMessage: (topic: WorkerTopic, payload: Buffer) => void;
  /** Something came from a connected worker, if only the acknowledgement of what it was sent. */
  readonly onHeard: (workerId: string) => void;
  readonly clock: Pick<Clock, "monotonic">;
  readonly log: Logger;
}

/** A full report of a thousand instances, each with the end of its output, stays below. */
const MAX_PACKET_BYTES = 2 * 1024 * 1024;
/** Workers, and strangers that have not said who they are. Each costs a file descriptor. */
const MAX_CONNECTIONS = 20_000;
/** The broker's own chatter on $SYS, which nobody reads. Four times this must fit a timer. */
const CHATTER_MS = 500_000_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** In one turn of the event loop: what those before have sent comes first, so that a crowd is let in as fast as it is dealt with. */
const ADMITTED_AT_ONCE = 16;
const DRAIN_TIMEOUT_MS = 15_000;
/** Seconds; a dead link is noticed after one and a half times the client's. */
const MAX_KEEPALIVE_S = 120;

export class Broker {
  readonly #options: BrokerOptions;
  readonly #aedes: Aedes;
  readonly #clients = new Map<string, Client>();
  readonly #clientsByAddress = new Map<string, Set<Client>>();
  /** All that are open, with those that have not said yet who they are. */
  readonly #sockets = new Set<Socket>();
  /** Not read from yet. */
  readonly #waiting: { readonly socket: Socket; readonly since: number }[] = [];
  #server: Server | undefined;
  #isClosing = false;

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#aedes = new Aedes({
      persistence: new BrokerMemory(),
      heartbeatInterval: CHATTER_MS,
      connectTimeout: CONNECT_TIMEOUT_MS,
      drainTimeout: DRAIN_TIMEOUT_MS,
      keepaliveLimit: MAX_KEEPALIVE_S,
      maxTopicLevels: 4,
      preConnect: (_client, packet, done) => {
        // One connection a worker, whatever it calls itself: a later one replaces it, and nobody can cut off another's.
        packet.clientId = packet.username ?? "";
        if (packet.clean && packet.clientId !== "") done(null, true);
        else done(new AppError("MQTT_REFUSED", "Connect with a user name and a clean session"), false);
      },
      authenticate: (_client, username, password, done) => {
        const isKnown = this.#isKnown(username, password);
        const refusal: AuthenticateError | null = isKnown ? null : unauthorized();
        done(refusal, isKnown);
      },
      authorizePublish: (client, packet, done) => done(this.#refusal(client, packet)),
      authorizeSubscribe: (client, subscription, done) =>
        done(null, maySubscribe(client.id, subscription.topic) ? subscription : null),
      published: (packet, client, done) => {
        if (client) this.#receive(packet, client);
        done();
      },
    });
    this.#aedes.on("clientReady", (client) => this.#note(client));
    this.#aedes.on("clientDisconnect", (client) => {
      if (this.#clients.get(client.id) === client) this.#clients.delete(client.id);
    });
    const note = (client: Client | null, error: Error) =>
      options.log.debug({ workerId: client?.id, error }, "mqtt connection failed");
    this.#aedes.on("clientError", note);
    this.#aedes.on("connectionError", note);
    (this.#aedes as EventEmitter).on("error", (error: unknown) => options.log.warn({ error }, "mqtt broker failed"));
  }

  /** From here on `publish` works; nobody can connect yet. */
  async open(): Promise<void> {
    await this.#aedes.listen();
  }

  /** @throws AppError PORT_IN_USE | LISTEN_FAILED */
  listen(): Promise<{ port: number }> {
    const { host, port } = this.#options;
    const server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => this.#arrive(socket));
    server.maxConnections = MAX_CONNECTIONS;
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once("error", (cause) => {
        const [code, why] = hasCode(cause, "EADDRINUSE")
          ? (["PORT_IN_USE", "the port is in use"] as const)
          : (["LISTEN_FAILED", "the address cannot be used"] as const);
        reject(new AppError(code, `Cannot listen for MQTT on ${host}:${port}: ${why}`, { cause }));
      });
      server.listen(port, host, () => resolve({ port: (server.address() as AddressInfo).port }));
    });
  }

  /** A retained message; the empty one removes the topic. Resolves when every connected subscriber has been written to. */
  retain(topic: string, payload: string): Promise<void> {
    return this.#publish(topic, payload, true);
  }

  /** For a worker that listens now, in the order of the calls. Resolves when it has been written to its connection, if there is one. */
  deliver(topic: string, payload: string): Promise<void> {
    return this.#publish(topic, payload, false);
  }

  /** For whoever listens now; nobody learns whether somebody does. */
  send(topic: string, payload: string): void {
    this.#aedes.publish(
      { cmd: "publish", topic, payload: Buffer.from(payload), qos: 0, retain: false, dup: false },
      () => {},
    );
  }

  /** Ids of the workers that are connected from the address. */
  connectedFrom(address: string): ReadonlySet<string> {
    return new Set([...(this.#clientsByAddress.get(address) ?? [])].map(({ id }) => id));
  }

  /** Ends the worker's connection, if there is one; it may connect again. */
  disconnect(workerId: string): void {
    this.#clients.get(workerId)?.close();
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#isClosing = true;
    const isClosed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    await new Promise<void>((resolve) => this.#aedes.close(() => resolve()));
    // The library closes only those that have said who they are.
    for (const socket of this.#sockets) socket.destroy();
    await isClosed;
  }

  #note(client: Client): void {
    this.#clients.set(client.id, client);
    const socket = client.conn as Socket;
    // Asked now: a socket that has ended does not know any more.
    const address = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    const there = this.#clientsByAddress.get(address) ?? new Set();
    this.#clientsByAddress.set(address, there.add(client));
    socket.once("close", () => {
      if (there.delete(client) && there.size === 0) this.#clientsByAddress.delete(address);
    });
  }

  #publish(topic: string, payload: string, retain: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#aedes.publish(
        { cmd: "publish", topic, payload: Buffer.from(payload), qos: 1, retain, dup: false },
        (error) => (error ? reject(error) : resolve()),
      );
    });
  }

  #arrive(socket: Socket): void {
    const { clock } = this.#options;
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    // The library has its own; without one, a connection that breaks while it waits would end the program.
    socket.on("error", () => socket.destroy());
    if (this.#waiting.push({ socket, since: clock.monotonic() }) === 1) inNextTurn(() => this.#admit());
  }

  #admit(): void {
    const now = this.#options.clock.monotonic();
    for (const { socket, since } of this.#waiting.splice(0, ADMITTED_AT_ONCE)) {
      // Who has waited so long is about to give up, and would only be greeted in vain.
      if (this.#isClosing || now - since > CONNECT_TIMEOUT_MS) socket.destroy();
      else if (!socket.destroyed) this.#accept(socket);
    }
    if (this.#waiting.length > 0) inNextTurn(() => this.#admit());
  }

  #accept(socket: Socket): void {
    const meter = new PacketMeter(MAX_PACKET_BYTES);
    const client = this.#aedes.handle(socket);
    // Seen here before the broker parses it, because it reads by `readable`.
    socket.on("data", (chunk) => {
      if (!meter.accepts(chunk)) client.close();
      else if (this.#clients.get(client.id) === client) this.#options.onHeard(client.id);
    });
  }

  #isKnown(username: string | undefined, password: Buffer | undefined): boolean {
    const digest = username === undefined ? undefined : this.#options.keyDigestOf(username);
    return digest !== undefined && password !== undefined && matchesDigest(password.toString(), digest);
  }

  #refusal(client: Client | null, packet: { topic: string; qos: number; retain: boolean }): Error | null {
    if (!client) return null;
    // The last wills of those whose connections we end say nothing.
    if (this.#isClosing) return new AppError("MQTT_CLOSING", "The broker is closing");
    // A worker that was removed in the meantime says nothing any more, not even its last will.
    const reason = this.#options.keyDigestOf(client.id)
      ? publishRefusal(client.id, packet)
      : "the worker is not known any more";
    if (reason === undefined) return null;
    this.#options.log.warn({ workerId: client.id, topic: packet.topic, reason }, "mqtt publish refused");
    return new AppError("MQTT_FORBIDDEN", `Cannot publish to "${packet.topic}": ${reason}`);
  }

  #receive(packet: AedesPublishPacket, client: Client): void {
    const topic = parseTopic(packet.topic);
    if (topic?.workerId !== client.id) return;
    try {
      this.#options.onMessage(topic, Buffer.from(packet.payload));
    } catch (error) {
      // One worker's message that cannot be dealt with, on a full disk for one, must not end the broker; workers repeat themselves.
      this.#options.log.error({ workerId: client.id, topic: packet.topic, error }, "mqtt message failed");
    }
  }
}

function unauthorized(): AuthenticateError {
  const BAD_USERNAME_OR_PASSWORD = 4;
  return Object.assign(new Error("bad user name or password"), { returnCode: BAD_USERNAME_OR_PASSWORD });
}
