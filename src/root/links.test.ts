/** What a link remembers, in both directions, and the small parts around it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { hasCode } from "../base/errors.ts";
import { aggregate } from "../hierarchy/capacity.ts";
import type { Assignment, InstanceReport } from "../protocol/instance.ts";
import type { RootMessage } from "../protocol/uplink.ts";
import { AttemptLimit } from "./attempt-limit.ts";
import { Changes } from "./changes.ts";
import { DesiredSender, type Wanted } from "./desired-sender.ts";
import { LogStreams } from "./log-streams.ts";
import { seal, unseal } from "./registry-secrets.ts";
import { ReportReceiver } from "./report-receiver.ts";
import { detailOf } from "./silence.ts";

const wanted = (...versions: readonly string[]): Wanted[] =>
  versions.map((version) => ({
    instanceId: version[0]!,
    version,
    make: () => ({ instanceId: version }) as Assignment,
  }));

test("DesiredSender tells everything once, then what changed, with consecutive revisions", () => {
  const sender = new DesiredSender();
  const brief = (list: readonly Wanted[]) => {
    const message = sender.next(list);
    return (
      message && [message.revision, message.full, message.assignments.map((one) => one.instanceId), message.removed]
    );
  };
  assert.deepEqual(brief([]), [1, true, [], []]);
  assert.equal(brief([]), undefined);
  assert.deepEqual(brief(wanted("a1", "b1")), [2, false, ["a1", "b1"], []]);
  assert.equal(brief(wanted("b1", "a1")), undefined);
  assert.deepEqual(brief(wanted("a2", "c1")), [3, false, ["a2", "c1"], ["b"]]);
  sender.reset();
  assert.deepEqual(brief(wanted("a2", "c1")), [4, true, ["a2", "c1"], []]);
});

const report = (instanceId: string, change: Partial<InstanceReport> = {}): InstanceReport => ({
  instanceId,
  generation: 1,
  status: "RUNNING",
  detail: "",
  since: 1,
  restarts: 0,
  ...change,
});

test("ReportReceiver wants everything first and after a gap, and tells news from measurements", () => {
  const receiver = new ReportReceiver();
  const take = (revision: number, full: boolean, instances: InstanceReport[], removed: string[] = []) =>
    receiver.take({ type: "report", revision, full, instances, removed })?.news.map((one) => one.instanceId);
  assert.equal(take(1, false, []), undefined);
  assert.deepEqual(take(4, true, [report("a"), report("b")]), ["a", "b"]);
  assert.deepEqual(take(5, false, [report("a", { cpuPercent: 9, memoryBytes: 1 }), report("b", { restarts: 1 })]), [
    "b",
  ]);
  assert.equal(receiver.report("a")?.cpuPercent, 9);
  assert.equal(take(7, false, []), undefined);
  assert.equal(take(8, false, []), undefined);
  assert.deepEqual(take(9, true, [report("a")], []), []);
  assert.equal(receiver.report("b"), undefined);
  assert.deepEqual(take(10, false, [], ["a"]), []);
  assert.equal(receiver.report("a"), undefined);
});

test("ReportReceiver counts what the aggregate knows of: instances with a worker", () => {
  const receiver = new ReportReceiver();
  const one = aggregate([]);
  const instances = [report("a"), report("b", { status: "CLUSTER_SCHEDULED" })];
  receiver.take({ type: "report", revision: 1, full: true, instances, removed: [] });
  assert.deepEqual([...receiver.counted], []);
  receiver.take({ type: "report", revision: 2, full: false, aggregate: one, instances: [], removed: [] });
  assert.deepEqual([...receiver.counted], [["a", 1]]);
});

test("LogStreams keeps no more than it may, and says what is missing", async () => {
  const streams = new LogStreams(new ManualClock());
  const sent: RootMessage[] = [];
  const link = { send: (message: RootMessage) => void sent.push(message) };
  const log = streams.open(link, { instanceId: "i", follow: true, tailLines: 1 }, new AbortController().signal);
  const first = log.next();
  const [open] = sent;
  assert.equal(open?.type, "log.open");
  const stream = open?.type === "log.open" ? open.stream : "";
  const chunk = "x".repeat(600_000);
  for (let count = 0; count < 4; count++) streams.receive(link, { type: "log.data", stream, chunk });
  const text = (await first).value ?? "";
  assert.equal(text.length, 1_200_000 + "\n[1200000 characters skipped: read too slowly]\n".length);
  streams.receive({ send: () => {} }, { type: "log.data", stream, chunk: "another link" });
  await log.return();
  assert.deepEqual(sent[1], { type: "log.close", stream });
});

test("a quiet log says so with an empty text, so that its answer can begin", async () => {
  const clock = new ManualClock();
  const streams = new LogStreams(clock);
  const stop = new AbortController();
  const log = streams.open({ send: () => {} }, { instanceId: "i", follow: true, tailLines: 1 }, stop.signal);
  const first = log.next();
  await clock.advance(1_000);
  assert.deepEqual(await first, { done: false, value: "" });
  const second = log.next();
  stop.abort();
  assert.equal((await second).done, true);
});

test("a sealed secret opens with its key and context only", () => {
  const key = Buffer.alloc(32, 1);
  const sealed = seal(key, "pässword", "a");
  assert.equal(unseal(key, sealed, "a"), "pässword");
  assert.notEqual(seal(key, "pässword", "a"), sealed);
  const broken = `${sealed.slice(0, -8)}AAAAAAA=`;
  for (const [otherKey, text, context] of [
    [Buffer.alloc(32, 2), sealed, "a"],
    [key, sealed, "b"],
    [key, broken, "a"],
    [key, "", "a"],
  ] as const) {
    assert.throws(
      () => unseal(otherKey, text, context),
      (error) => hasCode(error, "SECRET_UNREADABLE"),
    );
  }
});

test("Changes calls each listener once, until it leaves", () => {
  const changes = new Changes();
  const heard: string[] = [];
  const leave = changes.onService("a", () => heard.push("a"));
  changes.onAny(() => heard.push("any"));
  changes.notify(["a", "a", "b"]);
  changes.notify([]);
  leave();
  changes.notify(["a"]);
  assert.deepEqual(heard, ["a", "any", "any"]);
});

test("AttemptLimit counts by key and forgets after its window", async () => {
  const clock = new ManualClock();
  const limit = new AttemptLimit({ max: 2, windowMs: 1000, clock });
  for (let count = 0; count < 2; count++) limit.count("a");
  assert.deepEqual([limit.isExceeded("a"), limit.isExceeded("b")], [true, false]);
  await clock.advance(1000);
  assert.equal(limit.isExceeded("a"), false);
});

test("detailOf() adds the silence of a cluster, except where nothing can change any more", () => {
  const instance = { status: "RUNNING", detail: "up" } as const;
  const silent = { name: "edge", silentSince: 0 };
  assert.equal(detailOf(instance, undefined), "up");
  assert.equal(detailOf(instance, { name: "edge" }), "up");
  assert.match(detailOf(instance, silent), /"edge" not heard from since 1970-01-01T00:00:00.000Z; its last word: up/);
  assert.equal(detailOf({ status: "COMPLETED", detail: "done" }, silent), "done");
});
