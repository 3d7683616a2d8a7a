import assert from "node:assert/strict";
import { test } from "node:test";
import type { Assignment, InstanceReport, InstanceStatus } from "../protocol/instance.ts";
import type { Instance, Worker } from "./model.ts";
import { isGone, isNews, reportToRoot } from "./reports.ts";

const instanceId = "0123456789abcdef01234567-3";
const worker = { id: "w", hostname: "cellar", info: { publicIp: "192.0.2.7" } } as Worker;
const said = (status: InstanceStatus, change: Partial<InstanceReport> = {}): InstanceReport => ({
  instanceId,
  generation: 12,
  status,
  detail: "said",
  since: 5,
  restarts: 1,
  workerId: "inner",
  ...change,
});
const instance = (change: Partial<Instance>): Instance => ({
  assignment: { instanceId, generation: 2 } as Assignment,
  seenAt: 0,
  since: 1,
  failures: 0,
  tried: new Map(),
  ...change,
});
const placement = { workerId: "w", number: 12 };

test("what the root is told, by what is known", () => {
  const cases: [Partial<Instance>, number | undefined, InstanceStatus, RegExp][] = [
    [{}, undefined, "CLUSTER_SCHEDULED", /chooses a worker/],
    [{ refusal: { kind: "waiting", detail: "until x" } }, undefined, "CLUSTER_SCHEDULED", /until x/],
    [{ refusal: { kind: "declined", detail: "no room" } }, undefined, "NO_WORKER_CAPACITY", /no room/],
    [{ placement }, undefined, "NODE_SCHEDULED", /cellar/],
    [{ placement, report: said("RUNNING") }, undefined, "RUNNING", /said/],
    [{ placement, report: said("RUNNING") }, 1000, "FAILED", /silent since 1970-01-01T00:00:01.000Z; it was RUNNING/],
    [{ placement }, 1000, "FAILED", /silent since/],
    [{ placement, report: said("COMPLETED") }, 1000, "COMPLETED", /said/],
    [{ report: said("COMPLETED") }, undefined, "COMPLETED", /said/],
  ];
  for (const [change, silentSince, status, detail] of cases) {
    const report = reportToRoot(instance(change), { worker: change.placement && worker, silentSince });
    assert.equal(report.status, status);
    assert.match(report.detail, detail);
    assert.equal(report.generation, 2, "the root's own generation");
    assert.equal("workerId" in report, false, "inner names stay inside");
  }
  assert.equal(reportToRoot(instance({ placement, report: said("RUNNING") }), { worker }).publicIp, "192.0.2.7");
});

test("an instance that moves is what the worker in charge says; of the move the root hears the reason", () => {
  const next = { id: "v", hostname: "attic", info: {} } as Worker;
  const successor = { placement: { workerId: "v", number: 13 }, reason: "too far", seenAt: 0, since: 0 };
  const told = (change: Partial<Instance>) =>
    reportToRoot(instance({ placement, report: said("RUNNING"), ...change }), { worker, nextWorker: next });
  const failed = { ...successor, report: said("FAILED", { generation: 13 }) };
  for (const one of [successor, failed]) {
    const { status, detail } = told({ successor: one });
    assert.deepEqual([status, detail], ["RUNNING", 'said; moves to worker "attic" as soon as it runs there: too far']);
  }
  assert.equal(told({ moveNote: 'moved from worker "a": too far' }).detail, 'said; moved from worker "a": too far');
  assert.equal(told({}).detail, "said");
});

test("the root is told what this cluster cannot mend while it runs here, and nothing that a worker says of it", () => {
  const told = (change: Partial<Instance>, report = said("RUNNING", { brokenPromise: "a lie" })) =>
    reportToRoot(instance({ placement, report, ...change }), { worker });
  const { brokenPromise, detail } = told({ brokenPromise: "too far" });
  assert.deepEqual(
    [brokenPromise, detail],
    ["too far", "said; no worker of this cluster keeps what was promised: too far"],
  );
  const successor = { placement: { workerId: "v", number: 13 }, reason: "too far", seenAt: 0, since: 0 };
  for (const report of [
    told({}),
    told({ brokenPromise: "too far", successor }),
    told({ brokenPromise: "x" }, said("DEAD")),
  ]) {
    assert.equal("brokenPromise" in report, false);
  }
});

test("measurements are no news", () => {
  assert.ok(isNews(undefined, said("RUNNING")));
  assert.ok(!isNews(said("RUNNING", { cpuPercent: 1 }), said("RUNNING", { cpuPercent: 2, memoryBytes: 3 })));
  assert.ok(isNews(said("RUNNING"), said("RUNNING", { restarts: 2 })));
});

test("a withdrawn instance is gone when its worker knows that it is not wanted, and holds nothing of it", () => {
  const withdrawal = { instanceId, workerId: "w", number: 12, revision: 7, request: {} as never };
  assert.ok(!isGone(withdrawal, 6, undefined), "the worker does not know yet");
  assert.ok(isGone(withdrawal, 7, undefined));
  assert.ok(!isGone(withdrawal, 7, said("RUNNING")));
  assert.ok(!isGone(withdrawal, 7, said("PULLING", { generation: 13 })), "the old one may still be there");
  assert.ok(isGone(withdrawal, 7, said("RUNNING", { generation: 13 })));
});
