import assert from "node:assert/strict";
import { test } from "node:test";
import { aggregate } from "../hierarchy/capacity.ts";
import { OutgoingState } from "./outgoing-state.ts";

const ID = `${"a".repeat(24)}-0`;

/** @param lookMs that a look at all workers takes */
function scene(lookMs = 0) {
  const clock = { at: 0, monotonic: () => clock.at, now: () => clock.at, sleep: async () => {} };
  let looks = 0;
  let detail = "running";
  const outgoing = new OutgoingState(
    {
      instanceIds: () => [ID],
      report: (instanceId) => ({ instanceId, generation: 1, status: "RUNNING", detail, since: 1, restarts: 0 }),
      aggregate: () => {
        looks += 1;
        clock.at += lookMs;
        return aggregate([]);
      },
      subnetsFree: () => 4,
      landmarks: () => [],
    },
    clock,
  );
  const change = (to: string) => {
    detail = to;
    outgoing.mark(ID);
    return outgoing.next();
  };
  return { clock, outgoing, change, looks: () => looks };
}

test("changes of instances are told at once, without a look at all workers for each of them", () => {
  const { outgoing, change, looks } = scene();
  assert.equal(outgoing.next()?.full, true);
  for (const detail of ["one", "two", "three"]) assert.deepEqual(change(detail)?.instances[0]?.detail, detail);
  assert.equal(change("three"), undefined, "nothing is told twice");
  assert.equal(looks(), 1);
});

test("while nothing changes, all workers are looked at on every beat, and told of as a heartbeat", () => {
  const { clock, outgoing, looks } = scene();
  outgoing.next();
  clock.at += 3_000;
  assert.equal(outgoing.next(), undefined);
  assert.equal(looks(), 2);
  clock.at += 7_000;
  assert.ok(outgoing.next()?.aggregate, "after ten seconds");
});

test("a worker that comes or goes is told of at once, also the next one", () => {
  const { outgoing, looks } = scene();
  outgoing.next();
  for (const expected of [2, 3]) {
    outgoing.urge();
    assert.ok(outgoing.next()?.aggregate);
    assert.equal(looks(), expected);
  }
});

test("where a look takes long, those who come soon after each other are told of together", () => {
  const { clock, outgoing, looks } = scene(60);
  outgoing.next();
  outgoing.urge();
  assert.equal(outgoing.next(), undefined);
  clock.at += 9 * 60;
  assert.ok(outgoing.next()?.aggregate);
  assert.equal(looks(), 2);
});
