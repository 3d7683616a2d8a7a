import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { assess, moved, observe, type Promised, UNWATCHED, type Watch } from "./violation.ts";

const promised: Promised = {
  measure: "latency",
  threshold: 20,
  rigidness: 0.9,
  convergenceMs: 30_000,
  to: "service web",
};

/** One measurement a second. */
function live(watch: Watch, from: number, seconds: number, measure: (second: number) => number | undefined): Watch {
  return Array.from({ length: seconds }, (_, second) => second).reduce(
    (state, second) => observe(state, promised, measure(second), from + second * 1000),
    watch,
  );
}
const good = () => 10;
const bad = () => 50;

test("a kept promise is left alone; a single spike as well", () => {
  const watch = live(UNWATCHED, 0, 300, (second) => (second % 60 === 59 ? 500 : 10));
  assert.equal(assess(watch, promised, 300_000).state, "kept");
});

test("a promise broken for all of the convergence time moves the instance, and says why", () => {
  const calm = live(UNWATCHED, 0, 60, good);
  const soon = live(calm, 60_000, 10, bad);
  assert.equal(assess(soon, promised, 70_000).state, "broken");
  const later = live(soon, 70_000, 40, bad);
  const assessment = assess(later, promised, 110_000);
  assert.ok(assessment.state === "move");
  assert.match(
    assessment.reason,
    /^latency to service web was within 20 ms in 0 of \d+ measurements, promised are 90 %$/,
  );
});

test("no answer is a miss; NaN and negative values are no measurement", () => {
  assert.equal(
    assess(
      live(UNWATCHED, 0, 60, () => undefined),
      promised,
      60_000,
    ).state,
    "move",
  );
  assert.equal(
    assess(
      live(UNWATCHED, 0, 60, () => Number.NaN),
      promised,
      60_000,
    ).state,
    "unknown",
  );
  assert.equal(
    assess(
      live(UNWATCHED, 0, 60, () => -1),
      promised,
      60_000,
    ).state,
    "unknown",
  );
});

test("few or old measurements prove nothing, nor does a rigidness of 0 or none", () => {
  assert.equal(assess(live(UNWATCHED, 0, 4, bad), promised, 4_000).state, "unknown");
  const watch = live(UNWATCHED, 0, 60, bad);
  assert.equal(assess(watch, promised, 600_000).state, "unknown");
  assert.equal(assess(watch, { ...promised, rigidness: 0 }, 60_000).state, "unknown");
  assert.equal(assess(watch, { ...promised, rigidness: undefined }, 60_000).state, "unknown");
});

test("on the brink it does not flap: broken below 90 %, kept again only from 95 % on", () => {
  const brink = (share: number) => (second: number) => (second % 100 < share ? 10 : 50);
  const broken = live(UNWATCHED, 0, 60, (second) => (second % 10 < 8 ? 10 : 50));
  assert.notEqual(broken.brokenSince, undefined);
  const still = live(broken, 60_000, 90, (second) => (second % 15 === 0 ? 50 : 10));
  assert.notEqual(still.brokenSince, undefined);
  assert.equal(live(still, 150_000, 90, brink(100)).brokenSince, undefined);
});

test("after a move it rests, each time longer, and quiet times are forgotten", () => {
  const first = moved(live(UNWATCHED, 0, 60, bad), 60_000);
  const again = live(first, 60_000, 40, bad);
  const resting = assess(again, promised, 100_000);
  assert.ok(resting.state === "resting");
  assert.match(resting.reason, /moved 1 times lately, stays for 20 s more/);
  const second = live(again, 100_000, 21, bad);
  assert.equal(assess(second, promised, 121_000).state, "move");
  const third = live(moved(second, 121_000), 121_000, 100, bad);
  assert.equal(assess(third, promised, 221_000).state, "resting", "the second rest is twice as long");
  const quiet = live(moved(third, 250_000), 250_000, 3_000, good);
  assert.equal(quiet.moves, 0);
});

test("a clock that jumps back or a year ahead neither moves nor throws", () => {
  const watch = live(UNWATCHED, 1e9, 60, good);
  assert.equal(assess(live(watch, 0, 20, good), promised, 20_000).state, "kept");
  assert.equal(assess(live(watch, 3e10, 3, bad), promised, 3e10 + 3000).state, "unknown");
});

test("whatever is measured, moves are at least a rest apart, and memory is bounded", () => {
  fc.assert(
    fc.property(
      fc.array(fc.option(fc.double({ min: 0, max: 60 }), { nil: undefined }), { maxLength: 400 }),
      (values) => {
        let watch = UNWATCHED;
        let movedAt = Number.NEGATIVE_INFINITY;
        values.forEach((value, second) => {
          const now = second * 1000;
          watch = observe(watch, promised, value, now);
          assert.ok(watch.buckets.length <= 11);
          if (assess(watch, promised, now).state !== "move") return;
          assert.ok(now - movedAt >= 60_000);
          movedAt = now;
          watch = moved(watch, now);
        });
      },
    ),
  );
});
