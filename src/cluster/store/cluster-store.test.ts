import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.fake.ts";
import { AppError } from "../../base/errors.ts";
import { secretDigest } from "../../base/random.ts";
import type { WorkerInfo } from "../../protocol/capacity.ts";
import type { Assignment } from "../../protocol/instance.ts";
import { ClusterState } from "../cluster-state.ts";
import { ClusterStore } from "./cluster-store.ts";

const SERVICE = "0123456789abcdef01234567";
const info: WorkerInfo = {
  hostname: "w",
  architecture: "amd64",
  cpuMillis: 1000,
  memoryBytes: 1000,
  gpus: 0,
  virtualization: ["container"],
  publicIp: "",
  runtime: "",
  version: "",
  labels: { zone: "cellar" },
};
const workload = {
  image: "i",
  command: [],
  environment: [],
  oneShot: false,
  fuse: false,
  stopGraceMs: 0,
  memoryBytes: 0,
  cpuMillis: 0,
  ports: [],
};
const assignment = (number: number): Assignment => ({
  instanceId: `${SERVICE}-${number}`,
  generation: 1,
  serviceId: SERVICE,
  applicationId: SERVICE,
  jobName: "a.n.s.n",
  instanceNumber: number,
  request: { memoryBytes: 1, cpuMillis: 1, gpus: 0, virtualization: "container", architectures: [], ports: [] },
  workload,
});

function open(path: string): { state: ClusterState; store: ClusterStore } {
  const store = new ClusterStore(path);
  const state = new ClusterState({ store, clock: new ManualClock(), onChanged: () => {} });
  state.load();
  return { state, store };
}

test("what was written is there again: workers, placements, reports, withdrawals, and numbers that go on", () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-cluster-store-"));
  try {
    const path = join(folder, "cluster.db");
    const first = open(path);
    const { id: workerId } = first.state.addWorker({ keyDigest: "d", info });
    first.state.applyDesired({ full: true, assignments: [assignment(1), assignment(0)], removed: [] });
    first.state.applySteps([0, 1].map((n) => ({ do: "place", instanceId: `${SERVICE}-${n}`, workerId })));
    const { number } = first.state.instance(`${SERVICE}-0`)!.placement!;
    first.state.observe(workerId, {
      instanceId: `${SERVICE}-0`,
      generation: number,
      status: "RUNNING",
      detail: "",
      since: 5,
      restarts: 2,
    });
    first.state.save();
    first.state.applyDesired({ full: false, assignments: [], removed: [`${SERVICE}-1`] });
    first.store.close();

    const second = open(path);
    assert.deepEqual(second.state.workers, first.state.workers);
    assert.deepEqual(second.state.withdrawals, first.state.withdrawals);
    assert.equal(second.state.withdrawals.length, 1);
    const [kept, ...others] = second.state.instances;
    assert.equal(others.length, 0);
    assert.equal(kept!.report?.restarts, 2);
    assert.deepEqual(kept!.placement, { workerId, number });
    assert.ok(second.store.nextPlacement() > Math.max(number, second.state.withdrawals[0]!.number));
    second.state.observe(workerId, { ...kept!.report!, status: "COMPLETED" });
    second.state.removeWorker(workerId);
    second.store.close();

    const third = open(path);
    assert.deepEqual([third.state.workers, third.state.withdrawals], [[], []]);
    assert.equal(third.state.instances[0]!.placement, undefined);
    assert.equal(third.state.instances[0]!.report?.status, "COMPLETED", "it must not run again");
    third.store.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a move that has begun is there again, in each of its parts", () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-cluster-store-"));
  try {
    const path = join(folder, "cluster.db");
    const instanceId = `${SERVICE}-0`;
    const first = open(path);
    const [a, b] = ["a", "b"].map(
      (hostname) => first.state.addWorker({ keyDigest: hostname, info: { ...info, hostname } }).id,
    ) as [string, string];
    first.state.applyDesired({ full: true, assignments: [assignment(0)], removed: [] });
    first.state.applySteps([
      { do: "place", instanceId, workerId: a },
      { do: "prepare", instanceId, workerId: b, reason: "too far" },
    ]);
    const { placement, successor } = first.state.instance(instanceId)!;
    const report = { instanceId, status: "RUNNING", detail: "", since: 5, restarts: 0 } as const;
    first.state.observe(a, { ...report, generation: placement!.number });
    first.state.observe(b, { ...report, generation: successor!.placement.number });
    first.state.save();
    first.store.close();

    const second = open(path);
    const begun = second.state.instance(instanceId)!;
    assert.deepEqual([begun.placement, begun.report?.status], [placement, "RUNNING"]);
    assert.deepEqual(begun.successor?.placement, successor!.placement);
    assert.deepEqual([begun.successor?.reason, begun.successor?.report?.status], ["too far", "RUNNING"]);
    second.state.applySteps([{ do: "switch", instanceId, workerId: b, reason: "too far" }]);
    second.store.close();

    const third = open(path);
    const switched = third.state.instance(instanceId)!;
    assert.deepEqual([switched.placement, switched.successor], [successor!.placement, undefined]);
    assert.deepEqual([switched.predecessor?.placement, switched.predecessor?.report?.status], [placement, "RUNNING"]);
    assert.equal(switched.moveNote, 'moved from worker "a": too far');
    third.state.applySteps([{ do: "retire", instanceId, workerId: a }]);
    third.store.close();

    const fourth = open(path);
    assert.equal(fourth.state.instance(instanceId)!.predecessor, undefined);
    assert.deepEqual(
      fourth.state.withdrawals.map(({ workerId, number }) => [workerId, number]),
      [[a, placement!.number]],
    );
    fourth.store.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a full report of the root withdraws what it does not list, each change raises the manifest once", () => {
  const { state, store } = open(":memory:");
  const { id: workerId } = state.addWorker({ keyDigest: "d", info });
  const all = [0, 1, 2].map(assignment);
  state.applyDesired({ full: true, assignments: all, removed: [] });
  state.applySteps(all.map(({ instanceId }) => ({ do: "place", instanceId, workerId })));
  assert.equal(state.worker(workerId)!.manifestRevision, 1);
  state.applyDesired({ full: true, assignments: [all[1]!], removed: [] });
  assert.equal(state.worker(workerId)!.manifestRevision, 2);
  assert.deepEqual(
    state.instances.map(({ assignment: { instanceNumber } }) => instanceNumber),
    [1],
  );
  state.applyDesired({ full: true, assignments: [all[1]!], removed: [] });
  assert.equal(state.worker(workerId)!.manifestRevision, 2, "nothing new");
  state.applyDesired({
    full: false,
    assignments: [{ ...all[1]!, workload: { ...workload, image: "j" } }],
    removed: [],
  });
  assert.equal(state.worker(workerId)!.manifestRevision, 3, "other content of the same generation is published");
  store.close();
});

test("a change that fails halfway changes nothing, in memory or on disk", () => {
  const { state, store } = open(":memory:");
  const { id: workerId } = state.addWorker({ keyDigest: "d", info });
  state.applyDesired({ full: true, assignments: [assignment(0)], removed: [] });
  const unplaced = state.instance(`${SERVICE}-0`);
  store.nextPlacement = () => {
    throw Object.assign(new Error("database or disk is full"), { errcode: 13 });
  };
  assert.throws(
    () => state.applySteps([{ do: "place", instanceId: `${SERVICE}-0`, workerId }]),
    (error) => error instanceof AppError && error.code === "STORAGE_FULL",
  );
  assert.equal(state.instance(`${SERVICE}-0`), unplaced);
  assert.equal(state.worker(workerId)!.manifestRevision, 0);
  store.close();
});

test("a worker that lies about its manifest does no harm; one that is ahead of us is overtaken", () => {
  const { state, store } = open(":memory:");
  const { id } = state.addWorker({ keyDigest: "d", info });
  state.outgrow(id, Number.MAX_SAFE_INTEGER);
  assert.equal(state.worker(id)!.manifestRevision, 0);
  state.outgrow(id, 41);
  assert.equal(state.worker(id)!.manifestRevision, 42);
  store.close();
});

test("a join token serves once, and expired ones go", () => {
  const store = new ClusterStore(":memory:");
  store.addToken(secretDigest("a"), 100, 0);
  assert.equal(store.takeToken(secretDigest("a")), 100);
  assert.equal(store.takeToken(secretDigest("a")), undefined);
  store.addToken(secretDigest("b"), 100, 0);
  store.addToken(secretDigest("c"), 300, 200);
  assert.equal(store.takeToken(secretDigest("b")), undefined);
  store.close();
});
