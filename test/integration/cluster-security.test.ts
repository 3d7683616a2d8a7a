import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import mqtt, { type Packet } from "mqtt-packet";
import { topics } from "../../src/protocol/mqtt.ts";
import { HttpClient } from "../../src/transport/http-client.ts";
import { assignment, eventually, ScriptedWorker, TestCluster, workerInfo } from "./cluster-fixture.ts";

/** MQTT without manners. */
class RawClient {
  readonly packets: Packet[] = [];
  readonly socket: Socket;
  isClosed = false;

  constructor(port: number) {
    this.socket = connect(port, "127.0.0.1");
    const parser = mqtt.parser({ protocolVersion: 4 });
    parser.on("packet", (packet) => this.packets.push(packet));
    this.socket.on("data", (data) => parser.parse(data));
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.isClosed = true;
    });
  }

  send(packet: Packet): void {
    this.socket.write(mqtt.generate(packet));
  }

  connect(username: string, password: string, change: object = {}): void {
    const base = { cmd: "connect", protocolId: "MQTT", protocolVersion: 4, clean: true, clientId: "x", keepalive: 30 };
    this.send({ ...base, username, password: Buffer.from(password), ...change } as Packet);
  }

  publish(topic: string, change: object = {}): void {
    this.send({ cmd: "publish", topic, payload: "{}", qos: 1, messageId: 1, retain: false, dup: false, ...change });
  }

  async answers(cmd: string): Promise<Packet & { returnCode?: number; granted?: number[] }> {
    await eventually(cmd, () => this.packets.some((one) => one.cmd === cmd));
    return this.packets.find((one) => one.cmd === cmd) as never;
  }
}

test("registration: a token serves once, identity is the key, a taken host name is refused with a remedy", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const token = await it.role!.issueWorkerToken();
  const again = await worker.register(it.joinPort);
  assert.equal((again.body as { id: string }).id, worker.id, "a known key needs no token");

  const namesake = await new ScriptedWorker(workerInfo("w1")).register(it.joinPort, token);
  assert.equal(namesake.status, 409);
  assert.match(JSON.stringify(namesake.body), /oak worker rm w1/);
  assert.equal((await new ScriptedWorker(workerInfo("w2")).register(it.joinPort)).status, 401);
  assert.equal((await new ScriptedWorker(workerInfo("w2")).register(it.joinPort, "wrong")).status, 401);
  const second = new ScriptedWorker(workerInfo("w2"));
  assert.equal((await second.register(it.joinPort, token)).status, 200, "a refused name does not spend the token");
  assert.notEqual(second.id, worker.id);
  assert.equal((await new ScriptedWorker(workerInfo("w3")).register(it.joinPort, token)).status, 401);

  await it.operate("DELETE", `/api/workers/${worker.id}`);
  const heir = new ScriptedWorker(workerInfo("w1"));
  assert.equal((await heir.register(it.joinPort, await it.role!.issueWorkerToken())).status, 200);
});

test("a half registration is refused and never becomes a worker", async () => {
  await using it = await TestCluster.start();
  const http = new HttpClient(`http://127.0.0.1:${it.joinPort}`);
  const joinToken = await it.role!.issueWorkerToken();
  const key = "k".repeat(32);
  const send = (body: unknown) => http.send("POST", "/api/node/register", { body });
  const { memoryBytes: _memory, ...half } = workerInfo("w1");
  const answers = [
    await send({ protocol: 1, key, joinToken, info: half }),
    await send({ protocol: 1, key: "short", joinToken, info: workerInfo("w1") }),
    await send({ protocol: 9, key }),
    await send([]),
    await send({ protocol: 1, key, joinToken, info: workerInfo("w1"), padding: "x".repeat(100_000) }),
  ];
  assert.deepEqual(
    answers.map(({ status, body }) => [status, (body as { error: string }).error]),
    [
      [422, "INVALID_BODY"],
      [422, "INVALID_BODY"],
      [400, "PROTOCOL_UNSUPPORTED"],
      [422, "INVALID_BODY"],
      [413, "BODY_TOO_LARGE"],
    ],
  );
  assert.match(JSON.stringify(answers[0]!.body), /info\.memoryBytes/);
  assert.deepEqual(await it.workersBy(), {});
});

test("a worker that registered and never reported is shown, with the reason, and never offered", async () => {
  await using it = await TestCluster.start();
  const half = new ScriptedWorker(workerInfo("half", { cpuMillis: 64_000 }));
  assert.equal((await half.register(it.joinPort, await it.role!.issueWorkerToken())).status, 200);
  const whole = await it.join(workerInfo("whole"));
  const { half: shown } = (await it.workersBy()) as Record<string, { status: string; detail?: string }>;
  assert.equal(shown!.status, "suspect");
  assert.match(shown!.detail!, /^registered, but has not reported .* it gets no instances until it does/);
  const wanted = assignment();
  it.root.want(wanted);
  await eventually("placed on the other", () => whole.lists(wanted));
  const pinned = assignment({ directWorkers: ["half"] });
  it.root.want(pinned);
  await eventually("waits", () =>
    /waiting to hear from worker "half" again/.test(it.root.instances.get(pinned.instanceId)?.detail ?? ""),
  );
  assert.equal(it.root.aggregate?.all.workers, 1, "its room is not told to the root");
});

test("the operator's pages want the operator's token, which only its owner can read", async () => {
  await using it = await TestCluster.start();
  const http = new HttpClient(`http://127.0.0.1:${it.joinPort}`);
  assert.equal((await http.send("GET", "/status/")).status, 200);
  assert.equal((await http.send("GET", "/api/workers")).status, 401);
  assert.equal((await http.send("POST", "/api/join-token", { token: "wrong" })).status, 401);
  assert.equal((await http.send("GET", "/api/node/register")).status, 405);
  assert.equal((await http.send("GET", "/else")).status, 404);
  assert.equal((await it.operate("GET", "/api/workers/0")).status, 404);
  const { status, body } = await it.operate("POST", "/api/join-token");
  assert.equal(status, 200);
  const worker = new ScriptedWorker(workerInfo("w1"));
  assert.equal((await worker.register(it.joinPort, (body as { token: string }).token)).status, 200);
  for (const file of ["key", "operator-token"]) assert.equal(statSync(join(it.stateDir, file)).mode & 0o777, 0o600);
  const key = readFileSync(join(it.stateDir, "key"), "utf8").trim();
  assert.equal(it.root.hellos[0]!.key, key);
  for (let tries = 0; tries < 30; tries++) await http.send("GET", "/api/workers");
  assert.equal((await http.send("GET", "/api/workers")).status, 429);
});

test("the broker knows workers by their keys, and each may touch only its own topics", async () => {
  await using it = await TestCluster.start();
  const [first, second] = [await it.join(workerInfo("w1")), await it.join(workerInfo("w2"))];
  // Their own connections would take the ones below over.
  await Promise.all([first.disconnect(), second.disconnect()]);
  const refused = async (user: string, key: string, change: object = {}) => {
    const client = new RawClient(it.mqttPort);
    client.connect(user, key, change);
    await eventually("closed", () => client.isClosed);
    return client.packets.map((one) => (one.cmd === "connack" ? one.returnCode : one.cmd));
  };
  assert.deepEqual(await refused(first.id, second.key), [4]);
  assert.deepEqual(await refused("nobody", first.key), [4]);
  assert.deepEqual(await refused(first.id, first.key, { clean: false }), []);

  for (const [topic, change] of [
    [topics.report(second.id), {}],
    [topics.manifest(first.id), { retain: true }],
    [topics.report(first.id), { qos: 2 }],
    [topics.report(first.id), { retain: true }],
    ["$SYS/x", {}],
  ] as const) {
    const client = new RawClient(it.mqttPort);
    client.connect(first.id, first.key);
    await client.answers("connack");
    client.publish(topic, change);
    await eventually(`publishing to ${topic} ends the connection`, () => client.isClosed);
  }
  const reader = new RawClient(it.mqttPort);
  reader.connect(first.id, first.key);
  await reader.answers("connack");
  const filters = ["#", topics.manifest(second.id), topics.desiredOf(second.id), topics.manifest(first.id)];
  reader.send({ cmd: "subscribe", messageId: 2, subscriptions: filters.map((topic) => ({ topic, qos: 1 })) });
  assert.deepEqual((await reader.answers("suback")).granted, [128, 128, 128, 1]);
  reader.socket.destroy();
});

test("malformed messages are counted and dropped, oversized packets end their connection, nothing else suffers", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const bystander = await it.join(workerInfo("w2"));
  const wanted = assignment({ directWorkers: ["w1"] });
  it.root.want(wanted);
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  for (const payload of ["", "not json", "[]", "null", '{"sequence":"x"}', `{"a":${"[".repeat(50_000)}`])
    await worker.publish(topics.report(worker.id), payload);
  await worker.publish(topics.logData(worker.id), "{}");
  await worker.reportStatus(`${"f".repeat(24)}-1`, "RUNNING").catch(() => {});
  assert.equal((await it.workersBy()).w1!.malformed_messages, 7);
  await worker.reportStatus(wanted.instanceId, "DEAD", { detail: "exit 1" });
  await eventually("still heard", () => it.root.statusOf(wanted) === "DEAD");

  const flood = new RawClient(it.mqttPort);
  flood.connect(worker.id, worker.key);
  await flood.answers("connack");
  // Announces 256 MB.
  flood.socket.write(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
  await eventually("cut off", () => flood.isClosed);
  const junk = new RawClient(it.mqttPort);
  junk.socket.write("GET / HTTP/1.1\r\n\r\n");
  await eventually("cut off", () => junk.isClosed);
  const more = assignment({ directWorkers: ["w2"] });
  it.root.want(more);
  await eventually("others go on", () => bystander.lists(more));
});

test("missing reports end the connection, so that the next begins with a full one; repeated ones say nothing", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"), false);
  const wanted = assignment();
  it.root.want(wanted);
  await eventually("listed", () => worker.lists(wanted));
  await worker.reportStatus(wanted.instanceId, "RUNNING", { detail: "one" });
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  const { generation } = worker.manifest.instances[0]!;
  const said = {
    instanceId: wanted.instanceId,
    generation,
    status: "DEAD",
    detail: "",
    since: 2,
    restarts: 0,
  } as const;
  await worker.report({ sequence: 1, instances: [said] });
  worker.isDutiful = true;
  await worker.report({ sequence: 99, instances: [said] }).catch(() => {});
  await eventually("told everything again", () => it.root.instances.get(wanted.instanceId)?.detail === "scripted");
  assert.equal(it.root.statusOf(wanted), "RUNNING");
});

test("a connection that breaks is told by its last will", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  await worker.disconnect();
  const client = new RawClient(it.mqttPort);
  client.connect(worker.id, worker.key, {
    will: { topic: topics.presence(worker.id), payload: Buffer.from('{"online":false}'), qos: 1, retain: true },
  });
  await client.answers("connack");
  const report = { sequence: 1, full: true, manifest: 0, cpuPercent: 0, memoryPercent: 0, instances: [], removed: [] };
  client.publish(topics.report(worker.id), { payload: JSON.stringify(report) });
  await it.untilStatus("w1", "active");
  client.socket.destroy();
  await it.untilStatus("w1", "suspect");
});

test("killed at any moment, the cluster goes on from what was on disk then", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const [kept, removed, later] = [assignment(), assignment(), assignment()];
  it.root.want(kept, removed);
  await eventually("running", () => it.root.statusOf(removed) === "RUNNING");
  const { generation } = worker.desired.get(kept.instanceId)!;
  cpSync(it.stateDir, `${it.stateDir}.killed`, { recursive: true });
  // What happens from here on was lost with the process, as far as its disk goes.
  it.root.want(later);
  it.root.unwant(removed);
  await eventually("went on", () => it.root.statusOf(later) === "RUNNING" && !worker.lists(removed));
  await it.stopCluster();
  rmSync(it.stateDir, { recursive: true });
  cpSync(`${it.stateDir}.killed`, it.stateDir, { recursive: true });
  rmSync(`${it.stateDir}.killed`, { recursive: true });
  await it.startCluster();
  await eventually("the root's wish", () => it.root.statusOf(later) === "RUNNING", 20_000);
  await eventually("nothing more", () => !worker.lists(removed) && worker.lists(kept));
  assert.equal(worker.desired.get(kept.instanceId)!.generation, generation, "what runs is left alone");
  await eventually("told again", () => it.root.statusOf(kept) === "RUNNING");
});
