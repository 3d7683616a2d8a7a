import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { isNotable, OwnCoordinate } from "./coordinate.ts";
import { hostRtt, parsePing } from "./host-rtt.ts";
import { TargetMeter } from "./target-meter.ts";

/** All have the same; other runs of this test another one. */
const PORT = 20_000 + (process.pid % 10_000);
const at = (x: number, error = 0.2) => ({ position: [x, 0, 0] as const, heightMs: 1, error });

async function eventually(isTrue: () => boolean): Promise<void> {
  for (let tries = 0; !isTrue(); tries++) {
    assert.ok(tries < 2000, "not in time");
    await systemClock.sleep(5);
  }
}

test("isNotable(): a coordinate is told when it moved by two milliseconds and a tenth of itself, or became surer", () => {
  assert.equal(isNotable(undefined, at(0)), true);
  assert.equal(isNotable(at(100), at(100)), false);
  assert.equal(isNotable(at(0), at(1.5)), false);
  assert.equal(isNotable(at(0), at(3)), true);
  assert.equal(isNotable(at(100), at(108)), false);
  assert.equal(isNotable(at(100), at(115)), true);
  assert.equal(isNotable(at(100), at(100, 0.5)), true);
  assert.equal(isNotable(at(100), { ...at(100), heightMs: 30 }), true);
});

test("workers that measure each other get coordinates; alone, a worker has none and listens to nobody", async (t) => {
  const stop = new AbortController();
  const workers = ["127.0.0.41", "127.0.0.42", "127.0.0.43"].map((id) => ({
    id,
    own: new OwnCoordinate({ onMoved: () => {}, clock: systemClock, log: silentLogger, address: id, port: PORT }),
  }));
  const ended = workers.map(({ own }) => own.run(stop.signal));
  t.after(async () => {
    stop.abort();
    await Promise.all(ended);
  });
  await systemClock.sleep(20);
  assert.equal(workers[0]!.own.take(true), undefined);
  for (const { id, own } of workers) {
    own.setPeers(workers.filter((one) => one.id !== id).map((one) => ({ id: one.id, address: one.id })));
  }
  await eventually(() => workers.every(({ own }) => (own.take(true)?.error ?? 1) < 1));
});

test("parsePing() takes the quickest echo", () => {
  const output = "64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=12.3 ms\n64 bytes: icmp_seq=2 ttl=64 time=9.80 ms\n";
  assert.equal(parsePing(output), 9.8);
  assert.equal(parsePing("time<1 ms"), 1);
  assert.equal(parsePing("3 packets transmitted, 0 received, 100% packet loss"), undefined);
});

test("hostRtt() measures a host that answers, if only by refusing", async () => {
  const rtt = await hostRtt("127.0.0.1", systemClock, new AbortController().signal);
  assert.ok(rtt !== undefined && rtt < 100);
});

test("targets are measured as often as they are asked for; the first answer and each change of mind is news", async (t) => {
  const clock = new ManualClock();
  const stop = new AbortController();
  const measured: string[] = [];
  let rtt: number | undefined = 7.123;
  let news = 0;
  const meter = new TargetMeter({
    measure: async (host) => {
      measured.push(host);
      return rtt;
    },
    onNews: () => news++,
    ...{ clock, log: silentLogger },
  });
  const ended = meter.run(stop.signal);
  t.after(async () => {
    stop.abort();
    await ended;
  });
  meter.setTargets([{ host: "a", everyMs: 10_000 }]);
  await eventually(() => news === 1);
  assert.deepEqual(meter.take(), [{ host: "a", rttMs: 7.12 }]);
  assert.deepEqual(meter.take(), []);
  await eventually(() => clock.sleeping > 0);
  rtt = undefined;
  await clock.advance(10_000);
  await eventually(() => news === 2);
  assert.deepEqual(meter.take(), [{ host: "a" }]);
  meter.setTargets([]);
  await eventually(() => clock.sleeping > 0);
  await clock.advance(60_000);
  assert.deepEqual(measured, ["a", "a"]);
});
