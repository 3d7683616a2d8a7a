import assert from "node:assert/strict";
import { test } from "node:test";
import { resting, type Tries, unforgotten, withTry } from "./tries.ts";

const MINUTE = 60_000;

test("each try in vain doubles the rest, up to an hour", () => {
  let tries: Tries = new Map();
  let now = 0;
  for (const minutes of [1, 2, 4, 8, 16, 32, 60, 60]) {
    tries = withTry(tries, "a", `after ${now}`, now);
    assert.deepEqual([...resting(tries, now + minutes * MINUTE - 1)], [["a", `after ${now}`]]);
    now += minutes * MINUTE;
    assert.deepEqual([...resting(tries, now)], []);
  }
});

test("four rests after a try it is forgotten, and the next one is a first one again", () => {
  const tries = withTry(withTry(new Map(), "a", "first", 0), "a", "second", 0);
  assert.equal(unforgotten(tries, 8 * MINUTE - 1).size, 1);
  assert.equal(unforgotten(tries, 8 * MINUTE).size, 0);
  const after = withTry(withTry(tries, "b", "other", 8 * MINUTE), "a", "third", 8 * MINUTE);
  assert.deepEqual([...resting(after, 9 * MINUTE - 1).keys()], ["b", "a"]);
  assert.equal(resting(after, 9 * MINUTE).size, 0);
});
