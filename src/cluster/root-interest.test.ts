import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { InterestKey } from "../protocol/route.ts";
import { RootInterest } from "./root-interest.ts";

const KEYS: readonly InterestKey[] = ["name:a", "name:b", "name:c"];

test("the root ends up with exactly what is wanted, whatever happens in between", () => {
  const step = fc.record({
    do: fc.constantFrom("want", "unwant", "answer", "assign", "tell", "wait", "link"),
    key: fc.constantFrom(...KEYS),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
      const answers = new Map<InterestKey, readonly string[]>();
      const interest = new RootInterest({ keys: () => [...answers.keys()], answer: (key) => answers.get(key) });
      const wanted = new Set<InterestKey>();
      const root = new Set<InterestKey>();
      let now = 0;
      const tell = () => {
        for (const key of interest.expire(now)) answers.delete(key);
        const message = interest.next(wanted);
        if (message?.full) root.clear();
        for (const key of message?.add ?? []) root.add(key);
        for (const key of message?.remove ?? []) root.delete(key);
        for (const key of wanted) assert.ok(root.has(key), `${key} is wanted, and not told`);
      };
      for (const { do: action, key } of steps) {
        if (action === "want" && !wanted.has(key)) {
          wanted.add(key);
          interest.want(key);
        } else if (action === "unwant" && wanted.delete(key)) interest.unwant(key, now);
        else if (action === "answer" && root.has(key)) answers.set(key, ["s"]);
        else if (action === "assign") {
          // The root takes an assignment for an interest, and answers it.
          root.add(key);
          answers.set(key, ["s"]);
          if (!wanted.has(key)) interest.offered(key, now);
        } else if (action === "tell") tell();
        else if (action === "wait") now += 1_500;
        else if (action === "link") {
          root.clear();
          interest.startSession();
        }
      }
      tell();
      now += 10_000;
      tell();
      assert.deepEqual([...root].sort(), [...wanted].sort());
      assert.equal(interest.untilNextMs(now), Number.POSITIVE_INFINITY);
    }),
  );
});

test("what the root offered is told to be wanted, or given up after a moment", () => {
  const interest = new RootInterest({ keys: () => [], answer: () => ["s"] });
  assert.deepEqual(interest.next([]), { full: true, add: [], remove: [] });
  interest.offered("name:a", 0);
  interest.offered("name:b", 0);
  interest.want("name:a");
  assert.deepEqual(interest.next(["name:a"]), { full: false, add: ["name:a"], remove: [] });
  assert.deepEqual(interest.expire(2_000), ["name:b"]);
  assert.deepEqual(interest.next(["name:a"]), { full: false, add: [], remove: ["name:b"] });
});

test("what was known before a start is asked again, and given up when nobody wants it for a minute", () => {
  const interest = new RootInterest({ keys: () => ["name:a", "name:b"], answer: () => ["s"] });
  interest.load(0);
  interest.want("name:a");
  assert.deepEqual(interest.next(["name:a"]), { full: true, add: ["name:a", "name:b"], remove: [] });
  assert.deepEqual(interest.expire(59_999), []);
  assert.deepEqual(interest.expire(60_000), ["name:b"]);
  assert.deepEqual(interest.next(["name:a"]), { full: false, add: [], remove: ["name:b"] });
});
