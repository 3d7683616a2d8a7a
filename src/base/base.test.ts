import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as z from "zod/mini";
import { writeFileAtomic } from "./atomic-file.ts";
import { ManualClock } from "./clock.fake.ts";
import { AppError, describeError, hasCode } from "./errors.ts";
import { exec } from "./exec.ts";
import { KeyedQueue } from "./keyed-queue.ts";
import { createLogger, silentLogger } from "./log.ts";
import { Reconciler } from "./reconciler.ts";
import { backoffMs, retry } from "./retry.ts";
import { resolveSettings, Switch } from "./settings.ts";
import { openDatabase, transaction } from "./sqlite.ts";
import { runTogether } from "./task-group.ts";

test("describeError() joins the messages of the causes and repeats none", () => {
  const error = new AppError("A", "Cannot start", {
    cause: new Error("socket closed", { cause: new Error("socket closed") }),
  });
  assert.equal(describeError(error), "Cannot start: socket closed");
});

test("the logger redacts fields that are named as secrets, in children too", () => {
  const lines: string[] = [];
  const log = createLogger(
    { level: "info", format: "json", write: (line) => lines.push(line), now: () => 0 },
    { role: "root" },
  );
  log.child({ joinToken: "abc" }).info({ password: "hunter2", user: "ann" }, "login");
  log.debug({}, "not shown");
  assert.equal(lines.length, 1);
  assert.ok(!lines[0]!.includes("hunter2") && !lines[0]!.includes("abc"));
  assert.equal(JSON.parse(lines[0]!).user, "ann");
});

test("backoffMs() doubles up to its maximum and never overflows", () => {
  assert.deepEqual(
    [1, 2, 3, 4, 1000].map((attempt) => backoffMs(attempt, { firstMs: 100, maxMs: 500 })),
    [100, 200, 400, 500, 500],
  );
});

test("retry() gives up after its attempts with the last error, and at once on a final one", async () => {
  const signal = new AbortController().signal;
  const backoff = { firstMs: 1, maxMs: 1 };
  let calls = 0;
  await assert.rejects(
    retry(async () => Promise.reject(new Error(`try ${++calls}`)), { backoff, signal, attempts: 3 }),
    /try 3/,
  );
  calls = 0;
  await assert.rejects(
    retry(async () => Promise.reject(new Error(`try ${++calls}`)), { backoff, signal, isFinal: () => true }),
    /try 1/,
  );
});

test("a reconciler runs one pass for a burst of triggers, and again when triggered during a pass", async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  let passes = 0;
  const loop = new Reconciler({
    name: "test",
    log: silentLogger,
    clock,
    resyncMs: 10_000,
    debounceMs: 20,
    pass: async () => {
      passes += 1;
      if (passes === 2) loop.trigger();
      return undefined;
    },
  });
  const run = loop.run(stop.signal);
  await clock.advance(0);
  assert.equal(passes, 1);
  for (let i = 0; i < 5; i++) loop.trigger();
  await clock.advance(100);
  assert.equal(passes, 3);
  await clock.advance(11_000);
  assert.equal(passes, 4);
  stop.abort();
  await run;
});

test("a failing reconciler backs off although it is triggered, and recovers", async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  let passes = 0;
  const loop = new Reconciler({
    name: "test",
    log: silentLogger,
    clock,
    resyncMs: 60_000,
    backoff: { firstMs: 1000, maxMs: 1000 },
    pass: async () => {
      passes += 1;
      loop.trigger();
      if (passes < 3) throw new Error("no");
      return { againInMs: 60_000 };
    },
  });
  const run = loop.run(stop.signal);
  await clock.advance(500);
  assert.equal(passes, 1);
  stop.abort();
  await run;
});

test("a reconciler that may take a share of the time rests after a long pass, whatever triggers it", async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  const startedAt: number[] = [];
  const loop = new Reconciler({
    ...{ name: "test", log: silentLogger, clock, resyncMs: 60_000, maxShare: 0.25 },
    pass: async () => {
      startedAt.push(clock.monotonic());
      await clock.sleep(startedAt.length === 2 ? 100_000 : 100);
      return undefined;
    },
  });
  const begin = clock.monotonic();
  const run = loop.run(stop.signal);
  for (let step = 0; step < 2100; step++) {
    loop.trigger();
    await clock.advance(50);
  }
  const [first, second, third] = startedAt.map((at) => at - begin);
  assert.deepEqual([first, second], [0, 400]);
  assert.equal(third, 400 + 100_000 + 500, "and never for long");
  stop.abort();
  await run;
});

test("a reconciler outlives a pass that was aborted by something else than its own end", async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  let passes = 0;
  const loop = new Reconciler({
    ...{ name: "test", log: silentLogger, clock, resyncMs: 60_000 },
    pass: async () => {
      passes += 1;
      if (passes === 1) throw new DOMException("somebody else's", "AbortError");
      return undefined;
    },
  });
  const run = loop.run(stop.signal);
  await clock.advance(1000);
  assert.equal(passes, 2);
  stop.abort();
  await run;
});

test("runTogether() stops the others when one loop fails, and names it", async () => {
  let stopped = false;
  const waits = (signal: AbortSignal) =>
    new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => {
        stopped = true;
        resolve();
      }),
    );
  const fails = async () => Promise.reject(new Error("disk gone"));
  await assert.rejects(
    runTogether({ waits, fails }, new AbortController().signal),
    (error) => /"fails"/.test(describeError(error)) && /disk gone/.test(describeError(error)),
  );
  assert.ok(stopped);
});

test("a keyed queue keeps order per key, also after a failure", async () => {
  const queue = new KeyedQueue();
  const seen: string[] = [];
  const failed = queue.run("a", async () => {
    seen.push("a1");
    throw new Error("a1");
  });
  const second = queue.run("a", async () => void seen.push("a2"));
  await assert.rejects(failed);
  await second;
  assert.deepEqual(seen, ["a1", "a2"]);
});

test("exec() passes hostile arguments untouched, and tells a missing program from a failing one", async () => {
  const hostile = "$(touch /tmp/x); `id` 'a' \"b\" \n *";
  assert.equal(await exec("printf", ["%s", hostile]), hostile);
  await assert.rejects(exec("no-such-program-here", []), (error) => hasCode(error, "EXEC_MISSING"));
  await assert.rejects(exec("false", []), (error) => hasCode(error, "EXEC_FAILED"));
  await assert.rejects(exec("sleep", ["5"], { timeoutMs: 20 }), (error) => hasCode(error, "EXEC_TIMEOUT"));
});

test("writeFileAtomic() replaces content and keeps it private", async () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-base-"));
  try {
    const path = join(folder, "deep", "state.json");
    await writeFileAtomic(path, "one");
    await writeFileAtomic(path, "two");
    assert.equal(readFileSync(path, "utf8"), "two");
    assert.equal(statSync(path).mode & 0o777, 0o600);
    writeFileSync(`${path}.new`, "left by a crash", { mode: 0o644 });
    await writeFileAtomic(path, "three");
    assert.equal(statSync(path).mode & 0o777, 0o600, "also over what a crash has left");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("settings: flag beats environment beats file beats default, and problems name their source", () => {
  const settings = {
    port: {
      schema: z.coerce.number().check(z.int(), z.minimum(0), z.maximum(65535)),
      help: "TCP port.",
      default: 10000,
    },
    stateDir: { schema: z.string(), help: "Folder.", default: "/var/lib/oakestra" },
    quiet: { schema: Switch, help: "Say less.", default: false },
  };
  const { values, origins } = resolveSettings(settings, {
    flags: { port: "1" },
    environment: { OAK_PORT: "2", OAK_STATE_DIR: "/x", OAK_QUIET: "yes" },
    file: { path: "f", content: { port: 3, stateDir: "/y" } },
  });
  assert.deepEqual({ ...values }, { port: 1, stateDir: "/x", quiet: true });
  assert.deepEqual({ ...origins }, { port: "flag", stateDir: "environment", quiet: "environment" });
  assert.throws(
    () => resolveSettings(settings, { flags: { port: "70000" }, environment: {} }),
    /--port does not accept "70000"/,
  );
  assert.throws(
    () => resolveSettings(settings, { flags: {}, environment: {}, file: { path: "f.yaml", content: { stateDri: 1 } } }),
    /did you mean "stateDir"/,
  );
});

test("openDatabase() migrates once, refuses a newer file, and a transaction keeps all or nothing", () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-base-"));
  try {
    const path = join(folder, "a.db");
    writeFileSync(path, "", { mode: 0o644 });
    const first = openDatabase(path, ["CREATE TABLE t (x INTEGER)"]);
    for (const file of [path, `${path}-wal`]) assert.equal(statSync(file).mode & 0o777, 0o600, `${file} is private`);
    first.close();
    const second = openDatabase(path, ["CREATE TABLE t (x INTEGER)", "ALTER TABLE t ADD y INTEGER"]);
    assert.throws(() =>
      transaction(second, () => {
        second.exec("INSERT INTO t VALUES (1, 2)");
        throw new Error("no");
      }),
    );
    assert.deepEqual(second.prepare("SELECT count(*) AS n FROM t").get()?.n, 0);
    second.close();
    assert.throws(
      () => openDatabase(path, []),
      (error) => hasCode(error, "STORE_TOO_NEW"),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
