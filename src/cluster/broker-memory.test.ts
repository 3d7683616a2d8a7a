import assert from "node:assert/strict";
import { test } from "node:test";
import { topics } from "../protocol/mqtt.ts";
import { BrokerMemory } from "./broker-memory.ts";

const [ONE, OTHER] = ["a".repeat(24), "b".repeat(24)];
const INSTANCE = `${"c".repeat(24)}-0`;

async function memoryWith(...messages: readonly [topic: string, payload: string][]): Promise<BrokerMemory> {
  const memory = new BrokerMemory();
  for (const [topic, payload] of messages) await memory.storeRetained({ topic, payload: Buffer.from(payload) });
  return memory;
}

const found = (memory: BrokerMemory, filter: string) =>
  memory.retained(filter).map(({ topic, payload }) => [topic, payload.toString()]);

test("a subscriber gets what is retained under its topic, and nothing else", async () => {
  const memory = await memoryWith([topics.manifest(ONE), "one"], [topics.manifest(OTHER), "other"]);
  assert.deepEqual(found(memory, topics.manifest(ONE)), [[topics.manifest(ONE), "one"]]);
  assert.deepEqual(found(memory, topics.network(ONE)), []);
});

test("a filter for a level gets all topics of that level, and none below or beside", async () => {
  const [first, second] = [topics.desired(ONE, INSTANCE), topics.desired(ONE, INSTANCE.replace("-0", "-1"))];
  const memory = await memoryWith(
    [first, "1"],
    [second, "2"],
    [topics.manifest(ONE), "manifest"],
    [topics.desired(OTHER, INSTANCE), "other"],
  );
  assert.deepEqual(found(memory, topics.desiredOf(ONE)), [
    [first, "1"],
    [second, "2"],
  ]);
});

test("the newest message counts, and an empty one removes the topic", async () => {
  const topic = topics.measure(ONE);
  const memory = await memoryWith([topic, "old"], [topic, "new"]);
  assert.deepEqual(found(memory, topic), [[topic, "new"]]);
  await memory.storeRetained({ topic, payload: Buffer.alloc(0) });
  assert.deepEqual(found(memory, topic), []);
});

test("several filters of one subscription are answered together", async () => {
  const memory = await memoryWith([topics.manifest(ONE), "manifest"], [topics.desired(ONE, INSTANCE), "desired"]);
  const packets: unknown[] = [];
  for await (const packet of memory.createRetainedStreamCombi([topics.desiredOf(ONE), topics.manifest(ONE)]))
    packets.push((packet as { topic: string }).topic);
  assert.deepEqual(packets, [topics.desired(ONE, INSTANCE), topics.manifest(ONE)]);
});
