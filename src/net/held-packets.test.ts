import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { destinationOf, HeldPackets } from "./held-packets.ts";

const packet = (length: number, mark = 0) => Buffer.alloc(length, mark);

test("packets of an address come back in order, once, and only the first asks", () => {
  const held = new HeldPackets();
  assert.equal(held.hold(1, packet(20, 1)), "first");
  assert.equal(held.hold(2, packet(20, 9)), "first");
  assert.equal(held.hold(1, packet(20, 2)), "held");
  assert.deepEqual(
    held.take(1).map((bytes) => bytes[0]),
    [1, 2],
  );
  assert.deepEqual(held.take(1), []);
  assert.deepEqual(held.addresses, [2]);
  assert.equal(held.hold(1, packet(20)), "first");
});

test("an address holds 256 packets, 1,024 addresses are held, and what is taken makes room", () => {
  const held = new HeldPackets();
  const taken = Array.from({ length: 300 }, () => held.hold(1, packet(20))).filter((what) => what !== "dropped");
  assert.equal(taken.length, 256);
  const others = Array.from({ length: 2000 }, (_, index) => held.hold(2 + index, packet(20)));
  assert.equal(others.filter((what) => what === "first").length, 1023);
  assert.equal(held.hold(2, packet(20)), "held", "known addresses may go on");
  held.take(2);
  assert.equal(held.hold(9999, packet(20)), "first");
});

test("whatever comes and goes, no more than 8 MiB are held, and room is not lost", () => {
  const MAX_BYTES = 8 * 1024 * 1024;
  const action = fc.record({ address: fc.nat(40), length: fc.integer({ min: 0, max: 65_535 }), take: fc.nat(9) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 600 }), (actions) => {
      const held = new HeldPackets();
      const model = new Map<number, number[]>();
      const bytes = () => [...model.values()].flat().reduce((sum, length) => sum + length, 0);
      for (const { address, length, take } of actions) {
        const queue = model.get(address) ?? [];
        if (take === 0) {
          assert.deepEqual(
            held.take(address).map((buffer) => buffer.length),
            queue,
          );
          model.delete(address);
          continue;
        }
        const fits = bytes() + length <= MAX_BYTES && queue.length < 256;
        assert.equal(held.hold(address, packet(length)) !== "dropped", fits);
        if (fits) model.set(address, [...queue, length]);
      }
    }),
    { numRuns: 30 },
  );
});

test("destinationOf() never throws, and is undefined for what is no IPv4 packet", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const found = destinationOf(Buffer.from(bytes));
      assert.equal(found !== undefined, bytes.length >= 20 && bytes[0]! >> 4 === 4);
    }),
  );
});
