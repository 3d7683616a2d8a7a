import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import mqtt from "mqtt-packet";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { secretDigest } from "../base/random.ts";
import { Broker } from "./broker.ts";

const ID = "0123456789abcdef01234567";

test("the broker knows which workers are connected from an address, and forgets those that have gone", async (t) => {
  const broker = new Broker({
    ...{ host: "0.0.0.0", port: 0, onMessage: () => {}, onPing: () => {}, log: silentLogger },
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
