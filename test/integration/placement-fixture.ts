/** A whole installation but for its machines: a real root with its API, real clusters, and scripted workers that say where they are. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { resolveSettings } from "../../src/base/settings.ts";
import { type ClusterRole, createCluster } from "../../src/cluster/cluster.ts";
import { CLUSTER_SETTINGS, type ClusterSettings } from "../../src/cluster/settings.ts";
import type { WorkerInfo } from "../../src/protocol/capacity.ts";
import { createRoot } from "../../src/root/root.ts";
import { ROOT_SETTINGS, type RootSettings } from "../../src/root/settings.ts";
import { HttpClient } from "../../src/transport/http-client.ts";
import { eventually } from "../support/eventually.ts";
import { ScriptedWorker, workerInfo } from "./cluster-fixture.ts";

const deps = { log: silentLogger, clock: systemClock };

export interface InstanceDoc {
  readonly instance_number: number;
  readonly status: string;
  readonly status_detail: string;
  readonly cluster_name: string;
}

export interface ExplainDoc {
  readonly timeline: { tier: string; status: string; detail: string }[];
  readonly decisions: { tier: string; lines: string[]; record?: unknown }[];
}

export class Installation {
  readonly folder = mkdtempSync(join(tmpdir(), "oak-placement-"));
  readonly workers = new Map<string, ScriptedWorker>();
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>[] = [];
  readonly #clusters = new Map<string, { role: ClusterRole; joinPort: number; mqttPort: number }>();
  readonly #flags: Partial<RootSettings>;
  #root: ReturnType<typeof createRoot>;
  #rootStop = new AbortController();
  #rootEnded: Promise<void> = Promise.resolve();
  #http: HttpClient | undefined;
  #token = "";

  constructor(change: Partial<RootSettings> = {}) {
    this.#flags = { stateDir: join(this.folder, "root"), port: 0, insecureDefaultAdmin: true, ...change };
    this.#root = this.#createRoot(this.#flags);
  }

  #createRoot(flags: Partial<RootSettings>): ReturnType<typeof createRoot> {
    return createRoot(resolveSettings(ROOT_SETTINGS, { environment: {}, flags }).values, deps);
  }

  async start(): Promise<this> {
    this.#rootEnded = this.#root.run(this.#rootStop.signal);
    this.#http = new HttpClient(`http://127.0.0.1:${(await this.#root.listening).port}`);
    this.#token = await this.logIn("Admin", "Admin");
    return this;
  }

  /** On the same folder and port. */
  async restartRoot(): Promise<void> {
    const { port } = this.#http!.server;
    this.#rootStop.abort();
    await this.#rootEnded;
    this.#rootStop = new AbortController();
    this.#root = this.#createRoot({ ...this.#flags, port: Number(port) });
    this.#rootEnded = this.#root.run(this.#rootStop.signal);
    await this.#root.listening;
  }

  async cluster(name: string, change: Partial<ClusterSettings> = {}): Promise<void> {
    const { port } = this.#http!.server;
    const flags = {
      name,
      stateDir: join(this.folder, name),
      root: `http://127.0.0.1:${port}`,
      joinPort: 0,
      mqttPort: 0,
    };
    const { values } = resolveSettings(CLUSTER_SETTINGS, { environment: {}, flags: { ...flags, ...change } });
    const role = createCluster(values, { ...deps, rootToken: () => this.#root.issueClusterToken() });
    this.#ended.push(role.run(this.#stop.signal));
    this.#clusters.set(name, { role, ...(await role.listening) });
  }

  /** @param x its place on a line, in milliseconds */
  async worker(
    cluster: string,
    hostname: string,
    x?: number,
    change: Partial<WorkerInfo> = {},
  ): Promise<ScriptedWorker> {
    const { role, joinPort, mqttPort } = this.#clusters.get(cluster)!;
    const worker = new ScriptedWorker(workerInfo(hostname, change));
    if (x !== undefined) worker.coordinate = { position: [x, 0, 0], heightMs: 0.1, error: 0.1 };
    this.workers.set(hostname, worker);
    await worker.register(joinPort, await role.issueWorkerToken());
    await worker.connect(mqttPort);
    return worker;
  }

  /** Until the root knows of so many workers everywhere, and of where they are. */
  async untilKnown(workers: number): Promise<void> {
    await eventually(
      async () => {
        const clusters = await this.get<{ active_nodes: number }[]>("/api/clusters/");
        return clusters.reduce((sum, one) => sum + Number(one.active_nodes), 0) === workers || undefined;
      },
      { what: `${workers} workers known to the root` },
    );
  }

  async logIn(username: string, password: string): Promise<string> {
    const { body } = await this.#http!.send("POST", "/api/auth/login", { body: { username, password } });
    return (body as { token: string }).token;
  }

  async send(
    method: string,
    path: string,
    body?: unknown,
    token = this.#token,
  ): Promise<{ status: number; body: unknown }> {
    return this.#http!.send(method, path, { token, ...(body === undefined ? {} : { body }) });
  }

  async get<T>(path: string, token = this.#token): Promise<T> {
    const { status, body } = await this.send("GET", path, undefined, token);
    assert.equal(status, 200, JSON.stringify(body));
    return body as T;
  }

  /** Registers an application, and starts one instance of each of these services. Returns the services' ids by name. */
  async deploy(
    name: string,
    services: readonly object[],
    started: readonly string[],
    token = this.#token,
  ): Promise<Record<string, string>> {
    const { status, body } = await this.send("POST", "/api/application", descriptor(name, services), token);
    assert.equal(status, 200, JSON.stringify(body));
    const ids = (body as { application_name: string; microservices: string[] }[]).find(
      (one) => one.application_name === name,
    )!.microservices;
    const found: Record<string, string> = {};
    for (const id of ids) {
      const service = await this.get<{ microservice_name: string }>(`/api/service/${id}`, token);
      found[service.microservice_name] = id;
    }
    for (const one of started) await this.instance(found[one]!);
    return found;
  }

  async instance(serviceId: string): Promise<void> {
    assert.equal((await this.send("POST", `/api/service/${serviceId}/instance`)).status, 200);
  }

  async instances(serviceId: string): Promise<InstanceDoc[]> {
    return (await this.get<{ instance_list: InstanceDoc[] }>(`/api/service/${serviceId}`)).instance_list;
  }

  /** Its first instance, once it is in this status. */
  untilStatus(serviceId: string, status: string): Promise<InstanceDoc> {
    return eventually(
      async () => {
        const [instance] = await this.instances(serviceId);
        if (instance?.status === status) return instance;
        throw new Error(`it is ${instance?.status}: ${instance?.status_detail}`);
      },
      { what: `an instance in status ${status}` },
    );
  }

  /** The host name of the worker that has an instance of this service. */
  hostOf(serviceId: string): string | undefined {
    return [...this.workers].find(([, { manifest }]) =>
      manifest.instances.some(({ instanceId }) => instanceId.startsWith(serviceId)),
    )?.[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.workers.values()) await worker.disconnect().catch(() => {});
    this.#stop.abort();
    await Promise.all(this.#ended);
    this.#rootStop.abort();
    await this.#rootEnded;
    rmSync(this.folder, { recursive: true });
  }
}

export function descriptor(name: string, services: readonly object[]) {
  return {
    sla_version: "v2.0",
    applications: [{ application_name: name, application_namespace: "prod", microservices: services }],
  };
}

export const service = (name: string, change: object = {}) => ({
  microservice_name: name,
  microservice_namespace: "prod",
  virtualization: "container",
  code: "busybox",
  memory: 10,
  ...change,
});

export const within = (ms: number, target: string) => ({
  connectivity: [{ target_microservice: target, con_constraints: [{ type: "latency", threshold: ms }] }],
});
