import assert from "node:assert/strict";
import { test } from "node:test";
import { Attention } from "./attention.ts";
import { ManualClock } from "./clock.fake.ts";

test("time goes on while somebody listens, and of a while in which nobody could only a moment counts", async () => {
  let now = 1_000;
  const attention = new Attention({ ...new ManualClock(), monotonic: () => now } as never);
  const start = attention.monotonic();
  for (let looks = 0; looks < 8; looks++) {
    now += 250;
    attention.look();
  }
  assert.equal(attention.monotonic() - start, 2_000);
  now += 12_000;
  assert.equal(attention.monotonic() - start, 3_000, "before the first look after it");
  attention.look();
  assert.equal(attention.monotonic() - start, 3_000, "and with it");
  now += 250;
  assert.equal(attention.monotonic() - start, 3_250);
});

test("it listens until it is stopped", async () => {
  const clock = new ManualClock();
  const attention = new Attention(clock);
  const start = attention.monotonic();
  const stop = new AbortController();
  const running = attention.run(stop.signal);
  await clock.advance(30_000);
  assert.equal(attention.monotonic() - start, 30_000);
  stop.abort();
  await running;
});
