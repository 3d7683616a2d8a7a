import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import mqtt, { type Packet } from "mqtt-packet";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { secretDigest } from "../base/random.ts";
import { Broker } from "./broker.ts";

const ID = "0123456789abcdef01234567";

test("the broker knows which workers are connected from an address, and forgets those that have gone", async (t) => {
  const broker = new Broker({
    ...{ host: "0.0.0.0", port: 0, onMessage: () => {}, onHeard: () => {}, clock: systemClock, log: silentLogger },
    keyDigestOf: () => secretDigest("key"),
  });
  await broker.open();
  const { port } = await broker.listen();
  t.after(() => broker.close());
  const join = async (from: string) => {
    const socket = connect({ host: "127.0.0.1", port, localAddress: from });
    const packet = { cmd: "connect", clientId: "", username: ID, password: Buffer.from("key"), clean: true } as const;
    socket.write(mqtt.generate({ ...packet, protocolId: "MQTT", protocolVersion: 4, keepalive: 30 }));
    await once(socket, "data");
    return socket;
  };
  const until = async (address: string, count: number) => {
    for (let tries = 0; broker.connectedFrom(address).size !== count; tries++) {
      assert.ok(tries < 1000, `${count} from ${address}`);
      await systemClock.sleep(5);
    }
  };
  const first = await join("127.0.0.8");
  await until("127.0.0.8", 1);
  assert.deepEqual([...broker.connectedFrom("127.0.0.8")], [ID]);
  assert.equal(broker.connectedFrom("127.0.0.9").size, 0);
  const second = await join("127.0.0.9");
  await until("127.0.0.9", 1);
  await until("127.0.0.8", 0);
  second.destroy();
  await until("127.0.0.9", 0);
  first.destroy();
});

test("any packet of a worker is a sign of life, and one of a stranger is none", async (t) => {
  const heard: string[] = [];
  const broker = new Broker({
    ...{ host: "127.0.0.1", port: 0, onMessage: () => {}, clock: systemClock, log: silentLogger },
    keyDigestOf: (id) => (id === ID ? secretDigest("key") : undefined),
    onHeard: (id) => heard.push(id),
  });
  await broker.open();
  const { port } = await broker.listen();
  t.after(() => broker.close());
  const send = (socket: Socket, packet: Packet) => socket.write(mqtt.generate(packet));
  const connectAs = async (key: string) => {
    const socket = connect({ host: "127.0.0.1", port });
    t.after(() => socket.destroy());
    const packet = { cmd: "connect", clientId: "", username: ID, password: Buffer.from(key), clean: true } as const;
    send(socket, { ...packet, protocolId: "MQTT", protocolVersion: 4, keepalive: 30 });
    await once(socket, "data");
    return socket;
  };
  const stranger = await connectAs("other");
  stranger.on("error", () => {});
  send(stranger, { cmd: "pingreq" });
  const worker = await connectAs("key");
  assert.deepEqual(heard, []);
  send(worker, { cmd: "puback", messageId: 7 });
  send(worker, { cmd: "pingreq" });
  await once(worker, "data");
  assert.ok(heard.length > 0);
  assert.deepEqual([...new Set(heard)], [ID]);
});

test("a crowd that dials at once is let in, and closing ends also those that have not said who they are", async () => {
  const broker = new Broker({
    ...{ host: "127.0.0.1", port: 0, onMessage: () => {}, onHeard: () => {}, clock: systemClock, log: silentLogger },
    keyDigestOf: () => secretDigest("key"),
  });
  await broker.open();
  const { port } = await broker.listen();
  const crowd = Array.from({ length: 100 }, (_, number) => {
    const socket = connect({ host: "127.0.0.1", port });
    const username = number.toString(16).padStart(24, "0");
    const packet = { cmd: "connect", clientId: "", username, password: Buffer.from("key"), clean: true } as const;
    socket.write(mqtt.generate({ ...packet, protocolId: "MQTT", protocolVersion: 4, keepalive: 30 }));
    return socket;
  });
  const silent = connect({ host: "127.0.0.1", port });
  await Promise.all([once(silent, "connect"), ...crowd.map((socket) => once(socket, "data"))]);
  const ends = [silent, ...crowd].map((socket) => once(socket, "close"));
  for (const socket of [silent, ...crowd]) socket.on("error", () => {}).resume();
  await broker.close();
  await Promise.all(ends);
});

test("whatever packet a worker sends, the broker goes on", async (t) => {
  const broker = new Broker({
    ...{ host: "127.0.0.1", port: 0, onMessage: () => {}, onHeard: () => {}, clock: systemClock, log: silentLogger },
    keyDigestOf: () => secretDigest("key"),
  });
  await broker.open();
  const { port } = await broker.listen();
  t.after(() => broker.close());
  const hello = { cmd: "connect", clientId: "", username: ID, password: Buffer.from("key"), clean: true } as const;
  const dial = async () => {
    const socket = connect({ host: "127.0.0.1", port });
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    socket.write(mqtt.generate({ ...hello, protocolId: "MQTT", protocolVersion: 4, keepalive: 30 }));
    await once(socket, "data");
    return socket;
  };
  const topic = `workers/${ID}/report`;
  const payload = Buffer.from("{}");
  const packets: Packet[] = [
    { cmd: "puback", messageId: 7 },
    { cmd: "pubrec", messageId: 7 },
    { cmd: "pubrel", messageId: 7 },
    { cmd: "pubcomp", messageId: 7 },
    { cmd: "publish", topic, payload, qos: 2, dup: false, retain: false, messageId: 8 },
    { cmd: "publish", topic, payload, qos: 1, dup: true, retain: true, messageId: 9 },
    { cmd: "subscribe", subscriptions: [{ topic: "#", qos: 2 }], messageId: 10 },
    { cmd: "subscribe", subscriptions: [{ topic: `workers/${ID}/manifest`, qos: 2 }], messageId: 11 },
    { cmd: "unsubscribe", unsubscriptions: ["nothing/like/it"], messageId: 12 },
    { cmd: "pingreq" },
    { ...hello, protocolId: "MQTT", protocolVersion: 4, keepalive: 30 },
    { cmd: "disconnect" },
  ];
  for (const packet of packets) {
    const socket = await dial();
    socket.write(mqtt.generate(packet));
    // Taken in, whether or not it is answered: what is asked of the next connection comes after.
    const ended = once(socket, "close");
    await Promise.race([once(socket, "data"), ended, systemClock.sleep(50)]);
    socket.destroy();
    await ended;
  }
  await dial();
});
