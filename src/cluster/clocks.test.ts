import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { createLogger } from "../base/log.ts";
import { ClusterState } from "./cluster-state.ts";
import { ClusterStore } from "./store/cluster-store.ts";
import { LIVENESS, Workers } from "./workers.ts";

const YEAR_MS = 365 * 86_400_000;

const info = {
  ...{ hostname: "w", architecture: "amd64", cpuMillis: 1000, memoryBytes: 1000, gpus: 0 },
  ...{ virtualization: ["container"], publicIp: "", runtime: "", version: "", labels: {} },
};

/** A cluster whose wall clock can be set; the monotonic one only goes on. */
function setUp() {
  const manual = new ManualClock();
  const wall = { aheadMs: 0 };
  const clock = {
    now: () => manual.now() + wall.aheadMs,
    monotonic: () => manual.monotonic(),
    sleep: (ms: number) => manual.sleep(ms),
  };
  const store = new ClusterStore(":memory:");
  const state = new ClusterState({ store, clock, onChanged: () => {} });
  const { id } = state.addWorker({ keyDigest: "d", info });
  const logged: { message: string; skew?: string }[] = [];
  const log = createLogger({
    ...{ level: "info", format: "json", now: clock.now },
    write: (line) => logged.push(JSON.parse(line)),
  });
  const nothing = () => {};
  const workers = new Workers({
    ...{ state, clock, log, onChanged: nothing, onAddressesFree: nothing, onMoved: nothing, onMeasured: nothing },
    ...{ lieIn: () => undefined, disconnect: nothing },
  });
  const report = (sequence: number, more: object = {}) => {
    const said = { sequence, full: sequence === 1, manifest: 0, cpuPercent: 1, memoryPercent: 1 };
    const all = { ...said, instances: [], removed: [], ...more };
    workers.receive({ kind: "report", workerId: id }, Buffer.from(JSON.stringify(all)));
  };
  return { manual, wall, workers, report, id, logged, close: () => store.close() };
}

test("a cluster's clock that is set by a year, either way, loses no worker and revives none", async () => {
  for (const jump of [YEAR_MS, -YEAR_MS]) {
    const { manual, wall, workers, report, id, close } = setUp();
    report(1);
    wall.aheadMs = jump;
    assert.equal(workers.livenessOf(id), "active");
    report(2);
    assert.equal(workers.livenessOf(id), "active");
    await manual.advance(LIVENESS.lostAfterMs);
    wall.aheadMs = 0;
    assert.equal(workers.livenessOf(id), "lost");
    close();
  }
});

test("a worker whose clock is a year off is no worse for it; the difference is told once a connection", () => {
  for (const off of [YEAR_MS, -YEAR_MS]) {
    const { manual, workers, report, id, logged, close } = setUp();
    report(1, { clock: manual.now() + off });
    report(2);
    assert.equal(workers.livenessOf(id), "active");
    assert.equal(workers.contact(id).clockOffMs, off);
    const warnings = logged.filter(({ message }) => message === "the clocks of a worker and of this cluster differ");
    assert.deepEqual(
      warnings.map(({ skew }) => skew),
      [`its clock is 365 days ${off > 0 ? "ahead" : "behind"}`],
    );
    close();
  }
});

test("coordinates and measurements that are absurd are malformed: they are dropped with their report, and counted", () => {
  const { workers, report, id, close } = setUp();
  report(1);
  const coordinate = { position: [1, 2, 3], heightMs: 1, error: 0.5 };
  for (const absurd of [
    { coordinate: { ...coordinate, position: [1e9, 0, 0] } },
    { coordinate: { ...coordinate, position: [null, 0, 0] } },
    { coordinate: { ...coordinate, heightMs: -1 } },
    { coordinate: { ...coordinate, error: 7 } },
    { measured: [{ host: "h", rttMs: -5 }] },
    { measured: [{ host: "h", rttMs: 1e12 }] },
    { measured: [{ host: "h", rttMs: null }] },
  ]) {
    report(2, absurd);
  }
  assert.equal(workers.contact(id).malformed, 7);
  assert.equal(workers.contact(id).coordinate, undefined);
  report(2, { coordinate });
  assert.deepEqual(workers.contact(id).coordinate, coordinate);
  close();
});
