import assert from "node:assert/strict";
import { test } from "node:test";
import { candidate, request } from "../scheduler/builders.fake.ts";
import { readRecord, replay } from "../scheduler/record.ts";
import { schedule } from "../scheduler/schedule.ts";
import type { Decided } from "./delegate.ts";
import { History } from "./history.ts";

const options = { strategy: "best-fit" as const };
const decided = (instanceId: string, memoryBytes = 1): Decided => {
  const asked = request({ memoryBytes });
  const candidates = [candidate("a"), candidate("b")];
  return { instanceId, request: asked, candidates, options, decision: schedule(asked, candidates, options) };
};

test("the last decisions and events of an instance are kept, and what is the same again counts once", () => {
  const history = new History("cluster");
  for (let at = 0; at < 100; at++) history.happened("i", { at, status: "DEAD", detail: `${Math.floor(at / 2)}` });
  const timeline = history.timeline("i");
  assert.equal(timeline.length, 40);
  assert.deepEqual(timeline.at(-1), { at: 98, status: "DEAD", detail: "49" });

  history.decided(decided("i", 2 ** 40), 1);
  history.decided(decided("i", 2 ** 40), 2);
  assert.deepEqual(
    history.decisions("i").map(({ at }) => at),
    [1],
    "refused for the same reasons",
  );
  for (let at = 3; at < 20; at++) history.decided(decided("i"), at);
  const kept = history.decisions("i");
  assert.deepEqual(
    kept.map(({ at }) => at),
    [15, 16, 17, 18, 19],
  );
  for (const one of kept) assert.equal(replay(readRecord(JSON.parse(JSON.stringify(one)))!).same, true);
});

test("the last decision is to be saved, once; memory is bounded, and who is heard of least is forgotten", () => {
  const history = new History("root");
  history.decided(decided("i"), 1);
  history.decided(decided("i"), 2);
  assert.deepEqual(
    history.takeUnsaved().map(({ at }) => at),
    [2],
  );
  assert.deepEqual(history.takeUnsaved(), []);
  for (let one = 0; one < 5_000; one++) history.happened(`${one}`, { at: 0, status: "RUNNING", detail: "" });
  assert.deepEqual(history.decisions("i"), []);
  assert.equal(history.timeline("0").length, 1);
});

test("instances that are no more are forgotten", () => {
  const history = new History("root");
  for (const id of ["a", "b"]) history.happened(id, { at: 1, status: "REQUESTED", detail: "new" });
  history.retain((id) => id === "b");
  assert.deepEqual([history.timeline("a").length, history.timeline("b").length], [0, 1]);
});
