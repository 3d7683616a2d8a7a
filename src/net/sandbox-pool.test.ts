import assert from "node:assert/strict";
import { test } from "node:test";
import { FreeAddresses } from "../addressing/free-addresses.ts";
import { parseSubnet } from "../addressing/subnet.ts";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import { SandboxPool } from "./sandbox-pool.ts";

const subnet = parseSubnet("10.18.0.0/29");

function aPool({ make }: { make?: (address: number) => Promise<void> } = {}) {
  const clock = new ManualClock();
  const made: number[] = [];
  const free = new FreeAddresses(subnet, []);
  const pool = new SandboxPool({
    size: 2,
    free,
    make: make ?? (async (address) => void made.push(address - subnet.base)),
    refillDelayMs: 250,
    clock,
    log: silentLogger,
  });
  return { pool, clock, made, free };
}

test("refill() makes as many as the pool holds, after its delay, and take() gives these first", async () => {
  const { pool, clock, made } = aPool();
  pool.refill();
  await clock.advance(249);
  assert.deepEqual(made, []);
  await clock.advance(1);
  assert.deepEqual(made, [2, 3]);
  assert.equal(await pool.take(), subnet.base + 2);
  assert.deepEqual(made, [2, 3]);
});

test("take() makes one when none is ready, until no address is free", async () => {
  const { pool, made } = aPool();
  for (const expected of [2, 3, 4, 5, 6]) assert.equal(await pool.take(), subnet.base + expected);
  assert.equal(await pool.take(), undefined);
  pool.release(subnet.base + 4);
  assert.equal(await pool.take(), subnet.base + 4);
  assert.deepEqual(made, [2, 3, 4, 5, 6, 4]);
});

test("take() finds the last addresses also while they are on their way into the pool", async () => {
  const { pool, free, clock } = aPool();
  for (let count = 0; count < 3; count++) free.take();
  pool.refill();
  await clock.advance(250);
  assert.equal(free.count, 0);
  assert.deepEqual(
    [await pool.take(), await pool.take(), await pool.take()],
    [subnet.base + 5, subnet.base + 6, undefined],
  );
});

test("a failure gives the address back", async () => {
  const { pool, free } = aPool({ make: () => Promise.reject(new Error("no kernel")) });
  await assert.rejects(pool.take(), /no kernel/);
  pool.refill(0);
  await pool.stop();
  assert.equal(free.count, 5);
});

test("stop() ends filling and tells what is left", async () => {
  const { pool, clock } = aPool();
  pool.refill();
  await clock.advance(250);
  await pool.take();
  pool.refill();
  assert.deepEqual(await pool.stop(), [subnet.base + 3]);
  pool.refill();
  assert.equal(clock.sleeping, 0);
});
