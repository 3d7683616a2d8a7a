import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import type { LogData } from "../protocol/mqtt.ts";
import { LogStreams } from "./log-streams.ts";
import { InstanceLogs } from "./logs.ts";

const INSTANCE = "5f0c1a2b3c4d5e6f70819203-0";

async function startLogs({ maxBytes }: { maxBytes?: number } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "oak-logs-"));
  const logs = new InstanceLogs({ folder, ...(maxBytes ? { maxBytes } : {}) });
  return {
    logs,
    path: logs.path(INSTANCE),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

test("tail() gives the last lines, whole characters, and nothing for a log that is not there", async () => {
  await using it = await startLogs();
  const tail = (maxBytes: number, maxLines: number) => it.logs.tail(INSTANCE, { maxBytes, maxLines });
  assert.deepEqual(await tail(100, 10), { text: "", offset: 0 });
  await writeFile(it.path, "one\ntwo\nthree\n");
  assert.deepEqual(await tail(100, 2), { text: "two\nthree\n", offset: 14 });
  assert.equal((await tail(100, 0)).text, "");
  assert.equal((await tail(8, 10)).text, "o\nthree\n".slice(0));
  await writeFile(it.path, "é".repeat(10));
  assert.equal((await tail(5, 10)).text, "éé", "half a character is left out");
  await writeFile(it.path, `${"x".repeat(200_000)}\nlast`);
  assert.equal((await tail(1_000_000, 1)).text, "last");
});

test("a log that has grown too large is copied and emptied in place; both go with the instance", async () => {
  await using it = await startLogs({ maxBytes: 10 });
  await writeFile(it.path, "short");
  await it.logs.rotate();
  assert.equal(await readFile(it.path, "utf8"), "short");
  await appendFile(it.path, " and long");
  assert.equal(await it.logs.rotate(), true);
  assert.equal(await readFile(it.path, "utf8"), "");
  assert.equal(await readFile(`${it.path}.1`, "utf8"), "t and long", "no more than the limit is kept");
  assert.equal(await it.logs.rotate(), false);
  assert.deepEqual(await it.logs.list(), [INSTANCE]);
  await it.logs.remove(INSTANCE);
  await it.logs.remove(INSTANCE);
  assert.deepEqual(await it.logs.list(), []);
});

test("a log that fills the disk is emptied although there is no room for a copy of its end", async () => {
  await using it = await startLogs({ maxBytes: 10 });
  await writeFile(it.path, "x".repeat(100));
  await symlink("/dev/full", `${it.path}.1`);
  await it.logs.rotate();
  assert.equal(await readFile(it.path, "utf8"), "");
  await assert.rejects(readFile(`${it.path}.1`), { code: "ENOENT" });
});

async function startStreams(logs: InstanceLogs) {
  const parts: LogData[] = [];
  const stop = new AbortController();
  let isKnown = true;
  const streams = new LogStreams({
    ...{ logs, log: silentLogger, clock: systemClock },
    isKnown: () => isKnown,
    send: async (part) => void parts.push(part),
  });
  const ended = streams.run(stop.signal);
  return {
    ...{ streams, parts },
    text: () => parts.map(({ chunk }) => chunk ?? "").join(""),
    forget: () => (isKnown = false),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await ended;
    },
  };
}

async function eventually(isTrue: () => boolean): Promise<void> {
  const end = performance.now() + 5000;
  while (!isTrue()) {
    assert.ok(performance.now() < end, "not in time");
    await systemClock.sleep(5);
  }
}

test("without follow a stream ends after the last line, in parts of at most 32 KiB", async () => {
  await using it = await startLogs();
  const text = `${"😀é".repeat(30_000)}\n`;
  await writeFile(it.path, text);
  await using reader = await startStreams(it.logs);
  reader.streams.request({ type: "open", stream: "s", instanceId: INSTANCE, follow: false, tailLines: 10 });
  await eventually(() => reader.parts.some(({ end }) => end === ""));
  assert.equal(reader.text(), text);
  assert.ok(reader.parts.every(({ chunk }) => Buffer.byteLength(chunk ?? "") <= 32 * 1024));
});

test("a followed log goes on after rotation, through characters written in halves, and ends with its instance", async () => {
  await using it = await startLogs({ maxBytes: 5 });
  await using reader = await startStreams(it.logs);
  reader.streams.request({ type: "open", stream: "s", instanceId: INSTANCE, follow: true, tailLines: 10 });
  await writeFile(it.path, "first\n");
  await eventually(() => reader.text() === "first\n");
  await it.logs.rotate();
  const bytes = Buffer.from("é\n");
  await appendFile(it.path, bytes.subarray(0, 1));
  await systemClock.sleep(50);
  await appendFile(it.path, bytes.subarray(1));
  await eventually(() => reader.text() === "first\né\n");
  reader.forget();
  await appendFile(it.path, "\n");
  await eventually(() => reader.parts.some(({ end }) => end === ""));
});

test("property: every part of any output is valid text of bounded size", async () => {
  await using it = await startLogs();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 50_000 }), async (bytes) => {
      await writeFile(it.path, bytes);
      await using reader = await startStreams(it.logs);
      reader.streams.request({ type: "open", stream: "s", instanceId: INSTANCE, follow: false, tailLines: 10_000 });
      await eventually(() => reader.parts.some(({ end }) => end !== undefined));
      assert.ok(reader.parts.every(({ chunk }) => Buffer.byteLength(chunk ?? "") <= 32 * 1024));
    }),
    { numRuns: 20 },
  );
});
