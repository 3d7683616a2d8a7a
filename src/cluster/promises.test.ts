import assert from "node:assert/strict";
import { test } from "node:test";
import type { Assignment } from "../protocol/instance.ts";
import type { Link, PlacementRequest, UserLink } from "../protocol/placement-request.ts";
import { at, candidate, link, request, users } from "../scheduler/builders.fake.ts";
import type { Instance, Worker } from "./model.ts";
import { type PlanInput, plan } from "./plan.ts";
import { Promises, type PromisesInput } from "./promises.ts";

const ID = "0123456789abcdef01234567-0";
const strict = { rigidness: 0.9, convergenceMs: 15_000 };

function instance(change: { links?: Link[]; users?: UserLink[] }, workerId = "a", number = 1): Instance {
  const assignment = {
    instanceId: ID,
    jobName: "a.n.web.n",
    instanceNumber: 0,
    request: request(change),
    workload: { oneShot: false },
  } as Assignment;
  const report = { instanceId: ID, generation: number, status: "RUNNING" as const, detail: "", since: 0, restarts: 0 };
  return { assignment, placement: { workerId, number }, report, seenAt: 0, since: 0, failures: 0, tried: new Map() };
}

/** The worker stands at 0, the linked service at `x`. */
const seen = (one: Instance, now: number, x: number): PromisesInput => ({
  now,
  instances: [one],
  candidateOf: (id) => candidate(id, { position: at(0) }),
  resolved: (asked) => ({ ...asked, links: (asked.links ?? []).map((each) => ({ ...each, targets: [at(x)] })) }),
});

/** Looks every two seconds until something should move; the time, and why. */
function untilMove(
  promises: Promises,
  one: Instance,
  { from, limitMs, x }: { from: number; limitMs: number; x: number },
) {
  for (let now = from; now <= from + limitMs; now += 2_000) {
    const { moves } = promises.round(seen(one, now, x));
    if (moves.size > 0) return { now, reason: moves.get(ID)! };
  }
  return undefined;
}

test("a link that is broken for all of its convergence time moves the instance; then it rests, on its new worker, too", () => {
  const promises = new Promises({ measured: () => undefined });
  const one = instance({ links: [link(strict)] });
  assert.equal(untilMove(promises, one, { from: 0, limitMs: 120_000, x: 10 }), undefined, "kept");
  const moved = untilMove(promises, one, { from: 122_000, limitMs: 120_000, x: 80 })!;
  assert.ok(moved.now - 122_000 >= 15_000);
  assert.match(moved.reason, /latency to service .* was within 20 ms in \d+ of \d+ measurements, promised are 90 %/);
  promises.tried([ID], new Set([ID]), moved.now);
  const elsewhere = instance({ links: [link(strict)] }, "b", 2);
  const again = untilMove(promises, elsewhere, { from: moved.now + 2_000, limitMs: 600_000, x: 80 })!;
  assert.ok(again.now - moved.now >= 60_000, "a rest lies between two moves");
});

test("what moves already is not to move for another reason", () => {
  const promises = new Promises({ measured: () => undefined });
  const successor = { placement: { workerId: "b", number: 2 }, reason: "too far", seenAt: 0, since: 0 };
  const one = { ...instance({ links: [link(strict)] }), successor };
  assert.equal(untilMove(promises, one, { from: 0, limitMs: 600_000, x: 80 }), undefined);
});

test("what no worker here could mend is told until it is kept again, is mended here, or moves", () => {
  const broken = () => {
    const promises = new Promises({ measured: () => undefined });
    const one = instance({ links: [link(strict)] });
    const { now } = untilMove(promises, one, { from: 0, limitMs: 120_000, x: 80 })!;
    assert.deepEqual(promises.unmended([one]), new Map(), "not before its own cluster has tried");
    return { promises, one, now };
  };
  const { promises, one, now } = broken();
  promises.tried([ID], new Set(), now);
  assert.match(promises.unmended([one]).get(ID)!, /within 20 ms in 0 of/);
  const told = promises.unmended([one]);
  untilMove(promises, one, { from: now + 2_000, limitMs: 40_000, x: 80 });
  assert.deepEqual(promises.unmended([one]), told, "in the same words, however often it is measured");
  const successor = { placement: { workerId: "b", number: 2 }, reason: "too far", seenAt: 0, since: 0 };
  const standby = { ...one, assignment: { ...one.assignment, standby: true } };
  for (const other of [{ ...one, successor }, standby, instance({ links: [link(strict)] }, "b", 2)]) {
    assert.deepEqual(promises.unmended([other]), new Map());
  }
  untilMove(promises, one, { from: now + 44_000, limitMs: 60_000, x: 10 });
  assert.deepEqual(promises.unmended([one]), new Map(), "it is kept again");

  const mended = broken();
  mended.promises.tried([ID], new Set([ID]), mended.now);
  assert.deepEqual(mended.promises.unmended([mended.one]), new Map());
});

test("what another cluster is in charge of promises nothing here", () => {
  const promises = new Promises({ measured: () => undefined });
  const one = instance({ links: [link(strict)] });
  const standby = { ...one, assignment: { ...one.assignment, standby: true } };
  assert.equal(untilMove(promises, standby, { from: 0, limitMs: 600_000, x: 80 }), undefined);
});

test("what was not promised, is not running, or has nothing to be near to never moves", () => {
  const promises = new Promises({ measured: () => undefined });
  const idle = { ...instance({ links: [link(strict)] }), report: undefined };
  for (const one of [instance({ links: [link()] }), idle]) {
    assert.equal(untilMove(promises, one, { from: 0, limitMs: 120_000, x: 80 }), undefined);
  }
  for (let now = 0; now < 120_000; now += 2_000) {
    const input = {
      ...seen(instance({ links: [link(strict)] }), now, 0),
      resolved: (asked: PlacementRequest) => asked,
    };
    assert.deepEqual(promises.round(input), { broken: new Set(), moves: new Map() });
  }
});

test("users at a host: each measurement counts once, no answer is a miss, and others are asked before it moves", () => {
  let last: { rttMs: number | undefined; at: number } | undefined;
  const promises = new Promises({ measured: () => last });
  const one = instance({ users: [users(strict)] });
  let brokenAt: number | undefined;
  let movedAt: number | undefined;
  for (let now = 0; now < 300_000 && movedAt === undefined; now += 2_000) {
    if (now % 10_000 === 0) last = { rttMs: now % 20_000 === 0 ? undefined : 50, at: now };
    const { broken, moves } = promises.round(seen(one, now, 0));
    if (broken.has(ID)) brokenAt ??= now;
    if (moves.has(ID)) movedAt = now;
  }
  assert.ok(brokenAt! >= 40_000, "five measurements at least");
  assert.ok(movedAt! - brokenAt! >= 58_000);
});

test("plan() moves it where the promise can be kept, and leaves it where nobody else can", () => {
  const info = { architecture: "amd64", cpuMillis: 4000, memoryBytes: 2 ** 32, gpus: 0, virtualization: ["container"] };
  const workers = ["a", "b"].map((id) => ({ id, hostname: id, info: { ...info, labels: {} } }) as unknown as Worker);
  const one = instance({ links: [{ ...link(strict), targets: [at(80)] }] });
  const input: PlanInput = {
    now: 0,
    workers,
    instances: [one],
    withdrawals: [],
    livenessOf: () => "active",
    lost: new Set(),
    strategy: "best-fit",
    isAutonomous: false,
    positionOf: ({ id }) => at(id === "a" ? 0 : 75),
    brokenPromises: new Map([[ID, "too far"]]),
  };
  assert.deepEqual(plan(input), [{ do: "prepare", instanceId: ID, workerId: "b", reason: "too far" }]);
  assert.deepEqual(plan({ ...input, positionOf: () => at(0) }), []);
  assert.deepEqual(plan({ ...input, brokenPromises: new Map() }), []);
});
