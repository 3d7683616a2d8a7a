import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Aedes } from "aedes";
import type { InstanceReport } from "../protocol/instance.ts";
import { type DesiredInstance, type LogData, RegisterRequest, topics, WorkerReport } from "../protocol/mqtt.ts";

export const WORKER_ID = "aaaaaaaaaaaaaaaaaaaaaaaa";

/** A cluster as a worker sees it: a join port, a broker, and what it was told. */
export class FakeCluster {
  readonly instances = new Map<string, InstanceReport>();
  readonly history: string[] = [];
  readonly removed: string[] = [];
  readonly reports: WorkerReport[] = [];
  readonly logs: LogData[] = [];
  readonly registrations: RegisterRequest[] = [];
  presence = "";
  refuse: number | undefined;
  #revision = 0;
  #host = "";
  readonly #aedes: Aedes;
  readonly #sockets = new Set<Socket>();
  readonly #mqtt = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    this.#aedes.handle(socket);
  });
  readonly #http = createHttpServer(async (request, response) => {
    const chunks = await request.toArray();
    this.registrations.push(RegisterRequest.parse(JSON.parse(Buffer.concat(chunks).toString())));
    response.statusCode = this.refuse ?? 200;
    const mqttPort = String((this.#mqtt.address() as AddressInfo).port);
    const answer = { id: WORKER_ID, MQTT_BROKER_PORT: mqttPort, clusterName: "home" };
    response.end(JSON.stringify(this.refuse ? { error: "FORBIDDEN", message: "no such token" } : answer));
  });

  constructor(aedes: Aedes) {
    this.#aedes = aedes;
    aedes.on("publish", ({ topic, payload }) => this.#heard(topic, payload.toString()));
  }

  async listen(host: string): Promise<this> {
    this.#host = host;
    await new Promise<void>((resolve) => this.#mqtt.listen(0, host, resolve));
    await new Promise<void>((resolve) => this.#http.listen(0, host, resolve));
    return this;
  }

  get url(): string {
    return `http://${this.#host}:${(this.#http.address() as AddressInfo).port}`;
  }

  async want(...instances: DesiredInstance[]): Promise<void> {
    this.#revision += 1;
    for (const instance of instances) {
      await this.publish(topics.desired(WORKER_ID, instance.instanceId), JSON.stringify(instance));
    }
    const listed = instances.map(({ instanceId, generation }) => ({ instanceId, generation }));
    await this.publish(topics.manifest(WORKER_ID), JSON.stringify({ revision: this.#revision, instances: listed }));
  }

  publish(topic: string, payload: string, retain = true): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#aedes.publish({ cmd: "publish", topic, payload, qos: 1, retain, dup: false }, (error) =>
        error ? reject(error) : resolve(),
      ),
    );
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#aedes.close(() => resolve()));
    await new Promise<void>((resolve) => this.#mqtt.close(() => resolve()));
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }

  #heard(topic: string, payload: string): void {
    if (topic === topics.presence(WORKER_ID)) this.presence = payload;
    if (topic === topics.logData(WORKER_ID)) this.logs.push(JSON.parse(payload));
    if (topic !== topics.report(WORKER_ID)) return;
    const report = WorkerReport.parse(JSON.parse(payload));
    this.reports.push(report);
    if (report.full) this.instances.clear();
    for (const instance of report.instances) {
      this.instances.set(instance.instanceId, instance);
      this.history.push(instance.status);
    }
    for (const instanceId of report.removed) this.instances.delete(instanceId);
    this.removed.push(...report.removed);
  }
}

/** @param host address to listen on */
export async function startFakeCluster(host = "127.0.0.1"): Promise<FakeCluster> {
  return new FakeCluster(await Aedes.createBroker()).listen(host);
}
