import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { Aedes } from "aedes";
import { ManualClock } from "../base/clock.fake.ts";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { MqttClient, type MqttClientOptions } from "./mqtt-client.ts";

async function startBroker() {
  const broker = await Aedes.createBroker({
    authenticate: (_client, username, password, done) => {
      const isKnown = username === "w" && password?.toString() === "secret";
      done(isKnown ? null : Object.assign(new Error("no"), { returnCode: 4 }), isKnown);
    },
  });
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    broker.handle(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const published: { topic: string; payload: string }[] = [];
  broker.on("publish", ({ topic, payload }, client) => {
    if (client || topic === "gone") published.push({ topic, payload: payload.toString() });
  });
  return {
    broker,
    published,
    port: (server.address() as AddressInfo).port,
    cut: () => sockets.forEach((socket) => void socket.destroy()),
    async [Symbol.asyncDispose]() {
      sockets.forEach((socket) => void socket.destroy());
      await new Promise<void>((resolve) => broker.close(() => resolve()));
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function eventually(isTrue: () => boolean, withinMs = 5000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!isTrue()) {
    assert.ok(performance.now() < end, "not in time");
    await systemClock.sleep(5);
  }
}

function startClient(port: number, options: Partial<MqttClientOptions> = {}) {
  const stop = new AbortController();
  const messages: { topic: string; payload: string; retained: boolean }[] = [];
  const client = new MqttClient({
    host: "127.0.0.1",
    port,
    clientId: "c",
    username: "w",
    password: "secret",
    subscriptions: [{ topic: "in/#", qos: 1 }],
    onMessage: (topic, payload, retained) => messages.push({ topic, payload: payload.toString(), retained }),
    log: silentLogger,
    backoff: { firstMs: 20, maxMs: 100 },
    ...options,
  });
  const ended = client.run(stop.signal);
  return { client, messages, ended, stop: () => stop.abort() };
}

test("a client gets retained and live messages, and its own are acknowledged", async () => {
  await using it = await startBroker();
  await new Promise<void>((resolve) =>
    it.broker.publish({ cmd: "publish", topic: "in/a", payload: "kept", qos: 1, retain: true, dup: false }, () =>
      resolve(),
    ),
  );
  const { client, messages, ended, stop } = startClient(it.port);
  await eventually(() => messages.length === 1);
  assert.deepEqual(messages[0], { topic: "in/a", payload: "kept", retained: true });
  await client.publish({ topic: "in/b", payload: "live", qos: 1, retain: false });
  await eventually(() => messages.length === 2);
  assert.equal(client.unacknowledged, 0);
  stop();
  await ended;
});

test("after a cut the client connects again and sends again what nobody acknowledged", async () => {
  await using it = await startBroker();
  let connects = 0;
  const { client, ended, stop } = startClient(it.port, { onConnected: () => void connects++ });
  await eventually(() => connects === 1);
  it.cut();
  await eventually(() => !client.isConnected);
  const volatile = client.publish({ topic: "v", payload: "1", qos: 1, retain: false }, { resend: false });
  await assert.rejects(volatile, { code: "MQTT_OFFLINE" });
  await client.publish({ topic: "kept", payload: "1", qos: 1, retain: false });
  assert.equal(connects, 2);
  assert.ok(it.published.some(({ topic }) => topic === "kept"));
  stop();
  await ended;
});

test("a cut delivers the will; a clean end delivers the farewell and no will", async () => {
  await using it = await startBroker();
  const will = { topic: "gone", payload: "will", qos: 1, retain: false } as const;
  const farewell = { topic: "gone", payload: "farewell", qos: 1, retain: false } as const;
  const { client, ended, stop } = startClient(it.port, { will, farewell });
  await eventually(() => client.isConnected);
  it.cut();
  await eventually(() => it.published.some(({ payload }) => payload === "will"));
  it.published.length = 0;
  await eventually(() => client.isConnected);
  stop();
  await ended;
  await systemClock.sleep(50);
  assert.deepEqual(it.published, [{ topic: "gone", payload: "farewell" }]);
});

test("wrong credentials end the client with MQTT_UNAUTHORIZED", async () => {
  await using it = await startBroker();
  await assert.rejects(startClient(it.port, { password: "wrong" }).ended, { code: "MQTT_UNAUTHORIZED" });
});

test("a broker may refuse an optional subscription, of which older ones know nothing, but no other", async () => {
  await using it = await startBroker();
  it.broker.authorizeSubscribe = (_client, subscription, done) =>
    done(null, subscription.topic === "new" ? null : subscription);
  const old = { topic: "in/#", qos: 1 } as const;
  const willing = startClient(it.port, { subscriptions: [old, { topic: "new", qos: 0, isOptional: true }] });
  await eventually(() => willing.client.isConnected);
  willing.stop();
  await willing.ended;
  const strict = startClient(it.port, { subscriptions: [old, { topic: "new", qos: 0 }], maxFailures: 1 });
  await assert.rejects(strict.ended, { code: "MQTT_SUBSCRIPTION_REFUSED", message: /to new$/ });
});

test("a client that may fail so often ends with the last failure", async () => {
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, "127.0.0.1", resolve));
  const { port } = closed.address() as AddressInfo;
  await new Promise<void>((resolve) => closed.close(() => resolve()));
  await assert.rejects(startClient(port, { maxFailures: 3 }).ended, { code: "ECONNREFUSED" });
});

test("a connection in use is not pinged; an idle one is, so that both ends know", async () => {
  await using it = await startBroker();
  let pings = 0;
  it.broker.on("ping", () => {
    pings += 1;
  });
  const clock = new ManualClock();
  const { client, ended, stop } = startClient(it.port, { clock, keepAliveMs: 20_000, pingMs: 9_000 });
  await eventually(() => client.isConnected && clock.sleeping > 0);
  for (let second = 0; second < 60; second += 5) {
    await client.publish({ topic: "in/b", payload: "in use", qos: 1, retain: false });
    await clock.advance(5_000);
  }
  assert.equal(pings, 0);
  for (const count of [1, 2, 3]) {
    await clock.advance(9_000);
    await eventually(() => pings === count);
  }
  stop();
  await ended;
});

/** Answers CONNECT and SUBSCRIBE, then falls silent with the connection open. */
async function startSilentServer() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("data", () => {
      socket.write(Buffer.from([0x20, 2, 0, 0]));
      socket.once("data", (subscribe: Buffer) => socket.write(Buffer.from([0x90, 3, subscribe[2]!, subscribe[3]!, 1])));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    sockets,
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      sockets.forEach((socket) => void socket.destroy());
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

test("a broker that says nothing any more is given up", async () => {
  await using it = await startSilentServer();
  const reasons: Error[] = [];
  const onDisconnected = (reason: Error) => reasons.push(reason);
  const { ended, stop } = startClient(it.port, { keepAliveMs: 40, onDisconnected });
  await eventually(() => it.sockets.size > 1);
  assert.match(reasons[0]?.message ?? "", /silent/, "its end is told like that of any other connection");
  stop();
  await ended;
});

test("a broker that only takes, and never answers, is given up", async () => {
  await using it = await startSilentServer();
  const clock = new ManualClock();
  const reasons: Error[] = [];
  const onDisconnected = (reason: Error) => reasons.push(reason);
  const { client, ended, stop } = startClient(it.port, { clock, keepAliveMs: 20_000, pingMs: 9_000, onDisconnected });
  await eventually(() => client.isConnected && clock.sleeping > 0);
  for (let second = 0; second < 60 && reasons.length === 0; second += 3) {
    await client.publish({ topic: "in/b", payload: "unanswered", qos: 0, retain: false });
    await clock.advance(3_000);
  }
  assert.match(reasons[0]?.message ?? "", /silent for (?:3\d|4\d) s/);
  stop();
  await ended;
});
