import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import type { Nft } from "./nft.ts";
import type { NftWatchListener } from "./nft-watch.ts";
import { TableGuard } from "./table-guard.ts";

const CHANGE = { port: 1, pid: 1, program: "nft" };

async function startGuard(t: TestContext) {
  const clock = new ManualClock();
  const world = { clock, repairs: 0, failures: 0, watches: [] as NftWatchListener[], ended: 0 };
  const nft = {
    watch: async (listener: NftWatchListener) => {
      world.watches.push(listener);
      return () => (world.ended += 1);
    },
  };
  const guard = new TableGuard({
    repair: async () => {
      if (world.failures-- > 0) throw new Error("no memory");
      world.repairs += 1;
    },
    ...{ clock, log: silentLogger },
  });
  const stopping = new AbortController();
  await guard.open(nft as unknown as Nft);
  const running = guard.run(stopping.signal);
  const stop = async () => {
    stopping.abort();
    await running;
  };
  t.after(stop);
  await clock.advance(1000);
  return { ...world, world, clock, stop, current: () => world.watches.at(-1)! };
}

test("tables that another program changed are made anew at once, one time for a burst of changes", async (t) => {
  const { world, clock, current, stop } = await startGuard(t);
  assert.equal(world.repairs, 0, "nothing happened yet");
  for (let count = 0; count < 5; count++) current().onForeign(CHANGE);
  await clock.advance(100);
  assert.equal(world.repairs, 1);
  await clock.advance(3_600_000);
  assert.equal(world.repairs, 1);
  await stop();
  assert.equal(world.ended, 1, "the watch ends with the guard");
});

test("a program that changes our tables all the time makes us repair them less and less often", async (t) => {
  const { world, clock, current } = await startGuard(t);
  for (let elapsed = 0; elapsed < 60_000; elapsed += 100) {
    current().onForeign(CHANGE);
    await clock.advance(100);
  }
  assert.ok(world.repairs >= 6 && world.repairs <= 14, `${world.repairs} repairs in a minute`);
  const before = world.repairs;
  await clock.advance(120_000);
  current().onForeign(CHANGE);
  await clock.advance(100);
  assert.equal(world.repairs, before + 2, "what was open at the end, and at once again after a calm time");
});

test("a repair that fails is tried again", async (t) => {
  const { world, clock, current } = await startGuard(t);
  world.failures = 2;
  current().onForeign(CHANGE);
  await clock.advance(60_000);
  assert.equal(world.repairs, 1);
});

test("when the kernel had more to tell than it keeps, the watch begins anew and the tables are made anew", async (t) => {
  const { world, clock, current } = await startGuard(t);
  current().onLost();
  await clock.advance(100);
  assert.deepEqual([world.watches.length, world.repairs], [2, 1]);
});
