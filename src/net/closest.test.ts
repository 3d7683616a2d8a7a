import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Candidate, chooseClosest } from "./closest.ts";

const at = (number: number, workerId: string): Candidate => ({ number, workerId });
const choose = (candidates: Candidate[], rtts: Record<string, number>, current?: number) =>
  chooseClosest({ candidates, selfId: "self", rttMs: (workerId) => rtts[workerId], current })?.number;

test("chooseClosest(): own worker first, then the lowest round-trip time, then those not measured", () => {
  const rows: [Candidate[], Record<string, number>, number | undefined, number | undefined][] = [
    [[], {}, undefined, undefined],
    [[], {}, 3, undefined],
    [[at(0, "a"), at(1, "self")], { a: 0.01 }, undefined, 1],
    [[at(0, "a"), at(1, "b")], { a: 9, b: 3 }, undefined, 1],
    [[at(0, "a"), at(1, "b")], { b: 300 }, undefined, 1],
    [[at(1, "b"), at(0, "a")], {}, undefined, 0],
    // Stays: not clearly closer.
    [[at(0, "a"), at(1, "b")], { a: 10, b: 8.1 }, 0, 0],
    [[at(0, "a"), at(1, "b")], { a: 100, b: 81 }, 0, 0],
    [[at(0, "a"), at(1, "b")], { a: 0.5, b: 0.1 }, 0, 0],
    [[at(0, "a"), at(1, "b")], {}, 1, 1],
    [[at(0, "self"), at(1, "self")], {}, 1, 1],
    // Moves.
    [[at(0, "a"), at(1, "b")], { a: 100, b: 79 }, 0, 1],
    [[at(0, "a"), at(1, "b")], { a: 5, b: 2.9 }, 0, 1],
    [[at(0, "a"), at(1, "b")], { b: 50 }, 0, 1],
    [[at(0, "a"), at(1, "self")], { a: 0.1 }, 0, 1],
    [[at(1, "b"), at(2, "c")], { b: 40, c: 20 }, 0, 2],
  ];
  for (const [candidates, rtts, current, expected] of rows) {
    assert.equal(choose(candidates, rtts, current), expected, JSON.stringify([candidates, rtts, current]));
  }
});

test("chooseClosest() names a live one whenever there is one, and does not waver within the hysteresis", () => {
  const candidate = fc.record({ number: fc.nat(9), workerId: fc.constantFrom("self", "a", "b", "c") });
  const live = fc.uniqueArray(candidate, { selector: ({ number }) => number });
  const rtt = fc.option(fc.double({ min: 0.01, max: 500, noNaN: true }), { nil: undefined });
  fc.assert(
    fc.property(live, fc.record({ a: rtt, b: rtt, c: rtt }), fc.nat(9), (candidates, rtts, current) => {
      const input = { candidates, selfId: "self", rttMs: (id: string) => rtts[id as "a"] };
      const chosen = chooseClosest({ ...input, current });
      assert.equal(chosen === undefined, candidates.length === 0);
      if (!chosen) return;
      assert.ok((candidates as Candidate[]).includes(chosen));
      if (candidates.some(({ workerId }) => workerId === "self")) assert.equal(chosen.workerId, "self");
      assert.deepEqual(chooseClosest({ ...input, current: chosen.number }), chosen, "a choice is stable");
      const wavering = (id: string) =>
        (rtts[id as "a"] ?? Number.POSITIVE_INFINITY) * (id === chosen.workerId ? 1 : 0.9);
      const best = chooseClosest(input)!;
      const next = chooseClosest({ ...input, rttMs: wavering, current: best.number })!;
      if (best.workerId !== "self" && rtts[best.workerId as "a"] !== undefined) assert.deepEqual(next, best);
    }),
  );
});
