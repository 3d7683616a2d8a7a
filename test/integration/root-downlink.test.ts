/** The root's orchestration against scripted clusters: real store, real HTTP upgrade, real WebSockets. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { WebSocket } from "ws";
import { ManualClock } from "../../src/base/clock.fake.ts";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { hasCode } from "../../src/base/errors.ts";
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
async function startRoot(folder: string, clock: Clock = systemClock) {
  const store = new SqliteRootStore(join(folder, "root.db"), clock);
  const changes = new Changes();
  const key = Buffer.alloc(32, 7);
  const registrySecrets = new RegistrySecrets(store, async () => key);
  const { orchestration, loops, accept } = createOrchestration({
    store,
    changes,
    registrySecrets,
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
type Root = Awaited<ReturnType<typeof startRoot>>;

async function withRoot(use: (root: Root) => Promise<void>, clock?: Clock): Promise<void> {
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
class ScriptedCluster {
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

async function eventually<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  const end = systemClock.monotonic() + 5_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(systemClock.monotonic() < end, `not in time: ${what}`);
    await systemClock.sleep(2);
  }
}

const room = (cpuMillis: number) =>
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

async function joined(root: Root, name: string, cpuMillis = 8000): Promise<ScriptedCluster> {
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

async function deploy(root: Root, descriptor: Partial<MicroserviceDescriptor> = {}, name = "web") {
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

const reportOf = (
  { instanceId, generation }: { instanceId: string; generation: number },
  status: InstanceReport["status"],
  change: Partial<InstanceReport> = {},
): InstanceReport => ({ instanceId, generation, status, detail: `is ${status}`, since: 1, restarts: 0, ...change });

const status = async (root: Root, id: string) => (await root.store.instances()).find((one) => one.id === id);

test("an assignment is sent at once, and its reports reach the store and the watchers", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { service, instance } = await deploy(root, { memory: 100, port: "8080:80", cmd: ["sh"] });
    let changes = 0;
    root.changes.onService(service.id, () => (changes += 1));
    const { assignments, revision, full } = await cluster.next("desired");
    assert.deepEqual([revision, full, assignments.length], [2, false, 1]);
    const [one] = assignments;
    assert.deepEqual(
      [one?.instanceId, one?.generation, one?.jobName, one?.request.virtualization, one?.workload.command],
      [instance.id, 1, "web.prod.web.prod", "container", ["sh"]],
    );
    assert.deepEqual(one?.request.ports, [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }]);
    cluster.report({ instances: [reportOf(one!, "RUNNING", { cpuPercent: 1 })], aggregate: room(7000) });
    await eventually("running", async () =>
      (await status(root, instance.id))?.status === "RUNNING" ? true : undefined,
    );
    const before = await eventually("notified", () => (changes > 0 ? changes : undefined));
    cluster.report({ instances: [reportOf(one!, "RUNNING", { cpuPercent: 55 })] });
    await eventually("measured", () =>
      root.orchestration.reportOf(instance.id)?.cpuPercent === 55 ? true : undefined,
    );
    assert.equal((await status(root, instance.id))?.report?.cpuPercent, undefined, "measurements are not stored");
    assert.equal(changes, before);
    await root.store.removeInstance(instance.id);
    root.orchestration.trigger();
    assert.deepEqual((await cluster.next("desired")).removed, [instance.id]);
  }));

test("what a cluster declines goes to the next one; when all decline, the reasons are told", () =>
  withRoot(async (root) => {
    const first = await joined(root, "first", 8000);
    const second = await joined(root, "second", 4000);
    const { instance } = await deploy(root);
    const offered = (await first.next("desired")).assignments[0]!;
    first.report({ instances: [reportOf(offered, "NO_WORKER_CAPACITY", { detail: "port is held" })] });
    const again = (await second.next("desired")).assignments[0]!;
    assert.deepEqual([again.instanceId, again.generation], [instance.id, 2]);
    assert.deepEqual((await first.next("desired")).removed, [instance.id]);
    second.report({ instances: [reportOf(again, "NO_WORKER_CAPACITY", { detail: "no room either" })] });
    const refused = await eventually("refused", async () => {
      const now = await status(root, instance.id);
      return now?.status === "NoActiveClusterWithCapacity" ? now : undefined;
    });
    assert.match(refused.detail, /port is held.*no room either/);
    second.report({ aggregate: room(8000) });
    // The first decline still holds, the second cluster has room again.
    const third = await eventually("offered again", () =>
      second.received.flatMap((one) => (one.type === "desired" ? one.assignments : [])).at(-1),
    );
    assert.equal(third.generation, 3);
  }));

test("a gap in the reports asks for all of them; a cluster that lost count gets everything", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { instance } = await deploy(root);
    const [one] = (await cluster.next("desired")).assignments;
    cluster.send({ type: "report", revision: 9, full: false, instances: [reportOf(one!, "RUNNING")], removed: [] });
    await cluster.next("resync");
    assert.equal((await status(root, instance.id))?.status, "CLUSTER_SCHEDULED");
    cluster.send({ type: "report", revision: 10, full: true, instances: [reportOf(one!, "RUNNING")], removed: [] });
    await eventually("running", async () =>
      (await status(root, instance.id))?.status === "RUNNING" ? true : undefined,
    );
    cluster.send({ type: "resync" });
    const everything = await cluster.next("desired");
    assert.deepEqual([everything.full, everything.revision, everything.assignments.length], [true, 3, 1]);
  }));

test("who may not join is told why, and closed", () =>
  withRoot(async (root) => {
    const edge = await joined(root, "edge");
    const cases: readonly [string, Record<string, unknown>, string][] = [
      ["no token", { clusterName: "new" }, "TOKEN_INVALID"],
      ["wrong token", { clusterName: "new", joinToken: "guess" }, "TOKEN_INVALID"],
      ["wrong key", { clusterName: "edge" }, "TOKEN_INVALID"],
      ["taken name", { clusterName: "edge", joinToken: await root.token() }, "NAME_TAKEN"],
      ["old protocol", { protocol: 0, joinToken: await root.token() }, "PROTOCOL_UNSUPPORTED"],
      ["no hello", { type: "report" }, "HELLO_INVALID"],
      ["bad name", { clusterName: "a b" }, "HELLO_INVALID"],
    ];
    for (const [what, hello, code] of cases) {
      const stranger = new ScriptedCluster(root.url);
      await stranger.hello(hello);
      const refused = await stranger.next("refused");
      assert.equal(refused.code, code, what);
      assert.ok(refused.message.length > 10 && !refused.message.includes(stranger.key));
      assert.equal((await stranger.closed()).code, 1008, what);
    }
    assert.equal((await root.store.clusters()).length, 1);
    assert.equal(root.orchestration.isActive((await root.store.clusters())[0]!.id), true);
    edge.close();
  }));

test("too many refusals close the door for a while", () =>
  withRoot(async (root) => {
    for (let index = 0; index < 30; index++) {
      const stranger = new ScriptedCluster(root.url);
      await stranger.hello();
      await stranger.closed();
    }
    const late = new WebSocket(root.url);
    const answer = await new Promise<number | undefined>((resolve) => {
      late.on("unexpected-response", (_request, response) => resolve(response.statusCode));
      late.on("error", () => resolve(undefined));
    });
    assert.equal(answer, 429);
    late.terminate();
  }));

test("malformed messages close the link with a reason, and nothing else", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    let link = cluster;
    for (const bad of ["{", '"text"', '{"type":"report"}', '{"type":"unknown"}', '{"type":"hello"}']) {
      link.send(bad);
      assert.equal((await link.closed()).code, 1008, bad);
      link = new ScriptedCluster(root.url, cluster.key);
      await link.hello();
      await link.next("welcome");
    }
    link.send("x".repeat(9 * 1024 * 1024));
    assert.equal((await link.closed()).code, 1009);
  }));

test("a newer link of a cluster replaces the older one", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const newer = new ScriptedCluster(root.url, cluster.key);
    await newer.hello();
    await newer.next("welcome");
    assert.equal((await cluster.closed()).code, 4000);
    assert.equal((await newer.next("desired")).full, true);
    assert.equal(root.orchestration.isActive((await root.store.clusters())[0]!.id), true);
  }));

test("a root that starts again knows everything, and tells a returning cluster all of it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-root-"));
  const first = await startRoot(folder);
  const cluster = await joined(first, "edge");
  const { instance } = await deploy(first);
  const [one] = (await cluster.next("desired")).assignments;
  cluster.report({ instances: [reportOf(one!, "RUNNING")] });
  await eventually("running", async () =>
    (await status(first, instance.id))?.status === "RUNNING" ? true : undefined,
  );
  await first.stop();
  assert.equal((await cluster.closed()).code, 1001);

  const second = await startRoot(folder);
  try {
    assert.equal((await status(second, instance.id))?.status, "RUNNING");
    const back = new ScriptedCluster(second.url, cluster.key);
    await back.hello();
    await back.next("welcome");
    const desired = await back.next("desired");
    assert.deepEqual(desired.assignments, [one]);
    assert.equal(desired.full, true);
  } finally {
    await second.stop();
    rmSync(folder, { recursive: true });
  }
});

test("the registry login travels with the assignment, and again when it changes", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const login = { owner: "ann", name: "hub", server: "hub.local", username: "me" };
    await root.registrySecrets.put({ ...login, password: "one" });
    await deploy(root, { registry: "hub" });
    const first = (await cluster.next("desired")).assignments[0]!;
    assert.deepEqual(first.workload.credentials, { server: "hub.local", username: "me", password: "one" });
    assert.doesNotMatch(JSON.stringify(await root.store.registryPassword("ann", "hub")), /one/);
    await root.registrySecrets.put({ ...login, password: "two" });
    root.orchestration.trigger();
    const again = (await cluster.next("desired")).assignments[0]!;
    assert.deepEqual([again.generation, again.workload.credentials?.password], [1, "two"]);
  }));

test("logs stream through; unknown instances and lost links are errors", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { instance } = await deploy(root);
    await cluster.next("desired");
    const stop = new AbortController();
    const open = (id: string, signal = stop.signal) =>
      root.orchestration.openLog(id, { follow: true, tailLines: 10 }, signal)[Symbol.asyncIterator]();
    const log = open(instance.id);
    const first = log.next();
    const { stream, tailLines, follow } = await cluster.next("log.open");
    assert.deepEqual([tailLines, follow], [10, true]);
    cluster.send({ type: "log.data", stream, chunk: "hello\n" });
    cluster.send({ type: "log.data", stream: "another", chunk: "not mine" });
    assert.equal((await first).value, "hello\n");
    cluster.send({ type: "log.data", stream, chunk: "bye\n" });
    assert.equal((await log.next()).value, "bye\n");
    cluster.send({ type: "log.end", stream });
    assert.equal((await log.next()).done, true);

    await assert.rejects(open(`${"0".repeat(24)}-0`).next(), (error) => hasCode(error, "NOT_FOUND"));
    const second = open(instance.id).next();
    cluster.send({ type: "log.end", stream: (await cluster.next("log.open")).stream, error: "worker is away" });
    await assert.rejects(second, (error) => hasCode(error, "UNAVAILABLE"));
    const third = open(instance.id);
    const word = third.next();
    cluster.send({ type: "log.data", stream: (await cluster.next("log.open")).stream, chunk: "x" });
    await word;
    stop.abort();
    assert.equal((await third.next()).done, true);
    await cluster.next("log.close");
    const fourth = open(instance.id, new AbortController().signal).next();
    await cluster.next("log.open");
    cluster.close();
    await assert.rejects(fourth, (error) => hasCode(error, "UNAVAILABLE"));
    await assert.rejects(open(instance.id, new AbortController().signal).next(), (error) =>
      hasCode(error, "UNAVAILABLE"),
    );
  }));

test("who does not say hello, or falls silent, is cut off", async () => {
  const clock = new ManualClock();
  await withRoot(async (root) => {
    const speechless = new ScriptedCluster(root.url);
    const mute = new ScriptedCluster(root.url, secretToken(), { autoPong: false });
    const alive = new ScriptedCluster(root.url);
    await mute.hello({ clusterName: "mute", joinToken: await root.token() });
    await alive.hello({ clusterName: "alive", joinToken: await root.token() });
    await Promise.all([mute.next("welcome"), alive.next("welcome")]);
    await clock.advance(10_000);
    assert.equal((await speechless.closed()).code, 1006);
    const [muteId, aliveId] = (await root.store.clusters()).map(({ id }) => id) as [string, string];
    const heard = () => root.orchestration.heardAt(aliveId) === clock.now() || undefined;
    await eventually("first pong", heard);
    await clock.advance(10_000);
    await eventually("second pong", heard);
    await clock.advance(10_000);
    assert.equal((await mute.closed()).code, 1006);
    await eventually("gone", () => !root.orchestration.isActive(muteId) || undefined);
    assert.equal(root.orchestration.isActive(aliveId), true);
    alive.close();
  }, clock);
});

test("a removed cluster is disconnected, and its key opens no door any more", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { instance } = await deploy(root);
    await cluster.next("desired");
    const { id } = (await root.store.clusters())[0]!;
    await root.store.removeCluster(id);
    root.orchestration.disconnect(id);
    assert.equal((await cluster.closed()).code, 4001);
    await eventually("unplaced", async () =>
      (await status(root, instance.id))?.status === "NoActiveClusterWithCapacity" ? true : undefined,
    );
    const back = new ScriptedCluster(root.url, cluster.key);
    await back.hello();
    assert.equal((await back.next("refused")).code, "TOKEN_INVALID");
  }));
