/** A root without its API between scripted clusters: real store, real HTTP upgrade, real WebSockets. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { secretDigest, secretToken } from "../../src/base/random.ts";
import { runTogether } from "../../src/base/task-group.ts";
import { aggregate } from "../../src/hierarchy/capacity.ts";
import type { MicroserviceDescriptor } from "../../src/protocol/descriptor.ts";
import type { InstanceReport } from "../../src/protocol/instance.ts";
import { PROTOCOL_VERSION, type RootMessage, UPLINK_PATH } from "../../src/protocol/uplink.ts";
import { Changes } from "../../src/root/changes.ts";
import { createOrchestration } from "../../src/root/orchestrator.ts";
import { RegistrySecrets } from "../../src/root/registry-secrets.ts";
import { SqliteRootStore } from "../../src/root/store/sqlite-root-store.ts";

type Kind = RootMessage["type"];
type Message<K extends Kind> = Extract<RootMessage, { type: K }>;

/** A root without its API, on a folder that outlives it. */
export async function startRoot(folder: string, clock: Clock = systemClock) {
  const store = new SqliteRootStore(join(folder, "root.db"), clock);
  const changes = new Changes();
  const key = Buffer.alloc(32, 7);
  const registrySecrets = new RegistrySecrets(store, async () => key);
  const { orchestration, loops, accept } = createOrchestration({
    store,
    changes,
    registrySecrets,
    overlayKey: async () => "key",
    strategy: "best-fit",
    clock,
    log: silentLogger,
  });
  const server = createServer().on("upgrade", accept);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = new AbortController();
  const ended = runTogether(loops, stop.signal);
  return {
    store,
    changes,
    registrySecrets,
    orchestration,
    url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}${UPLINK_PATH}`,
    async token() {
      const token = secretToken();
      await store.addJoinToken(secretDigest(token), clock.now() + 60_000);
      return token;
    },
    async stop() {
      stop.abort();
      await ended;
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      store.close();
    },
  };
}
export type Root = Awaited<ReturnType<typeof startRoot>>;

export async function withRoot(use: (root: Root) => Promise<void>, clock?: Clock): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "oak-root-"));
  const root = await startRoot(folder, clock);
  try {
    await use(root);
  } finally {
    await root.stop();
    rmSync(folder, { recursive: true });
  }
}

/** The other end of a link, saying what a test tells it to. */
export class ScriptedCluster {
  readonly key: string;
  readonly received: RootMessage[] = [];
  readonly #socket: WebSocket;
  #closed: { code: number; reason: string } | undefined;
  #revision = 0;

  constructor(url: string, key = secretToken(), options: { readonly autoPong?: boolean } = {}) {
    this.key = key;
    this.#socket = new WebSocket(url, options);
    this.#socket.on("message", (data) => this.received.push(JSON.parse(data.toString()) as RootMessage));
    this.#socket.on("close", (code, reason) => (this.#closed = { code, reason: reason.toString() }));
    this.#socket.on("error", () => {});
  }

  async hello(change: Record<string, unknown> = {}): Promise<void> {
    await eventually("open", () => this.#socket.readyState === WebSocket.OPEN || undefined);
    const { key } = this;
    this.send({
      type: "hello",
      protocol: PROTOCOL_VERSION,
      version: "0",
      clusterName: "edge",
      location: "",
      key,
      ...change,
    });
  }

  send(message: unknown): void {
    this.#socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  report(change: Record<string, unknown> = {}): void {
    this.#revision += 1;
    const full = this.#revision === 1;
    this.send({ type: "report", revision: this.#revision, full, instances: [], removed: [], ...change });
  }

  /** The next message of this type that has not been asked for. */
  async next<K extends Kind>(type: K): Promise<Message<K>> {
    const index = await eventually(type, () => {
      const found = this.received.findIndex((message) => message.type === type);
      return found < 0 ? undefined : found;
    });
    return this.received.splice(index, 1)[0] as Message<K>;
  }

  closed(): Promise<{ code: number; reason: string }> {
    return eventually("closed", () => this.#closed);
  }

  close(): void {
    this.#socket.close();
  }
}

export async function eventually<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = systemClock.monotonic() + 5_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(systemClock.monotonic() < end, `not in time: ${what}`);
    await systemClock.sleep(2);
  }
}

export const room = (cpuMillis: number) =>
  aggregate([
    {
      architecture: "amd64",
      virtualization: ["container"],
      total: { cpuMillis: 8000, memoryBytes: 1e9, gpus: 0 },
      free: { cpuMillis, memoryBytes: 1e9, gpus: 0 },
      cpuPercent: 1,
      memoryPercent: 1,
    },
  ]);

export async function joined(root: Root, name: string, cpuMillis = 8000): Promise<ScriptedCluster> {
  const cluster = new ScriptedCluster(root.url);
  await cluster.hello({ clusterName: name, joinToken: await root.token() });
  await cluster.next("welcome");
  assert.deepEqual(await cluster.next("desired"), {
    type: "desired",
    revision: 1,
    full: true,
    assignments: [],
    removed: [],
  });
  cluster.report({ aggregate: room(cpuMillis) });
  await eventually("aggregate", async () => {
    const clusters = await root.store.clusters();
    return root.orchestration.aggregateOf(clusters.find((one) => one.name === name)!.id);
  });
  return cluster;
}

export async function deploy(root: Root, descriptor: Partial<MicroserviceDescriptor> = {}, name = "web") {
  const microservice = {
    microservice_name: name,
    microservice_namespace: "prod",
    virtualization: "docker",
    code: "busybox",
    vcpus: 1,
    ...descriptor,
  };
  await root.store.addApplications("ann", [
    { application_name: name, application_namespace: "prod", microservices: [microservice] },
  ]);
  const service = (await root.store.services()).at(-1)!;
  const instance = await root.store.addInstance(service.id, systemClock.now());
  root.orchestration.trigger();
  return { service, instance };
}

export const reportOf = (
  { instanceId, generation }: { instanceId: string; generation: number },
  status: InstanceReport["status"],
  change: Partial<InstanceReport> = {},
): InstanceReport => ({ instanceId, generation, status, detail: `is ${status}`, since: 1, restarts: 0, ...change });

export const status = async (root: Root, id: string) => (await root.store.instances()).find((one) => one.id === id);
