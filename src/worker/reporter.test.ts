import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import type { WorkerReport } from "../protocol/mqtt.ts";
import { desiredInstance } from "./builders.fake.ts";
import { Instances, isNotable } from "./instances.ts";
import { eventually } from "./machine.fake.ts";
import { Reporter } from "./reporter.ts";

/** A reporter whose link acknowledges nothing until it is told to. */
function setUp(clock: Clock = systemClock) {
  const sent: WorkerReport[] = [];
  const waiting: PromiseWithResolvers<void>[] = [];
  const instances = new Instances({ log: silentLogger, clock, onChange: () => reporter.trigger() });
  const load = { cpuPercent: 1, memoryPercent: 20 };
  const measuring = { promise: Promise.resolve() };
  const link = {
    isConnected: true,
    report: (report: WorkerReport) => {
      sent.push(report);
      const acknowledged = Promise.withResolvers<void>();
      waiting.push(acknowledged);
      return acknowledged.promise;
    },
  };
  const reporter = new Reporter({
    ...{ instances, link, log: silentLogger, clock },
    info: async () => ({}) as WorkerInfo,
    isReady: () => true,
    addressesFree: () => undefined,
    surroundings: () => ({}),
    measure: async () => {
      await measuring.promise;
      return { ...load };
    },
  });
  const desired = desiredInstance();
  const { instanceId } = desired;
  instances.expect({ revision: 1, instances: new Map([[instanceId, desired]]) }, {});
  const say = (detail: string) => instances.update(instanceId, undefined, { detail });
  const use = (cpuPercent: number, memoryBytes: number) => instances.measure(instanceId, { cpuPercent, memoryBytes });
  return { sent, waiting, reporter, say, use, load, measuring };
}

async function running(use: (parts: ReturnType<typeof setUp>) => Promise<void>, clock?: Clock): Promise<void> {
  const parts = setUp(clock);
  const stop = new AbortController();
  parts.reporter.connected();
  const ended = parts.reporter.run(stop.signal);
  try {
    await use(parts);
  } finally {
    stop.abort();
    for (const { resolve } of parts.waiting) resolve();
    await ended;
  }
}

test("a change is reported at once, although no report before was acknowledged", () =>
  running(async ({ sent, say }) => {
    await eventually(() => sent.length === 1, "the first");
    for (const detail of ["one", "two", "three"]) {
      say(detail);
      await eventually(() => sent.at(-1)?.instances[0]?.detail === detail, detail);
    }
    assert.deepEqual(
      sent.map(({ sequence, full }) => [sequence, full]),
      [1, 2, 3, 4].map((sequence) => [sequence, sequence === 1]),
    );
  }));

test("on a link that acknowledges nothing reports do not pile up: later changes go together", () =>
  running(async ({ sent, waiting, say }) => {
    await eventually(() => sent.length === 1, "the first");
    for (let number = 1; number <= 7; number++) {
      say(`change ${number}`);
      await eventually(() => sent.length === number + 1, `report ${number + 1}`);
    }
    for (let number = 8; number <= 20; number++) {
      say(`change ${number}`);
      await systemClock.sleep(1);
    }
    assert.equal(sent.length, 8);
    waiting[0]!.resolve();
    await eventually(() => sent.length === 9, "one more");
    assert.equal(sent[8]?.instances[0]?.detail, "change 20");
  }));

test("a connection that begins while a report is being made gets everything first", () => {
  const clock = new ManualClock();
  return running(async ({ sent, reporter, say, measuring }) => {
    await eventually(() => sent.length === 1, "the first");
    // Past the time for which the last measurement counts.
    const measured = Promise.withResolvers<void>();
    measuring.promise = measured.promise;
    await clock.advance(60_000);
    say("a change");
    await systemClock.sleep(5);
    reporter.connected();
    measured.resolve();
    await eventually(() => sent.length >= 2, "one more");
    assert.deepEqual([sent[1]?.sequence, sent[1]?.full], [1, true]);
  }, clock);
});

test("after a report that was lost comes a full one", () =>
  running(async ({ sent, waiting, say }) => {
    await eventually(() => sent.length === 1, "the first");
    say("one");
    await eventually(() => sent.length === 2, "a change");
    waiting[1]!.reject(new Error("cut"));
    await systemClock.sleep(1);
    say("two");
    await eventually(() => sent.length === 3, "another");
    assert.deepEqual([sent[2]?.full, sent[2]?.instances[0]?.detail], [true, "two"]);
  }));

test("an idle worker reports once in two minutes; what is notable sooner", () => {
  const clock = new ManualClock();
  return running(async ({ sent, load, use }) => {
    await clock.advance(0);
    assert.equal(sent.length, 1);
    use(0, 5e6);
    await clock.advance(9_000);
    assert.equal(sent.at(-1)?.instances[0]?.memoryBytes, 5e6, "measured for the first time");
    use(0.4, 5.2e6);
    load.cpuPercent = 4;
    await clock.advance(110_000);
    assert.equal(sent.length, 2);
    await clock.advance(18_000);
    assert.deepEqual([sent.length, sent[2]?.cpuPercent, sent[2]?.instances], [3, 4, []]);
    load.cpuPercent = 60;
    await clock.advance(50_000);
    assert.equal(sent.length, 3);
    await clock.advance(18_000);
    assert.deepEqual([sent.length, sent[3]?.cpuPercent], [4, 60]);
    use(0.4, 9e6);
    await clock.advance(9_000);
    assert.equal(sent.at(-1)?.instances[0]?.memoryBytes, 9e6);
    assert.deepEqual(
      sent.map(({ sequence }) => sequence),
      [1, 2, 3, 4, 5],
    );
  }, clock);
});

test("isNotable(): a tenth more or less, but at least a percent of a core or a megabyte", () => {
  const used = { cpuPercent: 50, memoryBytes: 100e6 };
  assert.equal(isNotable(undefined, undefined), false);
  assert.equal(isNotable(undefined, used), true);
  assert.equal(isNotable(used, undefined), true);
  assert.equal(isNotable(used, { cpuPercent: 54, memoryBytes: 109e6 }), false);
  assert.equal(isNotable(used, { ...used, cpuPercent: 44 }), true);
  assert.equal(isNotable(used, { ...used, memoryBytes: 110e6 }), true);
  assert.equal(isNotable({ cpuPercent: 0, memoryBytes: 1e6 }, { cpuPercent: 0.9, memoryBytes: 2e6 }), false);
});
