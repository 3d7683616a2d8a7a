import assert from "node:assert/strict";
import { test } from "node:test";
import { workerRemark } from "./worker-remark.ts";

const heard = { connected: true, hasLeft: false, expected: 3, heardSince: 0, malformed: 0 };

test("of a worker that is well nothing is remarked", () => assert.equal(workerRemark("active", heard), ""));

test("a worker that registered and never reported, silence and an end are told apart", () => {
  const half = { ...heard, connected: false, expected: undefined };
  for (const status of ["suspect", "lost"] as const)
    assert.match(workerRemark(status, half), /^registered, but has not reported .* gets no instances/);
  assert.equal(workerRemark("lost", heard), "not heard from since 1970-01-01T00:00:00.000Z");
  assert.match(workerRemark("suspect", { ...heard, connected: false, hasLeft: true }), /^its connection has ended/);
});

test("a wrong clock and malformed messages are told also of an active worker", () => {
  const year = 365 * 86_400_000;
  assert.equal(workerRemark("active", { ...heard, clockOffMs: -year }), "its clock is 365 days behind");
  assert.match(
    workerRemark("active", { ...heard, malformed: 2, clockOffMs: year }),
    /^2 of its messages .*; its clock/,
  );
});
