import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import { topics } from "../protocol/mqtt.ts";
import { Measuring } from "./measuring.ts";
import type { Worker } from "./model.ts";

const worker = (id: string) =>
  ({ id, hostname: id, info: { publicIp: `192.0.2.${Number.parseInt(id, 16)}` } }) as unknown as Worker;

test("workers are told whom to measure when that changes, or when they could not be told", async () => {
  let told: string[] = [];
  let isFull = false;
  const measuring = new Measuring({
    retain: async (topic) => {
      if (isFull) throw new Error("full");
      told.push(topic);
    },
    coordinateOf: () => undefined,
    ...{ clock: new ManualClock(), log: silentLogger },
  });
  const syncWith = async (workers: readonly Worker[]) => {
    told = [];
    measuring.sync({ workers, instances: [], restless: new Set() });
    await new Promise((resolve) => setImmediate(resolve));
    return told.toSorted();
  };
  const [one, two, three] = ["01", "02", "03"].map(worker) as [Worker, Worker, Worker];
  const both = [topics.measure("01"), topics.measure("02")];
  assert.deepEqual(await syncWith([one]), [], "nobody to measure");
  assert.deepEqual(await syncWith([one, two]), both);
  assert.deepEqual(await syncWith([one, two]), []);
  assert.deepEqual(await syncWith([one, worker("02")]), [], "the same, told anew");
  isFull = true;
  assert.deepEqual(await syncWith([one, two, three]), []);
  isFull = false;
  const all = [...both, topics.measure("03")];
  assert.deepEqual(await syncWith([one, two, three]), all, "the same, but not told yet");
  measuring.takeForeign([{ id: "ff", address: "198.51.100.1" }]);
  assert.deepEqual(await syncWith([one, two, three]), all, "landmarks of another cluster");
});
