/** The worker's end of its link: registers, keeps the MQTT connection, and hands on what arrives. Bad input is logged and dropped. */
import type * as z from "zod/mini";
import { type Clock, pause } from "../base/clock.ts";
import { AppError, describeError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { jitter } from "../base/random.ts";
import { backoffMs } from "../base/retry.ts";
import { describeProblems, validate } from "../base/validation.ts";
import {
  DesiredInstance,
  HEARTBEAT_MS,
  type LogData,
  LogRequest,
  Manifest,
  Measure,
  parseTopic,
  topics,
  WorkerNetwork,
  type WorkerReport,
} from "../protocol/mqtt.ts";
import { type CheckAnswer, CheckQuestion } from "../protocol/net-check.ts";
import { type Interest, RouteUpdate } from "../protocol/route.ts";
import { MqttClient, type MqttMessage } from "../transport/mqtt-client.ts";
import type { Credentials } from "./registration.ts";

/** Short: after a cut, all that this worker runs may be wanted back, and a failed try costs a few packets. */
const REGISTER_BACKOFF = { firstMs: 500, maxMs: 5000 };
const CONNECT_BACKOFF = { firstMs: 250, maxMs: 5000 };
/** A cluster that has restarted may have thousands to greet: who gives up sooner makes it begin again, and nobody gets in. */
const CONNECT_TIMEOUT_MS = 15_000;
/** Both ends give a dead connection up after one and a half times this, when the cluster gives the worker up. */
const KEEP_ALIVE_MS = 20_000;
/** The heartbeat's promise is kept even when a ping is a little late. */
const PING_MS = HEARTBEAT_MS * 0.9;
/** Failures to connect, up to a minute, after which the cluster is asked where its broker is. */
const MAX_FAILURES = 8;
/** After a link that held for so long, back-off starts over. */
const STABLE_MS = 30_000;
/** A refusal ends by an operator's hand, if at all. */
const REFUSED_BACKOFF = { firstMs: 5000, maxMs: 60_000 };

export interface ClusterLinkParts {
  readonly register: (signal: AbortSignal) => Promise<Credentials>;
  readonly host: string;
  readonly on: {
    readonly instance: (instance: DesiredInstance) => void;
    readonly cleared: (instanceId: string) => void;
    readonly manifest: (manifest: Manifest) => void;
    readonly logRequest: (request: LogRequest) => void;
    readonly check: (question: CheckQuestion) => void;
    readonly measure: (measure: Measure) => void;
    readonly network: (network: WorkerNetwork) => void;
    readonly routes: (update: RouteUpdate) => void;
    readonly connected: (credentials: Credentials) => void;
    /** What arrives from now on belongs to another connection. */
    readonly disconnected: () => void;
  };
  readonly log: Logger;
  readonly clock: Clock;
}

export class ClusterLink {
  readonly #parts: ClusterLinkParts;
  #client: { readonly mqtt: MqttClient; readonly id: string } | undefined;
  #problem: string | undefined;

  constructor(parts: ClusterLinkParts) {
    this.#parts = parts;
  }

  get isConnected(): boolean {
    return this.#client?.mqtt.isConnected ?? false;
  }

  /** Why there is no connection, as of the last try. */
  get problem(): string | undefined {
    return this.isConnected ? undefined : this.#problem;
  }

  /** Resolves when the broker has it. @throws AppError MQTT_OFFLINE */
  async report(report: WorkerReport): Promise<void> {
    await this.#publish((id) => ({ topic: topics.report(id), payload: JSON.stringify(report), qos: 1, retain: false }));
  }

  /** Resolves when the broker has it. @throws AppError MQTT_OFFLINE */
  async sendInterest(interest: Interest): Promise<void> {
    const payload = JSON.stringify(interest);
    await this.#publish((id) => ({ topic: topics.interest(id), payload, qos: 1, retain: false }));
  }

  /** @throws AppError MQTT_OFFLINE */
  async sendLog(part: LogData): Promise<void> {
    await this.#publish((id) => ({ topic: topics.logData(id), payload: JSON.stringify(part), qos: 0, retain: false }));
  }

  /** Resolves when the broker has it. @throws AppError MQTT_OFFLINE */
  async sendChecked(answer: CheckAnswer): Promise<void> {
    const payload = JSON.stringify(answer);
    await this.#publish((id) => ({ topic: topics.checked(id), payload, qos: 1, retain: false }));
  }

  /** Registers and connects, again and again, until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts;
    let failures = 0;
    while (!signal.aborted) {
      const credentials = await this.#register(signal);
      if (!credentials) return;
      const startedAt = clock.monotonic();
      try {
        await this.#connect(credentials, signal);
      } catch (error) {
        // The cluster may have forgotten us, or its broker may be elsewhere by now.
        failures = clock.monotonic() - startedAt > STABLE_MS ? 1 : failures + 1;
        this.#problem = describeError(error);
        const retryInMs = jitter(backoffMs(failures, REGISTER_BACKOFF));
        log.warn({ failures, retryInMs, error }, "cannot connect to the cluster; registering again");
        await pause(clock, retryInMs, signal);
      } finally {
        this.#client = undefined;
      }
    }
  }

  async #register(signal: AbortSignal): Promise<Credentials | undefined> {
    const { register, log, clock } = this.#parts;
    for (let failures = 0; !signal.aborted; ) {
      try {
        const credentials = await register(signal);
        log.info({ cluster: credentials.clusterName, id: credentials.id }, "registered at cluster");
        return credentials;
      } catch (error) {
        if (signal.aborted) break;
        failures += 1;
        const isRefused = hasCode(error, "JOIN_REFUSED");
        const retryInMs = jitter(backoffMs(failures, isRefused ? REFUSED_BACKOFF : REGISTER_BACKOFF));
        const reason = describeError(error);
        this.#problem = reason;
        const fields = { reason, failures, retryInMs };
        if (isRefused) log.error(fields, "cannot register at cluster until an operator acts");
        else log.warn(fields, "cannot register at cluster");
        await pause(clock, retryInMs, signal);
      }
    }
    return undefined;
  }

  async #connect(credentials: Credentials, signal: AbortSignal): Promise<void> {
    const { id, key, mqttPort } = credentials;
    const { host, on, log, clock } = this.#parts;
    const presence = (online: boolean): MqttMessage => ({
      ...{ topic: topics.presence(id), payload: JSON.stringify({ online }) },
      ...{ qos: 1, retain: true },
    });
    const mqtt: MqttClient = new MqttClient({
      ...{ host, port: mqttPort, clientId: id, username: id, password: key },
      ...{
        keepAliveMs: KEEP_ALIVE_MS,
        pingMs: PING_MS,
        connectTimeoutMs: CONNECT_TIMEOUT_MS,
        backoff: CONNECT_BACKOFF,
      },
      maxFailures: MAX_FAILURES,
      will: presence(false),
      farewell: presence(false),
      subscriptions: [
        { topic: topics.desiredOf(id), qos: 1 },
        { topic: topics.manifest(id), qos: 1 },
        { topic: topics.measure(id), qos: 1 },
        { topic: topics.network(id), qos: 1 },
        { topic: topics.routes(id), qos: 1 },
        { topic: topics.logRequest(id), qos: 0 },
        { topic: topics.check(id), qos: 0, isOptional: true },
      ],
      onMessage: (topic, payload) => this.#receive(topic, payload),
      onConnected: () => {
        mqtt
          .publish(presence(true), { resend: false })
          .catch((error: unknown) => log.debug({ error }, "presence not delivered"));
        on.connected(credentials);
      },
      onDisconnected: () => on.disconnected(),
      ...{ log, clock },
    });
    this.#client = { mqtt, id };
    await mqtt.run(signal);
  }

  #receive(topic: string, payload: Buffer): void {
    const { on, log } = this.#parts;
    const parsed = parseTopic(topic);
    try {
      switch (parsed?.kind) {
        case "desired":
          if (payload.length === 0) on.cleared(parsed.instanceId);
          else on.instance(read(DesiredInstance, payload));
          break;
        case "manifest":
          on.manifest(read(Manifest, payload));
          break;
        case "measure":
          if (payload.length > 0) on.measure(read(Measure, payload));
          break;
        case "network":
          // Removed with the worker: what runs keeps its addresses.
          if (payload.length > 0) on.network(read(WorkerNetwork, payload));
          break;
        case "routes":
          on.routes(read(RouteUpdate, payload));
          break;
        case "logRequest":
          on.logRequest(read(LogRequest, payload));
          break;
        case "check":
          on.check(read(CheckQuestion, payload));
          break;
      }
    } catch (error) {
      log.warn({ topic, reason: describeError(error) }, "mqtt message dropped");
    }
  }

  async #publish(message: (id: string) => MqttMessage): Promise<void> {
    if (!this.#client) throw new AppError("MQTT_OFFLINE", "There is no connection to the cluster");
    await this.#client.mqtt.publish(message(this.#client.id), { resend: false });
  }
}

function read<T extends z.ZodMiniType>(schema: T, payload: Buffer): z.output<T> {
  const checked = validate(schema, JSON.parse(payload.toString()));
  if (!checked.ok) throw new AppError("MESSAGE_INVALID", describeProblems(checked.problems));
  return checked.value;
}
