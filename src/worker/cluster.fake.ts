import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Aedes } from "aedes";
import type { InstanceReport } from "../protocol/instance.ts";
import { type DesiredInstance, type LogData, RegisterRequest, topics, WorkerReport } from "../protocol/mqtt.ts";
import type { CheckAnswer } from "../protocol/net-check.ts";
import { Interest, type InterestKey, interestIn, type RouteUpdate, type ServiceRoute } from "../protocol/route.ts";

export const WORKER_ID = "aaaaaaaaaaaaaaaaaaaaaaaa";

/** A cluster as a worker sees it: a join port, a broker, and what it was told. */
export class FakeCluster {
  readonly instances = new Map<string, InstanceReport>();
  readonly history: string[] = [];
  readonly removed: string[] = [];
  readonly reports: WorkerReport[] = [];
  readonly logs: LogData[] = [];
  readonly checked: CheckAnswer[] = [];
  readonly registrations: RegisterRequest[] = [];
  readonly interests: Interest[] = [];
  /** Every service that there is; interests are answered from it as long as `answers` is true. */
  readonly services = new Map<string, ServiceRoute>();
  answers = true;
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
    await this.giveNetwork("10.18.0.0/26");
    return this;
  }

  get url(): string {
    return `http://${this.#host}:${(this.#http.address() as AddressInfo).port}`;
  }

  async want(...instances: DesiredInstance[]): Promise<void> {
    this.#revision += 1;
    await this.#serve(instances);
    for (const instance of instances) {
      await this.publish(topics.desired(WORKER_ID, instance.instanceId), JSON.stringify(instance));
    }
    const listed = instances.map(({ instanceId, generation }) => ({ instanceId, generation }));
    await this.publish(topics.manifest(WORKER_ID), JSON.stringify({ revision: this.#revision, instances: listed }));
  }

  giveNetwork(...subnets: string[]): Promise<void> {
    const network = { serviceRange: "10.30.0.0/16", subnets, key: "a key of all workers" };
    return this.publish(topics.network(WORKER_ID), JSON.stringify(network));
  }

  /** Tells the worker what it has an interest in, or whatever else a test makes up. */
  tell({ tables = [], answers = [], gone = [] }: Partial<RouteUpdate>): Promise<void> {
    return this.publish(topics.routes(WORKER_ID), JSON.stringify({ tables, answers, gone }), false);
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

  /** The tables of services with a place in the overlay follow from what is wanted, and from what the worker says of it. */
  async #serve(wanted: readonly DesiredInstance[]): Promise<void> {
    const byService = Map.groupBy(wanted, ({ serviceId }) => serviceId);
    for (const serviceId of new Set([...byService.keys(), ...this.services.keys()])) {
      const instances = byService.get(serviceId) ?? [];
      const [first] = instances;
      const known = this.services.get(serviceId);
      const base = first?.network ? { ...first, ...first.network, generation: 0, workers: [] } : known;
      if (!base || (!first && !this.#isOurs(serviceId))) continue;
      const { applicationId, jobName, roundRobin, closest } = base;
      await this.#put({
        ...{ serviceId, applicationId, jobName, roundRobin, closest, workers: known?.workers ?? [] },
        generation: (known?.generation ?? 0) + 1,
        instances: instances.flatMap(({ instanceNumber: number, network }) =>
          network
            ? [{ ...known?.instances.find((one) => one.number === number), number, address: network.instanceAddress }]
            : [],
        ),
      });
    }
  }

  #isOurs(serviceId: string): boolean {
    return [...this.instances.keys()].some((instanceId) => instanceId.startsWith(serviceId));
  }

  async #put(table: ServiceRoute): Promise<void> {
    this.services.set(table.serviceId, table);
    if (this.answers) await this.tell({ tables: [table] });
  }

  #follow({ instanceId, live }: InstanceReport): void {
    const [serviceId = "", number] = instanceId.split("-");
    const known = this.services.get(serviceId);
    const before = known?.instances.find((one) => one.number === Number(number));
    if (!known || !before || before.live?.sandbox === live?.sandbox) return;
    const target = live && { live: { sandbox: live.sandbox, workerId: WORKER_ID } };
    const instances = known.instances.map((one) =>
      one === before ? { number: one.number, address: one.address, ...target } : one,
    );
    const workers = live ? [{ ...live.worker, id: WORKER_ID }] : known.workers;
    void this.#put({ ...known, generation: known.generation + 1, instances, workers });
  }

  #answer(interest: Interest): void {
    this.interests.push(interest);
    if (!this.answers) return;
    const answers = interest.add.map((key) => {
      const services = [...this.services.values()].filter((service) => keysOf(service).includes(key));
      return { key, serviceIds: services.map(({ serviceId }) => serviceId) };
    });
    const named = new Set(answers.flatMap(({ serviceIds }) => serviceIds));
    const tables = [...this.services.values()].filter(({ serviceId }) => named.has(serviceId));
    void this.tell({ answers, tables });
  }

  #heard(topic: string, payload: string): void {
    if (topic === topics.presence(WORKER_ID)) this.presence = payload;
    if (topic === topics.logData(WORKER_ID)) this.logs.push(JSON.parse(payload));
    if (topic === topics.checked(WORKER_ID)) this.checked.push(JSON.parse(payload));
    if (topic === topics.interest(WORKER_ID)) this.#answer(Interest.parse(JSON.parse(payload)));
    if (topic !== topics.report(WORKER_ID)) return;
    const report = WorkerReport.parse(JSON.parse(payload));
    this.reports.push(report);
    if (report.full) this.instances.clear();
    for (const instance of report.instances) {
      this.instances.set(instance.instanceId, instance);
      this.history.push(instance.status);
      this.#follow(instance);
    }
    for (const instanceId of report.removed) this.instances.delete(instanceId);
    this.removed.push(...report.removed);
  }
}

function keysOf({ jobName, applicationId, roundRobin, closest, instances }: ServiceRoute): InterestKey[] {
  const addresses = [roundRobin, closest, ...instances.map(({ address }) => address)];
  return [interestIn.name(jobName), interestIn.application(applicationId), ...addresses.map(interestIn.address)];
}

/** @param host address to listen on */
export async function startFakeCluster(host = "127.0.0.1"): Promise<FakeCluster> {
  return new FakeCluster(await Aedes.createBroker()).listen(host);
}
