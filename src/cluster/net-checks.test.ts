import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import type { CheckAnswer, CheckedRoute, CheckQuestion } from "../protocol/net-check.ts";
import { NetChecks } from "./net-checks.ts";

type Status = "active" | "suspect" | "lost";
const nobody = new AbortController().signal;
const route: CheckedRoute = {
  ...{ worker_id: "w2", address: "192.0.2.2", path: "vxlan", body_ms: 9, instances: [], more_instances: 0 },
};
const result: CheckAnswer["result"] = { outcome: "checked", routes: [route], refused: [], left_out: 0 };

/** @param statuses of the workers, w1 first */
function start(statuses: readonly Status[]) {
  const asked = new Map<string, CheckQuestion>();
  const clock = new ManualClock();
  const checks = new NetChecks({
    clusterName: "c",
    workers: () =>
      statuses.map((status, index) => ({
        ...{ id: `w${index + 1}`, hostname: `host${index + 1}`, status },
        detail: status === "active" ? "" : "not heard from",
      })),
    request: (workerId, question) => asked.set(workerId, question),
    clock,
  });
  const answer = (id: string, as = id) => checks.receive(as, { question: asked.get(id)!.question, result });
  return { checks, asked, clock, answer };
}

test("every worker is asked once, and routes to workers of this cluster carry their host names", async () => {
  const { checks, answer } = start(["active", "active"]);
  const checking = checks.check(5_000, nobody);
  answer("w1");
  answer("w1");
  answer("w2");
  const { cluster, workers } = await checking;
  assert.equal(cluster, "c");
  assert.deepEqual(workers, [
    { worker_id: "w1", hostname: "host1", ...result, routes: [{ ...route, hostname: "host2" }] },
    { worker_id: "w2", hostname: "host2", ...result, routes: [{ ...route, hostname: "host2" }] },
  ]);
});

test("four workers check at a time; each that is done makes room for the next", async () => {
  const { checks, asked, answer, clock } = start(Array.from({ length: 9 }, () => "active"));
  const checking = checks.check(5_000, nobody);
  assert.deepEqual([...asked.keys()], ["w1", "w2", "w3", "w4"]);
  answer("w2");
  await clock.advance(0);
  assert.deepEqual([...asked.keys()].slice(4), ["w5"]);
  for (const id of ["w1", "w3", "w4", "w5"]) answer(id);
  await clock.advance(0);
  for (const id of ["w6", "w7", "w8", "w9"]) answer(id);
  assert.equal((await checking).workers.length, 9);
});

test("who does not answer, has gone, or is not there is told as that, and nobody can answer for another", async () => {
  const { checks, asked, answer, clock } = start(["active", "active", "active", "lost"]);
  const checking = checks.check(5_000, nobody);
  answer("w1", "w3");
  answer("w2");
  checks.workerGone("w3");
  await clock.advance(7_000);
  const rows = (await checking).workers.map((one) => [one.outcome, "detail" in one ? one.detail : ""]);
  assert.deepEqual(rows, [
    ["silent", "did not answer within 5 s"],
    ["checked", ""],
    ["silent", "its connection ended meanwhile"],
    ["not asked", "it is lost: not heard from"],
  ]);
  assert.ok(!asked.has("w4"));
  answer("w1");
});

test("a cluster is checked by one caller at a time, and by the next when that is over, or has gone", async () => {
  const { checks, asked, answer } = start(["active"]);
  const caller = new AbortController();
  const first = checks.check(5_000, caller.signal);
  await assert.rejects(checks.check(5_000, nobody), { code: "IN_USE", message: /"c" are being checked/ });
  caller.abort();
  await first;
  const { question, withinMs } = asked.get("w1")!;
  assert.equal(withinMs, 0, "who works for nobody is told to end");
  const second = checks.check(5_000, nobody);
  checks.receive("w1", { question, result: { outcome: "off" } });
  answer("w1");
  assert.equal((await second).workers[0]?.outcome, "checked", "a late answer is not taken for this one's");
});

test("workers for whom no time is left are not asked, and no more are once the caller has gone", async () => {
  const slow = start(Array.from({ length: 20 }, () => "active"));
  const checking = slow.checks.check(120_000, nobody);
  await slow.clock.advance(400_000);
  const outcomes = (await checking).workers.map(({ outcome }) => outcome);
  assert.deepEqual([slow.asked.size, outcomes.filter((one) => one === "not asked").length], [8, 12]);
  const left = start(Array.from({ length: 20 }, () => "active"));
  const caller = new AbortController();
  const leaving = left.checks.check(5_000, caller.signal);
  caller.abort();
  await leaving;
  assert.equal(left.asked.size, 4);
});
