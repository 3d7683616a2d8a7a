import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import { ClusterState } from "./cluster-state.ts";
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
  workers.receive({ kind: "presence", workerId: id }, Buffer.from('{"online":false}'));
  await clock.advance(LIVENESS.lostAfterMs);
  report(1, true);
  assert.equal(workers.livenessOf(id), "active", "over a new one");
  store.close();
});
