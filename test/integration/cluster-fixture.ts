/** A real cluster between a scripted root and scripted workers, in one process, on ports of their own. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type WebSocket, WebSocketServer } from "ws";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { objectId, secretToken } from "../../src/base/random.ts";
import { resolveSettings } from "../../src/base/settings.ts";
import { type ClusterRole, createCluster } from "../../src/cluster/cluster.ts";
import { CLUSTER_SETTINGS, type ClusterSettings } from "../../src/cluster/settings.ts";
import type { Aggregate, WorkerInfo } from "../../src/protocol/capacity.ts";
import type { Assignment, InstanceReport, InstanceStatus } from "../../src/protocol/instance.ts";
import {
  DesiredInstance,
  type LogData,
  LogRequest,
  Manifest,
  Measure,
  parseTopic,
  topics,
  WorkerNetwork,
  type WorkerReport,
} from "../../src/protocol/mqtt.ts";
import { type CheckAnswer, CheckQuestion } from "../../src/protocol/net-check.ts";
import { type Interest, type InterestKey, RouteUpdate, type ServiceRoute } from "../../src/protocol/route.ts";
import { ClusterMessage, PROTOCOL_VERSION, type RootMessage, UPLINK_PATH } from "../../src/protocol/uplink.ts";
import { HttpClient, type HttpRequest } from "../../src/transport/http-client.ts";
import { MqttClient } from "../../src/transport/mqtt-client.ts";

const MB = 1_048_576;

export async function eventually(what: string, isTrue: () => boolean, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!isTrue()) {
    assert.ok(performance.now() < end, `not in time: ${what}`);
    await systemClock.sleep(5);
  }
}

export function workerInfo(hostname: string, change: Partial<WorkerInfo> = {}): WorkerInfo {
  return {
    hostname,
    architecture: "amd64",
    cpuMillis: 1000,
    memoryBytes: 100 * MB,
    gpus: 0,
    virtualization: ["container"],
    publicIp: "192.0.2.7",
    runtime: "test",
    version: "test",
    labels: {},
    ...change,
  };
}

let numbers = 0;

export function assignment(change: Partial<Assignment["request"]> = {}, generation = 1): Assignment {
  const serviceId = objectId();
  numbers += 1;
  const request = {
    memoryBytes: 10 * MB,
    cpuMillis: 100,
    gpus: 0,
    virtualization: "container",
    architectures: [],
    ports: [],
    ...change,
  };
  return {
    instanceId: `${serviceId}-0`,
    generation,
    serviceId,
    applicationId: objectId(),
    jobName: `app.ns.s${numbers}.ns`,
    instanceNumber: 0,
    request,
    workload: {
      image: "busybox",
      command: [],
      environment: [],
      oneShot: false,
      fuse: false,
      stopGraceMs: 1000,
      memoryBytes: request.memoryBytes,
      cpuMillis: request.cpuMillis,
      ports: request.ports,
    },
  };
}

type Report = Extract<ClusterMessage, { type: "report" }>;

export class ScriptedRoot {
  readonly #http = createServer();
  readonly #server = new WebSocketServer({ server: this.#http, path: UPLINK_PATH });
  #socket: WebSocket | undefined;
  #revision = 0;
  #assignments = new Map<string, Assignment>();
  readonly hellos: Extract<ClusterMessage, { type: "hello" }>[] = [];
  readonly messages: ClusterMessage[] = [];
  /** Of the present link. */
  readonly instances = new Map<string, InstanceReport>();
  aggregate: Aggregate | undefined;
  #reported = 0;
  refuseOnce: string | undefined;
  /** Answers every key with nothing, unless told otherwise; undefined: does not answer. */
  answer: ((key: InterestKey) => readonly string[]) | undefined = () => [];
  /** Of the present link. */
  readonly interest = new Set<InterestKey>();

  async listen(port = 0): Promise<number> {
    this.#server.on("connection", (socket) => {
      socket.on("close", () => {
        if (this.#socket === socket) this.cut();
      });
      socket.on("message", (data: Buffer) => this.#receive(socket, ClusterMessage.parse(JSON.parse(data.toString()))));
    });
    await new Promise<void>((resolve) => this.#http.listen(port, "127.0.0.1", resolve));
    return (this.#http.address() as AddressInfo).port;
  }

  get isLinked(): boolean {
    return this.#socket !== undefined;
  }

  statusOf({ instanceId }: Assignment): InstanceStatus | undefined {
    return this.instances.get(instanceId)?.status;
  }

  want(...assignments: Assignment[]): void {
    for (const one of assignments) this.#assignments.set(one.instanceId, one);
    this.#desired(false, assignments, []);
  }

  unwant(...assignments: Assignment[]): void {
    const ids = assignments.map(({ instanceId }) => instanceId);
    for (const id of ids) this.#assignments.delete(id);
    this.#desired(false, [], ids);
  }

  send(message: RootMessage | string): void {
    this.#socket?.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** Loses a message: the next one has a gap before it. */
  skipRevision(): void {
    this.#revision += 1;
  }

  cut(): void {
    this.#socket?.terminate();
    this.#socket = undefined;
    this.instances.clear();
  }

  async close(): Promise<void> {
    for (const socket of this.#server.clients) socket.terminate();
    this.#server.close();
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }

  #receive(socket: WebSocket, message: ClusterMessage): void {
    this.messages.push(message);
    if (message.type === "hello") this.#greet(socket, message);
    else if (message.type === "report") this.#report(message);
    else if (message.type === "interest") this.#interest(message);
    else if (message.type === "resync") this.#desired(true, [...this.#assignments.values()], []);
  }

  #greet(socket: WebSocket, hello: Extract<ClusterMessage, { type: "hello" }>): void {
    this.hellos.push(hello);
    if (this.refuseOnce !== undefined) {
      socket.send(JSON.stringify({ type: "refused", code: "TOKEN_INVALID", message: this.refuseOnce }));
      this.refuseOnce = undefined;
      return;
    }
    this.#socket = socket;
    this.instances.clear();
    this.#reported = 0;
    this.send({ type: "welcome", protocol: PROTOCOL_VERSION, clusterId: "c" });
    this.#desired(true, [...this.#assignments.values()], []);
  }

  #interest({ full, add, remove }: Interest): void {
    if (full) this.interest.clear();
    for (const key of add) this.interest.add(key);
    for (const key of remove) this.interest.delete(key);
    const answers = add.flatMap((key) => (this.answer ? { key, serviceIds: [...this.answer(key)] } : []));
    if (answers.length > 0) this.send({ type: "routes", tables: [], answers, gone: [] });
  }

  #report(report: Report): void {
    assert.equal(report.full || report.revision === this.#reported + 1, true, "report revisions are consecutive");
    this.#reported = report.revision;
    if (report.full) this.instances.clear();
    for (const one of report.instances) {
      assert.equal(one.workerId, undefined);
      this.instances.set(one.instanceId, one);
    }
    for (const id of report.removed) this.instances.delete(id);
    this.aggregate = report.aggregate ?? this.aggregate;
  }

  #desired(full: boolean, assignments: readonly Assignment[], removed: readonly string[]): void {
    this.#revision += 1;
    this.send({
      type: "desired",
      revision: this.#revision,
      full,
      assignments: [...assignments],
      removed: [...removed],
    });
  }
}

export class ScriptedWorker {
  readonly key = secretToken();
  readonly info: WorkerInfo;
  readonly desired = new Map<string, DesiredInstance>();
  readonly logRequests: LogRequest[] = [];
  readonly questions: CheckQuestion[] = [];
  /** To a question about its routes; undefined: it does not answer. */
  checked: CheckAnswer["result"] | undefined;
  network: WorkerNetwork | undefined;
  measure: Measure = { peers: [], targets: [] };
  onMeasure: (measure: Measure) => void = () => {};
  /** Part of its full reports. */
  coordinate: WorkerReport["coordinate"];
  onRoutes: () => void = () => {};
  readonly tables = new Map<string, ServiceRoute>();
  readonly answers = new Map<InterestKey, readonly string[]>();
  manifest: Manifest = { revision: 0, instances: [] };
  id = "";
  #client: MqttClient | undefined;
  #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #sequence = 0;
  /** Manifest revision of this connection; older ones are late. */
  #newest = -1;
  /** Answers every manifest by running all of it; else the test reports. */
  isDutiful = true;
  #running = new Set<string>();

  constructor(info: WorkerInfo) {
    this.info = info;
  }

  get isConnected(): boolean {
    return this.#client?.isConnected ?? false;
  }

  async register(joinPort: number, joinToken?: string): Promise<{ status: number; body: unknown }> {
    const http = new HttpClient(`http://127.0.0.1:${joinPort}`);
    const body = { protocol: PROTOCOL_VERSION, key: this.key, info: this.info, ...(joinToken ? { joinToken } : {}) };
    const answer = await http.send("POST", "/api/node/register", { body });
    if (answer.status === 200) this.id = (answer.body as { id: string }).id;
    return answer;
  }

  async connect(mqttPort: number): Promise<void> {
    this.#stop = new AbortController();
    const offline = { topic: topics.presence(this.id), payload: '{"online":false}', qos: 1, retain: true } as const;
    const client: MqttClient = new MqttClient({
      host: "127.0.0.1",
      port: mqttPort,
      clientId: this.id,
      username: this.id,
      password: this.key,
      will: offline,
      farewell: offline,
      subscriptions: [
        { topic: topics.desiredOf(this.id), qos: 1 },
        { topic: topics.manifest(this.id), qos: 1 },
        { topic: topics.network(this.id), qos: 1 },
        { topic: topics.measure(this.id), qos: 1 },
        { topic: topics.routes(this.id), qos: 1 },
        { topic: topics.logRequest(this.id), qos: 0 },
        { topic: topics.check(this.id), qos: 0 },
      ],
      onMessage: (topic, payload) => this.#receive(topic, payload),
      onConnected: () => {
        this.#sequence = 0;
        this.#newest = -1;
        this.report({ full: true, ...(this.coordinate ? { coordinate: this.coordinate } : {}) }).catch(() => {});
      },
      log: silentLogger,
      backoff: { firstMs: 50, maxMs: 200 },
    });
    this.#client = client;
    this.#ended = client.run(this.#stop.signal);
    // A worker that was removed is refused; `disconnect` tells.
    this.#ended.catch(() => {});
    await eventually("mqtt link", () => client.isConnected);
  }

  /** @param change what differs from a report that everything of the manifest runs */
  async report(change: Partial<WorkerReport> = {}): Promise<void> {
    const running = this.isDutiful ? this.manifest.instances : [];
    const removed = [...this.#running].filter((id) => !running.some(({ instanceId }) => instanceId === id));
    this.#running = new Set(running.map(({ instanceId }) => instanceId));
    this.#sequence += 1;
    const report: WorkerReport = {
      sequence: this.#sequence,
      full: false,
      manifest: this.manifest.revision,
      cpuPercent: 1,
      memoryPercent: 2,
      instances: running.map(({ instanceId, generation }) => status(instanceId, generation, "RUNNING")),
      removed,
      ...change,
    };
    await this.publish(topics.report(this.id), JSON.stringify(report));
  }

  async reportStatus(instanceId: string, to: InstanceStatus, change: Partial<InstanceReport> = {}): Promise<void> {
    const { generation } = this.manifest.instances.find((one) => one.instanceId === instanceId)!;
    await this.report({ instances: [{ ...status(instanceId, generation, to), ...change }], removed: [] });
  }

  async publish(topic: string, payload: string): Promise<void> {
    await this.#client!.publish({ topic, payload, qos: 1, retain: false }, { resend: false });
  }

  async ask(...add: InterestKey[]): Promise<void> {
    await this.publish(topics.interest(this.id), JSON.stringify({ full: false, add, remove: [] } satisfies Interest));
  }

  /** As at connect. */
  async askAll(...add: InterestKey[]): Promise<void> {
    await this.publish(topics.interest(this.id), JSON.stringify({ full: true, add, remove: [] } satisfies Interest));
  }

  async drop(...remove: InterestKey[]): Promise<void> {
    await this.publish(topics.interest(this.id), JSON.stringify({ full: false, add: [], remove } satisfies Interest));
  }

  async sendLog(data: LogData): Promise<void> {
    await this.publish(topics.logData(this.id), JSON.stringify(data));
  }

  lists({ instanceId }: Assignment): boolean {
    return this.manifest.instances.some((one) => one.instanceId === instanceId);
  }

  async disconnect(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  #receive(topic: string, payload: Buffer): void {
    const parsed = parseTopic(topic)!;
    if (parsed.kind === "desired") {
      if (payload.length === 0) this.desired.delete(parsed.instanceId);
      else this.desired.set(parsed.instanceId, DesiredInstance.parse(JSON.parse(payload.toString())));
    } else if (parsed.kind === "manifest") {
      const manifest = Manifest.parse(JSON.parse(payload.toString()));
      if (manifest.revision <= this.#newest) return;
      this.#newest = manifest.revision;
      this.manifest = manifest;
      for (const { instanceId, generation } of this.manifest.instances)
        assert.equal(this.desired.get(instanceId)?.generation, generation, "desired topics come before their manifest");
      if (this.isDutiful) this.report().catch(() => {});
    } else if (parsed.kind === "network") {
      this.network = payload.length === 0 ? undefined : WorkerNetwork.parse(JSON.parse(payload.toString()));
    } else if (parsed.kind === "measure") {
      if (payload.length === 0) return;
      this.measure = Measure.parse(JSON.parse(payload.toString()));
      this.onMeasure(this.measure);
    } else if (parsed.kind === "check") this.#check(CheckQuestion.parse(JSON.parse(payload.toString())));
    else if (parsed.kind === "routes") this.#takeRoutes(RouteUpdate.parse(JSON.parse(payload.toString())));
    else this.logRequests.push(LogRequest.parse(JSON.parse(payload.toString())));
  }

  #check(question: CheckQuestion): void {
    this.questions.push(question);
    if (!this.checked) return;
    const answer: CheckAnswer = { question: question.question, result: this.checked };
    this.publish(topics.checked(this.id), JSON.stringify(answer)).catch(() => {});
  }

  #takeRoutes(update: RouteUpdate): void {
    for (const table of update.tables) {
      const known = this.tables.get(table.serviceId);
      assert.ok(!known || known.generation < table.generation, "generations grow");
      this.tables.set(table.serviceId, table);
    }
    for (const { key, serviceIds } of update.answers) this.answers.set(key, serviceIds);
    for (const serviceId of update.gone) this.tables.delete(serviceId);
    this.onRoutes();
  }
}

function status(instanceId: string, generation: number, to: InstanceStatus): InstanceReport {
  return { instanceId, generation, status: to, detail: "scripted", since: 1, restarts: 0 };
}

export class TestCluster {
  readonly stateDir = mkdtempSync(join(tmpdir(), "oak-cluster-"));
  readonly root = new ScriptedRoot();
  readonly workers: ScriptedWorker[] = [];
  rootPort = 0;
  joinPort = 0;
  mqttPort = 0;
  role: ClusterRole | undefined;
  #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();

  static async start(change: Partial<ClusterSettings> = {}): Promise<TestCluster> {
    const it = new TestCluster();
    it.rootPort = await it.root.listen();
    await it.startCluster(change);
    await eventually("uplink", () => it.root.isLinked);
    return it;
  }

  /** Again on the same state folder and ports, as after a crash or an upgrade. */
  async startCluster(change: Partial<ClusterSettings> = {}): Promise<void> {
    const { values } = resolveSettings(CLUSTER_SETTINGS, {
      environment: {},
      flags: {
        stateDir: this.stateDir,
        root: `http://127.0.0.1:${this.rootPort}`,
        joinPort: this.joinPort,
        mqttPort: this.mqttPort,
        ...change,
      },
    });
    this.#stop = new AbortController();
    this.role = createCluster(values, { log: silentLogger, clock: systemClock, rootToken: async () => "token" });
    this.#ended = this.role.run(this.#stop.signal);
    ({ joinPort: this.joinPort, mqttPort: this.mqttPort } = await this.role.listening);
  }

  async stopCluster(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async join(info: WorkerInfo, isDutiful = true): Promise<ScriptedWorker> {
    const worker = new ScriptedWorker(info);
    worker.isDutiful = isDutiful;
    this.workers.push(worker);
    const { status: code } = await worker.register(this.joinPort, await this.role!.issueWorkerToken());
    assert.equal(code, 200);
    await worker.connect(this.mqttPort);
    await this.untilStatus(info.hostname, "active");
    return worker;
  }

  /** As the operator of the cluster. */
  async operate(method: string, path: string, request: HttpRequest = {}): Promise<{ status: number; body: unknown }> {
    const token = readFileSync(join(this.stateDir, "operator-token"), "utf8").trim();
    return new HttpClient(`http://127.0.0.1:${this.joinPort}`).send(method, path, { ...request, token });
  }

  async workersBy(): Promise<
    Record<string, { status: string; malformed_messages: number; memory_bytes_free: number; refused?: string }>
  > {
    const { body } = await this.operate("GET", "/api/workers");
    return Object.fromEntries((body as { hostname: string }[]).map((one) => [one.hostname, one])) as never;
  }

  async untilStatus(hostname: string, status: string): Promise<void> {
    for (let tries = 0; (await this.workersBy())[hostname]?.status !== status; tries++) {
      assert.ok(tries < 400, `${hostname} is not ${status} in time`);
      await systemClock.sleep(10);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.workers) await worker.disconnect().catch(() => {});
    await this.stopCluster();
    await this.root.close();
    rmSync(this.stateDir, { recursive: true });
  }
}
