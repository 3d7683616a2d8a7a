import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { type Logger, silentLogger } from "../base/log.ts";
import { ClusterState } from "./cluster-state.ts";
import type { Instance } from "./model.ts";
import { ClusterStore } from "./store/cluster-store.ts";
import { LIVENESS, Workers } from "./workers.ts";

const info = {
  ...{ hostname: "w", architecture: "amd64", cpuMillis: 1000, memoryBytes: 1000, gpus: 0 },
  ...{ virtualization: ["container"], publicIp: "", runtime: "", version: "", labels: {} },
};

test("a lost worker is active again with its first valid report, and placement hears of that at once", async () => {
  const clock = new ManualClock();
  const store = new ClusterStore(":memory:");
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  const { id } = state.addWorker({ keyDigest: "d", info });
  let passes = 0;
  const workers = new Workers({
    ...{ state, clock, log: silentLogger },
    onChanged: () => (passes += 1),
    onAddressesFree: () => {},
    onMoved: () => {},
    onMeasured: () => {},
    lieIn: () => undefined,
    disconnect: () => {},
  });
  const report = (sequence: number, full = false) => {
    const said = { sequence, full, manifest: 0, cpuPercent: 1, memoryPercent: 1, instances: [], removed: [] };
    workers.receive({ kind: "report", workerId: id }, Buffer.from(JSON.stringify(said)));
  };
  report(1, true);
  const first = passes;
  report(2);
  assert.deepEqual([workers.livenessOf(id), passes], ["active", first], "a heartbeat is no news");
  await clock.advance(LIVENESS.lostAfterMs);
  assert.equal(workers.livenessOf(id), "lost");
  report(3);
  assert.deepEqual([workers.livenessOf(id), passes], ["active", first + 1], "over the connection that it had");
  for (const _ of [1, 2, 3]) {
    await clock.advance(LIVENESS.suspectAfterMs - 1);
    workers.alive(id);
  }
  assert.deepEqual([workers.livenessOf(id), passes], ["active", first + 1], "a ping is a heartbeat, too");
  await clock.advance(LIVENESS.lostAfterMs);
  workers.alive(id);
  assert.deepEqual([workers.livenessOf(id), passes], ["active", first + 2], "and the end of a silence");
  workers.receive({ kind: "presence", workerId: id }, Buffer.from('{"online":false}'));
  workers.alive(id);
  assert.equal(workers.livenessOf(id), "suspect", "who has not told what it has, is not there yet");
  await clock.advance(LIVENESS.lostAfterMs);
  report(1, true);
  assert.equal(workers.livenessOf(id), "active", "over a new one");
  store.close();
});

test("placement looks when something has happened to an instance, and not when it was only measured", () => {
  const store = new ClusterStore(":memory:");
  const clock = new ManualClock();
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  const { id } = state.addWorker({ keyDigest: "d", info });
  let passes = 0;
  const workers = new Workers({
    ...{ state: Object.assign(state, { concerns: () => true }), clock, log: silentLogger },
    onChanged: () => (passes += 1),
    onAddressesFree: () => {},
    onMoved: () => {},
    onMeasured: () => {},
    lieIn: () => undefined,
    disconnect: () => {},
  });
  let sequence = 0;
  const passesFor = (change: object, removed: readonly string[] = []) => {
    sequence += 1;
    const of = { instanceId: `${"a".repeat(24)}-0`, generation: 1, status: "RUNNING", detail: "runs" };
    const instances = removed.length > 0 ? [] : [{ ...of, since: 1, restarts: 0, ...change }];
    const said = { sequence, full: sequence === 1, manifest: 1, cpuPercent: sequence, memoryPercent: 1 };
    passes = 0;
    workers.receive({ kind: "report", workerId: id }, Buffer.from(JSON.stringify({ ...said, instances, removed })));
    return passes;
  };
  assert.equal(passesFor({ cpuPercent: 1 }), 1, "everything is told anew");
  assert.equal(passesFor({ cpuPercent: 2, memoryBytes: 5 }), 0, "measured");
  assert.equal(passesFor({ detail: "healthy" }), 0, "runs on");
  assert.equal(passesFor({ status: "DEAD", detail: "ended" }), 1, "ended");
  assert.equal(passesFor({ status: "PULLING", detail: "starts again" }), 0, "goes on as it should");
  state.instance = () => ({ successor: {} }) as Instance;
  assert.equal(passesFor({ status: "RUNNING" }), 1, "a move waits for it");
  assert.equal(passesFor({}, [`${"a".repeat(24)}-0`]), 1, "gone");
  store.close();
});

test("whatever a worker sends is a sign of life, once it has told what it has", async () => {
  const store = new ClusterStore(":memory:");
  const clock = new ManualClock();
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  const { id } = state.addWorker({ keyDigest: "d", info });
  const workers = new Workers({
    ...{ state, clock, log: silentLogger, onChanged: () => {}, onAddressesFree: () => {} },
    ...{ onMoved: () => {}, onMeasured: () => {}, lieIn: () => undefined, disconnect: () => {} },
  });
  workers.alive(id);
  assert.equal(workers.livenessOf(id), "suspect", "nobody knows yet what it has");
  const report = { sequence: 1, full: true, manifest: 0, cpuPercent: 1, memoryPercent: 1, instances: [], removed: [] };
  workers.receive({ kind: "report", workerId: id }, Buffer.from(JSON.stringify(report)));
  for (let seconds = 0; seconds < 60; seconds += 10) {
    await clock.advance(10_000);
    workers.alive(id);
    assert.equal(workers.livenessOf(id), "active");
  }
  store.close();
});

test("a restarted cluster waits for its workers the longer, the more they are", () => {
  const store = new ClusterStore(":memory:");
  const clock = new ManualClock();
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  for (let number = 0; number < 500; number++) {
    state.addWorker({ keyDigest: `d${number}`, info: { ...info, hostname: `w${number}` } });
  }
  const workers = new Workers({
    ...{ state, clock, log: silentLogger, onChanged: () => {}, onAddressesFree: () => {} },
    ...{ onMoved: () => {}, onMeasured: () => {}, lieIn: () => undefined, disconnect: () => {} },
  });
  const { heardAt } = workers.contact(state.workers[0]!.id);
  assert.equal(heardAt - clock.monotonic(), 5_000);
  store.close();
});

test("what a worker says of its place that cannot be true is logged once, with field and value, until it changes", () => {
  const store = new ClusterStore(":memory:");
  const clock = new ManualClock();
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  const { id } = state.addWorker({ keyDigest: "d", info });
  const said: unknown[] = [];
  const log: Logger = {
    ...silentLogger,
    warn: ({ hostname, field, value }) => said.push([hostname, field, value]),
    info: () => said.push("believed"),
  };
  const workers = new Workers({
    ...{ state: Object.assign(state, { concerns: () => true }), clock, log },
    onChanged: () => {},
    onAddressesFree: () => {},
    onMoved: () => {},
    onMeasured: () => {},
    lieIn: (_id, { sandbox }) =>
      sandbox === "10.18.0.2" ? undefined : { field: "sandbox address", value: sandbox, reason: "not yours" },
    disconnect: () => {},
  });
  let sequence = 0;
  /** Of the instances of these numbers; undefined: nothing new of that one. */
  const report = (sandboxes: readonly (string | undefined)[]) => {
    sequence += 1;
    const worker = { id, address: "192.0.2.1", subnets: ["10.18.0.0/26"] };
    const rest = { generation: 1, status: "RUNNING", detail: "", since: 1, restarts: 0 };
    const instances = sandboxes.flatMap((sandbox, number) =>
      sandbox === undefined ? [] : [{ instanceId: `${id}-${number}`, ...rest, live: { sandbox, worker } }],
    );
    const base = { sequence, full: sequence === 1, manifest: 0, cpuPercent: 1, memoryPercent: 1, removed: [] };
    workers.receive({ kind: "report", workerId: id }, Buffer.from(JSON.stringify({ ...base, instances })));
  };
  report(["10.18.0.2"]);
  report([undefined, "10.9.9.9"]);
  report(["10.18.0.2"]);
  report([]);
  report([undefined, "10.9.9.9"]);
  report([undefined, "10.8.8.8"]);
  assert.equal(workers.contact(id).refused, 'sandbox address "10.8.8.8" refused: not yours');
  report([undefined, "10.18.0.2"]);
  assert.deepEqual(said, [["w", "sandbox address", "10.9.9.9"], ["w", "sandbox address", "10.8.8.8"], "believed"]);
  assert.equal(workers.contact(id).refused, undefined);
  store.close();
});
