/** `POST /api/net-check`: from the operator's request over the broker to workers, and back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import type { CheckedRoute, ClusterCheck } from "../../src/protocol/net-check.ts";
import { HttpClient } from "../../src/transport/http-client.ts";
import { eventually, TestCluster, workerInfo } from "./cluster-fixture.ts";

const PATH = "/api/net-check";

test("the routes of all workers come back with host names, and each worker that has not checked says why", async () => {
  await using it = await TestCluster.start();
  const [one, two, mute, off, leaving] = [
    await it.join(workerInfo("one")),
    await it.join(workerInfo("two")),
    await it.join(workerInfo("mute")),
    await it.join(workerInfo("off")),
    await it.join(workerInfo("leaving")),
  ];
  const route: CheckedRoute = {
    ...{ worker_id: two.id, address: "192.0.2.2", path: "vxlan", rtt_ms: 3, connect_ms: 4, body_ms: 20 },
    ...{ instances: [{ job_name: "shop.prod.web.prod", number: 0 }], more_instances: 0 },
  };
  const failed = { ...route, worker_id: "f".repeat(24), error: "no connection within 10 s", rtt_ms: 4 };
  one.checked = { outcome: "checked", routes: [route, failed], refused: [], left_out: 0 };
  two.checked = { outcome: "failed", detail: "no kernel" };
  off.checked = { outcome: "off" };
  await leaving.disconnect();
  await it.untilStatus("leaving", "suspect");
  const { status, body } = await it.operate("POST", PATH, { body: { within_s: 1 } });
  assert.equal(status, 200);
  const { cluster, workers } = body as ClusterCheck;
  assert.equal(cluster, "cluster");
  const by = Object.fromEntries(workers.map(({ hostname, ...rest }) => [hostname, rest])) as Record<string, object>;
  assert.deepEqual(by.one, { worker_id: one.id, ...one.checked, routes: [{ ...route, hostname: "two" }, failed] });
  assert.deepEqual(by.two, { worker_id: two.id, ...two.checked });
  assert.deepEqual(by.mute, { worker_id: mute.id, outcome: "silent", detail: "did not answer within 1 s" });
  assert.deepEqual(by.off, { worker_id: off.id, outcome: "off" });
  assert.match(JSON.stringify(by.leaving), /"not asked","detail":"it is suspect: its connection has ended/);
  assert.deepEqual([one.questions.length, leaving.questions.length], [1, 0]);
});

test("a worker whose connection ends is not waited for; meanwhile a second caller is refused", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const checking = it.operate("POST", PATH, { body: { within_s: 120 } });
  await eventually("asked", () => worker.questions.length === 1);
  const second = await it.operate("POST", PATH);
  assert.equal(second.status, 409);
  assert.match(JSON.stringify(second.body), /IN_USE.*are being checked; try again/);
  await worker.disconnect();
  const { body } = await checking;
  assert.match(JSON.stringify(body), /"silent","detail":"its connection ended meanwhile"/);
  assert.equal((await it.operate("POST", PATH, { body: { within_s: 1 } })).status, 200, "the next may");
});

test("a caller who leaves makes room for the next", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const caller = new AbortController();
  const left = it.operate("POST", PATH, { body: { within_s: 120 }, signal: caller.signal });
  await eventually("asked", () => worker.questions.length === 1);
  caller.abort();
  await assert.rejects(left);
  worker.checked = { outcome: "off" };
  let status = 409;
  // Refusals are counted: a caller with too many of them has to wait.
  for (let tries = 0; status === 409 && tries < 15; tries++) {
    await systemClock.sleep(tries * 20);
    ({ status } = await it.operate("POST", PATH));
  }
  assert.equal(status, 200);
});

test("only the operator of the cluster may have routes checked, and says in which time", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const http = new HttpClient(`http://127.0.0.1:${it.joinPort}`);
  assert.equal((await http.send("POST", PATH, { body: {} })).status, 401);
  assert.equal((await http.send("POST", PATH, { body: {}, token: worker.key })).status, 401);
  assert.equal((await it.operate("GET", PATH)).status, 405);
  for (const body of [{ within_s: 0 }, { within_s: 121 }, { within_s: "5" }, { whom: "w1" }]) {
    const refused = await it.operate("POST", PATH, { body });
    assert.deepEqual([refused.status, (refused.body as { error: string }).error], [422, "INVALID_BODY"]);
  }
  assert.deepEqual(worker.questions, [], "nothing runs when nobody may ask");
});
