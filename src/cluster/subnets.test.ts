import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import { topics, WorkerNetwork } from "../protocol/mqtt.ts";
import type { Instance, Worker } from "./model.ts";
import { ClusterStore } from "./store/cluster-store.ts";
import { Subnets, subnetsFor } from "./subnets.ts";

class World {
  readonly store = new ClusterStore(":memory:");
  readonly clock = new ManualClock();
  readonly workers: Worker[] = [];
  instances: Instance[] = [];
  readonly withdrawals = [];
  readonly retained = new Map<string, string>();
  shortages = 0;
  subnets = this.#make();

  add(id: string): void {
    const worker = { id, hostname: id, keyDigest: id, info: {}, manifestRevision: 0 } as unknown as Worker;
    this.workers.push(worker);
    this.store.putWorker(worker);
  }

  async remove(id: string): Promise<void> {
    this.subnets.release(id);
    this.workers.splice(
      this.workers.findIndex((worker) => worker.id === id),
      1,
    );
    this.store.removeWorker(id);
    await this.subnets.sync();
  }

  place(workerId: string, count: number): void {
    this.instances = Array.from({ length: count }, () => ({ placement: { workerId, number: 1 } }) as Instance);
  }

  restart(): void {
    this.retained.clear();
    this.subnets = this.#make();
    this.subnets.load();
  }

  subnetsOf(id: string): string[] | undefined {
    const text = this.retained.get(topics.network(id));
    return text ? WorkerNetwork.parse(JSON.parse(text)).subnets : undefined;
  }

  #make(): Subnets {
    return new Subnets({
      state: this,
      store: this.store,
      retain: async (topic, payload) => void this.retained.set(topic, payload),
      onFewLeft: () => (this.shortages += 1),
      clock: this.clock,
      log: silentLogger,
    });
  }
}

const network = (...blocks: string[]) => ({ serviceRange: "10.30.0.0/16", blocks });

test("subnets for a number of instances leave room for more", () => {
  const cases = [0, 1, 53, 54, 61, 114, 115].map((count) => subnetsFor(count));
  assert.deepEqual(cases, [1, 1, 1, 2, 2, 2, 3]);
});

test("nothing is given before the root has given a block; then each worker has its own, and keeps it", async () => {
  const world = new World();
  world.subnets.load();
  for (const id of ["a", "b"]) world.add(id);
  await world.subnets.sync();
  assert.deepEqual([world.subnets.free, world.retained.size], [0, 0]);
  world.subnets.takeNetwork(network("10.18.4.0/22", "10.18.0.0/22"));
  await world.subnets.sync();
  assert.deepEqual([world.subnetsOf("a"), world.subnetsOf("b")], [["10.18.0.0/26"], ["10.18.0.64/26"]]);
  assert.equal(world.subnets.free, 30);
  world.restart();
  await world.subnets.sync();
  assert.deepEqual([world.subnetsOf("a"), world.subnetsOf("b")], [["10.18.0.0/26"], ["10.18.0.64/26"]]);
});

test("a worker gets more with its instances, and when it says that it runs short, but not without end", async () => {
  const world = new World();
  world.subnets.takeNetwork(network("10.18.0.0/22"));
  world.add("a");
  world.place("a", 200);
  await world.subnets.sync();
  assert.equal(world.subnetsOf("a")?.length, 4);
  for (let round = 0; round < 10; round++) {
    for (const count of [7, 0]) world.subnets.reported("a", count);
    await world.subnets.sync();
    if (round === 0) assert.equal(world.subnetsOf("a")?.length, 5, "one at a time");
    await world.clock.advance(10_000);
  }
  assert.equal(world.subnetsOf("a")?.length, 8);
  world.subnets.reported("a", 8);
  world.place("a", 700);
  await world.subnets.sync();
  assert.equal(world.subnetsOf("a")?.length, 16, "all that the block has");
  assert.ok(world.shortages > 0, "the root is told at once");
});

test("what is to move to a worker counts there before it is in charge, and after it was", async () => {
  const world = new World();
  world.subnets.takeNetwork(network("10.18.0.0/22"));
  for (const id of ["a", "b", "c"]) world.add(id);
  const [a, b, c] = ["a", "b", "c"].map((workerId) => ({ placement: { workerId, number: 1 } }));
  world.instances = Array.from({ length: 100 }, () => ({ ...a, successor: b, predecessor: c }) as Instance);
  await world.subnets.sync();
  assert.deepEqual(
    ["a", "b", "c"].map((id) => world.subnetsOf(id)?.length),
    [2, 2, 2],
  );
});

test("a removed worker's subnets rest before another one gets them, also across a restart", async () => {
  const world = new World();
  world.subnets.takeNetwork(network("10.18.0.0/26"));
  world.add("a");
  await world.subnets.sync();
  await world.remove("a");
  assert.equal(world.retained.get(topics.network("a")), "", "its topic is removed");
  world.add("b");
  await world.subnets.sync();
  assert.deepEqual([world.subnetsOf("b"), world.subnets.free], [undefined, 0]);
  world.restart();
  await world.clock.advance(600_000);
  assert.equal(world.subnets.free, 1);
  await world.subnets.sync();
  assert.deepEqual(world.subnetsOf("b"), ["10.18.0.0/26"]);
});

test("subnets of a block that the root has forgotten stay where they are, and go to nobody else", async () => {
  const world = new World();
  world.subnets.takeNetwork(network("10.18.0.0/22"));
  world.add("a");
  await world.subnets.sync();
  world.subnets.takeNetwork(network("10.18.8.0/22"));
  world.add("b");
  await world.subnets.sync();
  assert.deepEqual([world.subnetsOf("a"), world.subnetsOf("b")], [["10.18.0.0/26"], ["10.18.8.0/26"]]);
});

test("a subnet that was freed while the clock was a year ahead is not kept back when it is set right", async () => {
  const world = new World();
  world.subnets.takeNetwork(network("10.18.0.0/26"));
  world.add("a");
  await world.subnets.sync();
  await world.clock.advance(31_536_000_000);
  await world.remove("a");
  await world.clock.advance(-31_536_000_000);
  world.add("b");
  await world.subnets.sync();
  assert.deepEqual(world.subnetsOf("b"), ["10.18.0.0/26"]);
});
