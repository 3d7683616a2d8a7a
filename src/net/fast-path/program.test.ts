import assert from "node:assert/strict";
import { test } from "node:test";
import { FLOW_PROGRAM } from "./flow.gen.ts";
import { flowProgram } from "./program.ts";

const LOAD_WIDE = 0x18;

test("flowProgram() puts the maps' descriptors where the program names them, and changes nothing else", () => {
  const raw = wideLoads(Buffer.from(FLOW_PROGRAM, "base64"));
  const made = wideLoads(flowProgram([70, 80, 90]));
  assert.equal(made.length, raw.length);
  const used = new Set<number>();
  for (const [index, before] of raw.entries()) {
    const after = made[index]!;
    if (before.upper !== 0x6f616b00) {
      assert.deepEqual(after, before);
      continue;
    }
    used.add(before.lower);
    const { register, at } = before;
    assert.deepEqual(after, { at, register, kind: 1, lower: [70, 80, 90][before.lower], upper: 0 });
  }
  assert.deepEqual([...used].sort(), [0, 1, 2], "every map is used");
  const [left, right] = [Buffer.from(FLOW_PROGRAM, "base64"), flowProgram([70, 80, 90])];
  for (const { at } of raw) for (const program of [left, right]) program.fill(0, at, at + 16);
  assert.deepEqual(right, left);
});

test("flowProgram() gives a program of its own each time, and refuses to leave a placeholder", () => {
  assert.notDeepEqual(flowProgram([1, 2, 3]), flowProgram([4, 5, 6]));
  assert.throws(() => flowProgram([1, 2]), RangeError);
});

function wideLoads(program: Buffer) {
  const found = [];
  for (let at = 0; at < program.length; at += 8) {
    if (program[at] !== LOAD_WIDE) continue;
    const registers = program[at + 1]!;
    const [lower, upper] = [program.readUInt32LE(at + 4), program.readUInt32LE(at + 12)];
    found.push({ at, register: registers & 15, kind: registers >> 4, lower, upper });
    at += 8;
  }
  return found;
}
