import assert from "node:assert/strict";
import { test } from "node:test";
import { neighbours } from "../hierarchy/neighbours.ts";
import type { Assignment } from "../protocol/instance.ts";
import { request, users } from "../scheduler/builders.fake.ts";
import { landmarksOf, measurePlan } from "./measure-plan.ts";
import type { Instance, Worker } from "./model.ts";

const worker = (id: string, publicIp = `192.0.2.${Number.parseInt(id, 16)}`) =>
  ({ id, hostname: id, info: { publicIp } }) as unknown as Worker;
const ids = (count: number) => Array.from({ length: count }, (_, index) => (index + 1).toString(16).padStart(2, "0"));
const instance = (number: number, workerId?: string, rigidness?: number): Instance => ({
  assignment: {
    instanceId: `i-${number}`,
    request: request({ users: [users({ target: `host${number}`, ...(rigidness ? { rigidness } : {}) })] }),
  } as Assignment,
  ...(workerId ? { placement: { workerId, number: 1 } } : {}),
  seenAt: 0,
  since: 0,
  failures: 0,
  tried: new Map(),
});

test("neighbours() is the same in both directions, and changes for few when one comes", () => {
  for (const count of [0, 1, 2, 3, 4, 5, 6, 30]) {
    const near = neighbours(ids(count));
    for (const [id, others] of near) {
      assert.ok(!others.includes(id));
      for (const other of others) assert.ok(near.get(other)!.includes(id), `${other} knows ${id}`);
    }
    if (count > 4) assert.ok([...near.values()].every(({ length }) => length === 4));
  }
  const before = neighbours(ids(30));
  const after = neighbours([...ids(30), "055"]);
  const changed = [...before].filter(([id, others]) => after.get(id)!.join() !== others.join());
  assert.ok(changed.length <= 4);
});

test("who is silent for a moment keeps its neighbours, and is asked for nothing else", () => {
  const workers = ids(8).map((id) => worker(id));
  const input = { workers, instances: [instance(1)], restless: new Set<string>(), foreign: [] };
  const all = measurePlan(input);
  const some = measurePlan({ ...input, active: workers.slice(2) });
  for (const { id } of workers) assert.deepEqual(some.get(id)!.peers, all.get(id)!.peers);
  assert.deepEqual(some.get("01")!.targets, []);
  assert.deepEqual(some.get("02")!.targets, []);
  assert.equal([...some.values()].filter(({ targets }) => targets.length > 0).length, 6);
});

test("three landmarks measure other clusters; who has no address measures nobody", () => {
  const workers = [...ids(5).map((id) => worker(id)), worker("ff", "127.0.0.1"), worker("fe", "not an address")];
  const foreign = [{ id: "x", address: "198.51.100.1" }];
  const plan = measurePlan({ workers, instances: [], restless: new Set(), foreign });
  const abroad = [...plan].filter(([, { peers }]) => peers.some(({ id }) => id === "x")).map(([id]) => id);
  assert.deepEqual(
    abroad,
    landmarksOf(workers).map(({ id }) => id),
  );
  assert.equal(abroad.length, 3);
  assert.deepEqual(
    [plan.get("ff"), plan.get("fe")],
    [
      { peers: [], targets: [] },
      { peers: [], targets: [] },
    ],
  );
});

test("users are measured by a few workers until there is a place, then by its worker, if that was promised", () => {
  const workers = ids(20).map((id) => worker(id));
  const who = (instances: readonly Instance[], restless: readonly string[] = []) =>
    [...measurePlan({ workers, instances, restless: new Set(restless), foreign: [] })]
      .filter(([, { targets }]) => targets.length > 0)
      .map(([id]) => id);
  const surveyors = who([instance(1)]);
  assert.equal(surveyors.length, 6);
  assert.notDeepEqual(who([instance(2)]), surveyors, "others for another host");
  assert.deepEqual(who([instance(1, "03")]), []);
  assert.deepEqual(who([instance(1, "03", 0.9)]), ["03"]);
  assert.deepEqual(who([instance(1, "03", 0.9)], ["i-1"]), [...new Set([...surveyors, "03"])].sort());
});
