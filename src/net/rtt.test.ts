import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { measured, type ProbePeer, RttProber } from "./rtt.ts";

const PORT = 50_904;

function start(
  t: TestContext,
  address: string,
  clock: Clock = systemClock,
  isPeer: (address: string) => boolean = () => true,
) {
  const seen: string[] = [];
  const prober = new RttProber({
    ...{ address, port: PORT, clock, isPeer, log: silentLogger },
    onMeasured: (peerId, path) => seen.push(`${peerId} ${path}`),
  });
  const stop = new AbortController();
  const ended = prober.run(stop.signal);
  t.after(async () => {
    stop.abort();
    await ended;
  });
  return { prober, seen };
}

async function eventually(isTrue: () => boolean): Promise<void> {
  const end = performance.now() + 5000;
  while (!isTrue()) {
    assert.ok(performance.now() < end, "not in time");
    await systemClock.sleep(5);
  }
}

const peer = (id: string, underlay: string, overlay?: string): ProbePeer => ({
  id,
  addresses: { underlay, ...(overlay ? { overlay } : {}) },
});

test("two workers measure each other over both paths", async (t) => {
  const one = start(t, "127.0.0.21");
  const two = start(t, "127.0.0.22");
  one.prober.setPeers([peer("two", "127.0.0.22", "127.0.0.22")]);
  two.prober.setPeers([peer("one", "127.0.0.21")]);
  await eventually(() => new Set(one.seen).size === 2 && two.seen.length > 0);
  for (const path of ["underlay", "overlay"] as const) {
    const quality = one.prober.quality("two", path)!;
    assert.ok(quality.rttMs! > 0 && quality.rttMs! < 1000 && quality.loss === 0);
  }
  assert.equal(two.prober.quality("one", "overlay"), undefined);
  one.prober.setPeers([]);
  assert.equal(one.prober.quality("two", "underlay"), undefined);
});

test("strangers, junk and guessed answers are ignored", async (t) => {
  const { prober, seen } = start(t, "127.0.0.23", systemClock, () => false);
  prober.setPeers([peer("silent", "127.0.0.24")]);
  const stranger = createSocket("udp4").bind(PORT, "127.0.0.24");
  t.after(() => stranger.close());
  await once(stranger, "listening");
  const requests: Buffer[] = [];
  stranger.on("message", (message) => requests.push(message));
  await eventually(() => requests.length > 1);
  const guess = Buffer.from(requests[0]!);
  guess[5] = 2;
  guess[15]! ^= 1;
  const request = Buffer.from(requests[0]!);
  for (const bytes of [Buffer.alloc(0), Buffer.from("junk"), Buffer.alloc(1400), guess, request]) {
    stranger.send(bytes, PORT, "127.0.0.23");
  }
  const before = requests.length;
  await systemClock.sleep(100);
  assert.deepEqual(seen, []);
  assert.ok(
    requests.slice(before).every((bytes) => bytes[5] === 1),
    "no answer to a stranger",
  );
  const answer = Buffer.from(requests[1]!);
  answer[5] = 2;
  stranger.send(answer, PORT, "127.0.0.23");
  stranger.send(answer, PORT, "127.0.0.23");
  await eventually(() => seen.length > 0);
  await systemClock.sleep(20);
  assert.deepEqual(seen, ["silent underlay"], "an answer counts once");
});

test("a few packets: quick at first, then one in ten seconds, then fewer; what is missing is asked again, and not for ever", async (t) => {
  const clock = new ManualClock();
  const received: number[] = [];
  const sink = createSocket("udp4").bind(PORT, "127.0.0.26");
  t.after(() => sink.close());
  await once(sink, "listening");
  let isAnswering = true;
  let isSlow = false;
  sink.on("message", async (bytes, { port, address }) => {
    received.push(clock.now());
    if (!isAnswering) return;
    bytes[5] = 2;
    if (isSlow) await clock.sleep(250);
    sink.send(bytes, port, address);
  });
  const { prober, seen } = start(t, "127.0.0.25", clock);
  await eventually(() => clock.sleeping > 0);
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 250) {
      const before = received.length;
      await clock.advance(250);
      await systemClock.sleep(2);
      if (isAnswering && !isSlow && received.length > before) await eventually(() => seen.length >= received.length);
    }
  };
  await pass(60_000);
  assert.equal(received.length, 0, "without peers nothing is sent");
  prober.setPeers([peer("far", "127.0.0.26", "127.0.0.26")]);
  await pass(2000);
  assert.ok(received.length >= 8 && received.length <= 10, `${received.length} at first`);
  received.length = 0;
  seen.length = 0;
  await pass(40_000);
  assert.ok(received.length >= 3 && received.length <= 4, `${received.length} in 40 s`);
  await pass(60_000);
  received.length = 0;
  seen.length = 0;
  await pass(120_000);
  assert.ok(received.length >= 2 && received.length <= 6, `${received.length} in two minutes of calm`);
  isSlow = true;
  await pass(60_000);
  received.length = 0;
  await pass(60_000);
  assert.ok(received.length >= 4, `${received.length} in a minute after times have changed`);
  isSlow = false;
  isAnswering = false;
  received.length = 0;
  await pass(60_000);
  assert.ok(received.length >= 8 && received.length <= 30, `${received.length} in a minute without answers`);
  assert.ok(prober.quality("far", "underlay")!.loss > 0.7);
  assert.ok(prober.quality("far", "underlay")!.missed > 5);
  received.length = 0;
  await pass(120_000);
  assert.ok(received.length <= 12, `${received.length} in two minutes when it is gone for good`);
});

test("measured() takes what is quicker at once, and smooths what is slower, and losses", () => {
  let quality = measured(undefined, 100);
  assert.deepEqual(quality, { rttMs: 100, loss: 0, missed: 0 });
  quality = measured(quality, 200);
  assert.deepEqual(quality, { rttMs: 125, loss: 0, missed: 0 });
  quality = measured(measured(quality, undefined), undefined);
  assert.deepEqual(quality, { rttMs: 125, loss: 0.4375, missed: 2 });
  assert.deepEqual(measured(quality, 125), { rttMs: 125, loss: 0.328125, missed: 0 });
  assert.equal(measured(quality, 20).rttMs, 20);
  assert.deepEqual(measured(undefined, undefined), { rttMs: undefined, loss: 1, missed: 1 });
});

test("a port that is taken is tried again, and ends with the signal", async () => {
  const holder = createSocket("udp4").bind(PORT, "127.0.0.27");
  await once(holder, "listening");
  const clock = new ManualClock();
  const options = {
    address: "127.0.0.27",
    port: PORT,
    clock,
    log: silentLogger,
    isPeer: () => true,
    onMeasured: () => {},
  };
  const stop = new AbortController();
  const ended = new RttProber(options).run(stop.signal);
  await eventually(() => clock.sleeping > 0);
  holder.close();
  await clock.advance(30_000);
  await eventually(() => clock.sleeping > 0);
  stop.abort();
  await ended;
});
