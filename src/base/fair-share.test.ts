import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FairShare } from "./fair-share.ts";

const fill = (share: FairShare<string>, source: string, count: number) =>
  Array.from({ length: count }, (_, index) => share.add(source, `${source}${index}`));

test("beyond its share a source is refused, or gives up its own oldest", () => {
  const refusing = new FairShare<string>({ max: 16, share: 2, beyond: "refuse" });
  assert.deepEqual(
    fill(refusing, "a", 3).map(({ isAdmitted }) => isAdmitted),
    [true, true, false],
  );
  const replacing = new FairShare<string>({ max: 16, share: 2, beyond: "replace" });
  assert.deepEqual(
    fill(replacing, "a", 4).map(({ evicted }) => evicted),
    [undefined, undefined, "a0", "a1"],
  );
  replacing.delete("a0");
  replacing.delete("a3");
  assert.deepEqual([...replacing.items()], ["a2"]);
});

test("when all is taken, who has most gives up its oldest to who has less, and equals keep what they have", () => {
  const share = new FairShare<string>({ max: 8, share: 4, beyond: "refuse" });
  fill(share, "a", 4);
  fill(share, "b", 4);
  assert.deepEqual(share.add("c", "c0"), { isAdmitted: true, evicted: "a0" });
  assert.deepEqual(share.add("c", "c1"), { isAdmitted: true, evicted: "b0" });
  assert.deepEqual(share.add("c", "c2"), { isAdmitted: false });
});

test("there are never more than all, nor more of one than its share, and who has less than an equal part gets in", () => {
  const step = fc.record({ source: fc.constantFrom("a", "b", "c", "d", "e"), leaves: fc.nat(3) });
  const options = fc.record({
    max: fc.integer({ min: 5, max: 20 }),
    share: fc.integer({ min: 1, max: 6 }),
    beyond: fc.constantFrom("refuse" as const, "replace" as const),
  });
  fc.assert(
    fc.property(options, fc.array(step, { maxLength: 100 }), (limits, steps) => {
      const fair = new FairShare<{ source: string }>(limits);
      const held: { source: string }[] = [];
      for (const { source, leaves } of steps) {
        const before = held.filter((one) => one.source === source).length;
        const item = { source };
        const { isAdmitted, evicted } = fair.add(source, item);
        if (before < Math.min(limits.share, Math.floor(limits.max / 5))) assert.ok(isAdmitted);
        if (isAdmitted) held.push(item);
        if (evicted) held.splice(held.indexOf(evicted), 1);
        assert.equal(fair.count, held.length);
        assert.ok(held.length <= limits.max);
        assert.ok(held.filter((one) => one.source === source).length <= limits.share);
        if (leaves === 0) for (const gone of held.splice(0, 1)) fair.delete(gone);
      }
      assert.deepEqual(new Set(fair.items()), new Set(held));
    }),
  );
});
