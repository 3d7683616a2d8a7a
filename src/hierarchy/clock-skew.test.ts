import assert from "node:assert/strict";
import { test } from "node:test";
import { describeSkew } from "./clock-skew.ts";

test("a clock that is off is described in a fitting unit, and one that is nearly right is not", () => {
  const minute = 60_000;
  assert.equal(describeSkew(undefined), undefined);
  assert.equal(describeSkew(59_000), undefined);
  assert.equal(describeSkew(-59_000), undefined);
  assert.equal(describeSkew(90_000), "its clock is 2 minutes ahead");
  assert.equal(describeSkew(-3 * 60 * minute), "its clock is 3 hours behind");
  assert.equal(describeSkew(365 * 24 * 60 * minute), "its clock is 365 days ahead");
});
