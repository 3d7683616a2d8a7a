import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import mqtt from "mqtt-packet";
import { topics } from "../protocol/mqtt.ts";
import { maySubscribe, publishRefusal } from "./access.ts";
import { PacketMeter } from "./packet-meter.ts";

const own = "0123456789abcdef01234567";
const other = "fedcba98765432100123abcd";
const instance = `${own}-0`;

test("a worker writes about itself only, not retained but for its presence, and not at QoS 2", () => {
  const may = (topic: string, qos = 1, retain = false) => publishRefusal(own, { topic, qos, retain }) === undefined;
  assert.ok(may(topics.report(own)) && may(topics.logData(own), 0) && may(topics.presence(own), 1, true));
  assert.ok(may(topics.checked(own)) && !may(topics.checked(own), 1, true));
  for (const topic of [
    topics.report(other),
    topics.presence(other),
    topics.manifest(own),
    topics.desired(own, instance),
    topics.logRequest(own),
    topics.check(own),
    topics.checked(other),
    `workers/${own}/else`,
    "$SYS/broker",
    "",
  ])
    assert.ok(!may(topic), topic);
  assert.ok(!may(topics.report(own), 2) && !may(topics.report(own), 1, true));
});

test("a worker reads only what is meant for it", () => {
  for (const filter of [
    topics.desiredOf(own),
    topics.desired(own, instance),
    topics.manifest(own),
    topics.logRequest(own),
    topics.check(own),
  ])
    assert.ok(maySubscribe(own, filter), filter);
  for (const filter of [
    "#",
    "+",
    "workers/#",
    `workers/${own}/#`,
    "workers/+/manifest",
    topics.desiredOf(other),
    topics.manifest(other),
    topics.report(own),
    topics.check(other),
    topics.checked(own),
    "$SYS/#",
  ])
    assert.ok(!maySubscribe(own, filter), filter);
});

test("the packet meter lets every stream of small packets pass, however it is cut, and stops at a large one", () => {
  const packet = (size: number) =>
    mqtt.generate({ cmd: "publish", topic: "t", payload: Buffer.alloc(size), qos: 0, retain: false, dup: false });
  fc.assert(
    fc.property(
      fc.array(fc.nat(900), { minLength: 1, maxLength: 8 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 300 })),
      (sizes, cuts) => {
        const small = Buffer.concat(sizes.map(packet));
        const meter = new PacketMeter(1000);
        for (let at = 0; at < small.length; ) {
          const step = cuts.next().value!;
          assert.ok(meter.accepts(small.subarray(at, at + step)));
          at += step;
        }
        assert.ok(!meter.accepts(packet(1000)));
      },
    ),
  );
  assert.ok(!new PacketMeter(1000).accepts(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f])));
  assert.ok(!new PacketMeter(1000).accepts(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 0x80])));
});
