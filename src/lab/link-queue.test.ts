import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LinkQueue, type LinkQueueOptions } from "./link-queue.ts";
import type { Shape } from "./topology.ts";

const perfect: Shape = { delayMs: 0, jitterMs: 0, lossPercent: 0, bitsPerSecond: undefined };
const queue = (shape: Partial<Shape>, options: Partial<LinkQueueOptions> = {}) =>
  new LinkQueue({ shape: { ...perfect, ...shape }, random: () => 0.5, ...options });
const packet = (size = 100) => new Uint8Array(size);

test("a packet comes out after the delay, and not before", () => {
  const link = queue({ delayMs: 20 });
  assert.equal(link.nextDueMs, undefined);
  link.push(packet(), 100);
  assert.equal(link.nextDueMs, 120);
  assert.equal(link.pop(119.9), undefined);
  assert.equal(link.pop(120)?.length, 100);
  assert.equal(link.pop(1000), undefined);
});

test("packets follow each other as the bandwidth allows", () => {
  const link = queue({ bitsPerSecond: 8000, delayMs: 5 });
  for (let count = 0; count < 3; count++) link.push(packet(100), 0);
  assert.equal(link.nextDueMs, 105);
  assert.ok(link.pop(105) && !link.pop(204) && link.pop(205) && link.pop(305));
  link.push(packet(100), 1000);
  assert.equal(link.nextDueMs, 1105);
});

test("the share of lost packets is the one asked for", () => {
  const chances = [0.009, 0.011, 0.5, 0];
  const link = queue({ lossPercent: 1 }, { random: () => chances.shift()! });
  assert.deepEqual(
    [1, 2, 3, 4].map(() => link.push(packet(), 0)),
    [false, true, true, false],
  );
  assert.equal(queue({ lossPercent: 100 }, { random: () => 0.999 }).push(packet(), 0), false);
});

test("a full queue loses what comes, and takes again when there is room", () => {
  const link = queue({ delayMs: 1 }, { maxBytes: 250 });
  assert.deepEqual([link.push(packet(), 0), link.push(packet(), 0), link.push(packet(), 0)], [true, true, false]);
  link.pop(1);
  assert.equal(link.push(packet(), 1), true);
});

test("whatever the jitter, packets keep their order, none is early, and none is lost", () => {
  const steps = fc.array(
    fc.record({
      waitMs: fc.double({ min: 0, max: 10, noNaN: true }),
      chance: fc.double({ min: 0, max: 0.999, noNaN: true }),
    }),
    { maxLength: 3000 },
  );
  fc.assert(
    fc.property(steps, (all) => {
      let chance = 0;
      const link = queue({ delayMs: 8, jitterMs: 3 }, { random: () => chance });
      const out: number[] = [];
      let now = 0;
      const sentAt: number[] = [];
      const drain = () => {
        for (let next = link.pop(now); next; next = link.pop(now)) {
          const number = new DataView(next.buffer).getUint32(0);
          assert.ok(now >= sentAt[number]! + 5 - 1e-9);
          out.push(number);
        }
      };
      for (const [number, step] of all.entries()) {
        now += step.waitMs;
        chance = step.chance;
        sentAt.push(now);
        const bytes = new Uint8Array(4);
        new DataView(bytes.buffer).setUint32(0, number);
        assert.ok(link.push(bytes, now));
        drain();
      }
      now = Number.POSITIVE_INFINITY;
      drain();
      assert.deepEqual(out, [...all.keys()]);
    }),
    { numRuns: 20 },
  );
});
