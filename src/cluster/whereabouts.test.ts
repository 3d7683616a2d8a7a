import assert from "node:assert/strict";
import { test } from "node:test";
import { assignment } from "./builders.fake.ts";
import type { Instance } from "./model.ts";
import { ownTargets } from "./whereabouts.ts";

test("others are to be near to the instance that is in charge: not to one on standby, nor to one that has no worker", () => {
  const plain = { seenAt: 0, since: 0, failures: 0, tried: new Map() };
  const here: Instance = { ...plain, assignment: assignment(1), placement: { workerId: "a", number: 1 } };
  const nowhere: Instance = { ...plain, assignment: assignment(1) };
  const elsewhere: Instance = { ...here, assignment: { ...assignment(1), standby: true } };
  const targets = ownTargets([here, nowhere, elsewhere], () => undefined);
  assert.deepEqual([...targets], [[assignment(1).jobName, [{ candidateId: "a" }]]]);
});
