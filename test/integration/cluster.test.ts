import assert from "node:assert/strict";
import { test } from "node:test";
import { topics } from "../../src/protocol/mqtt.ts";
import { assignment, eventually, TestCluster, workerInfo } from "./cluster-fixture.ts";

const MB = 1_048_576;
const port80 = [{ hostPort: 80, containerPort: 80, protocol: "tcp" as const }];

test("an assignment goes to a worker, and what the worker reports goes up in the root's words", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const wanted = assignment({}, 7);
  it.root.want(wanted);
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  const report = it.root.instances.get(wanted.instanceId)!;
  assert.equal(report.generation, 7);
  assert.equal(report.publicIp, "192.0.2.7");
  assert.notEqual(worker.desired.get(wanted.instanceId)?.generation, 7);
  assert.equal("request" in worker.desired.get(wanted.instanceId)!, false);
  assert.equal(it.root.aggregate?.all.workers, 1, "a worker that comes or goes is told at once");
  assert.equal(it.root.hellos[0]?.joinToken, "token");

  it.root.unwant(wanted);
  await eventually("withdrawn", () => !worker.lists(wanted) && !worker.desired.has(wanted.instanceId));
  await eventually("forgotten", () => !it.root.instances.has(wanted.instanceId));
});

test("what does not fit is declined at once, with a reason for each worker", async () => {
  await using it = await TestCluster.start();
  await it.join(workerInfo("w1"));
  await it.join(workerInfo("w2", { architecture: "arm64" }));
  const tooBig = assignment({ memoryBytes: 200 * MB, architectures: ["amd64"] });
  const pinned = assignment({ directWorkers: ["w9"] });
  it.root.want(tooBig, pinned);
  await eventually("declined", () => it.root.statusOf(tooBig) === "NO_WORKER_CAPACITY");
  const { detail } = it.root.instances.get(tooBig.instanceId)!;
  assert.match(detail, /w1: memory \(needs 200 MB, has 100 MB\)/);
  assert.match(detail, /w2: architecture/);
  assert.match(it.root.instances.get(pinned.instanceId)!.detail, /w1: pinned elsewhere \(needs w9/);
});

test("a burst is never overcommitted", async () => {
  await using it = await TestCluster.start();
  await it.join(workerInfo("w1"));
  await it.join(workerInfo("w2"));
  const burst = Array.from({ length: 30 }, () => assignment({ memoryBytes: 10 * MB, cpuMillis: 0 }));
  it.root.want(...burst);
  await eventually("all decided", () =>
    burst.every((one) => ["RUNNING", "NO_WORKER_CAPACITY"].includes(it.root.statusOf(one) ?? "")),
  );
  assert.equal(burst.filter((one) => it.root.statusOf(one) === "RUNNING").length, 20);
  const workers = await it.workersBy();
  assert.deepEqual([workers.w1!.memory_bytes_free, workers.w2!.memory_bytes_free], [0, 0]);
});

test("a successor waits until its predecessor's host port is free", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const first = assignment({ ports: port80 });
  it.root.want(first);
  await eventually("first runs", () => it.root.statusOf(first) === "RUNNING");
  worker.isDutiful = false;
  const second = assignment({ ports: port80 });
  it.root.unwant(first);
  it.root.want(second);
  await eventually("waits", () =>
    /until worker "w1" has removed/.test(it.root.instances.get(second.instanceId)?.detail ?? ""),
  );
  assert.equal(it.root.statusOf(second), "CLUSTER_SCHEDULED");
  await worker.report({ removed: [first.instanceId] });
  await eventually("placed", () => worker.lists(second));
});

test("the cluster is killed and started again: nothing is forgotten, nothing stops", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const wanted = assignment();
  it.root.want(wanted);
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  const before = { manifest: worker.manifest, generation: worker.desired.get(wanted.instanceId)?.generation };
  worker.isDutiful = false;
  await it.stopCluster();
  worker.desired.clear();
  const hello = it.root.hellos.at(-1)!;

  await it.startCluster();
  await eventually("retained topics again", () => worker.desired.has(wanted.instanceId), 20_000);
  assert.deepEqual(worker.manifest, before.manifest);
  assert.equal(worker.desired.get(wanted.instanceId)?.generation, before.generation);
  await eventually("told again", () => it.root.statusOf(wanted) === "RUNNING");
  assert.equal(it.root.hellos.at(-1)!.key, hello.key);
  assert.equal(it.root.hellos.at(-1)!.joinToken, undefined);

  const more = assignment();
  worker.isDutiful = true;
  it.root.want(more);
  await eventually("placed after the restart", () => it.root.statusOf(more) === "RUNNING");
  assert.ok(worker.manifest.revision > before.manifest.revision);
});

test("without its root a cluster starts, publishes what it knew and takes workers", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const wanted = assignment();
  it.root.want(wanted);
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  await it.stopCluster();
  worker.desired.clear();
  await it.startCluster({ root: "http://127.0.0.1:1" });
  await eventually("retained topics again", () => worker.desired.has(wanted.instanceId), 20_000);
  await it.join(workerInfo("w2"));
  assert.deepEqual(Object.keys(await it.workersBy()).sort(), ["w1", "w2"]);
});

test("a lost revision of the root is asked for again, and a refusal is answered with a join token", async () => {
  await using it = await TestCluster.start();
  await it.join(workerInfo("w1"));
  const [lost, next] = [assignment(), assignment()];
  it.root.want(lost);
  await eventually("running", () => it.root.statusOf(lost) === "RUNNING");
  it.root.skipRevision();
  it.root.want(next);
  await eventually("resync", () => it.root.messages.some(({ type }) => type === "resync"));
  await eventually("running too", () => it.root.statusOf(next) === "RUNNING");

  it.root.send("not json");
  it.root.send(JSON.stringify({ type: "nonsense" }));
  it.root.send({ type: "resync" });
  await eventually("full again", () => it.root.messages.filter((one) => one.type === "report" && one.full).length >= 2);

  it.root.refuseOnce = "who are you";
  const hellos = it.root.hellos.length;
  it.root.cut();
  await eventually("linked again", () => it.root.isLinked, 15_000);
  assert.deepEqual(
    it.root.hellos.slice(hellos).map(({ joinToken }) => joinToken),
    [undefined, "token"],
  );
  await eventually("told again", () => it.root.statusOf(next) === "RUNNING");
});

test("a worker that goes is suspect at once and gets nothing new; its removal moves its instances", async () => {
  await using it = await TestCluster.start();
  const first = await it.join(workerInfo("w1"));
  const wanted = assignment();
  it.root.want(wanted);
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  await first.disconnect();
  await it.untilStatus("w1", "suspect");
  const pinned = assignment({ directWorkers: ["w1"] });
  it.root.want(pinned);
  await eventually("waits", () =>
    /to hear from worker "w1"/.test(it.root.instances.get(pinned.instanceId)?.detail ?? ""),
  );

  const second = await it.join(workerInfo("w2"));
  assert.equal((await it.operate("DELETE", `/api/workers/${first.id}`)).status, 200);
  await eventually("moved", () => second.lists(wanted));
  await eventually("runs there", () => it.root.statusOf(wanted) === "RUNNING");
  assert.equal((await it.operate("DELETE", `/api/workers/${first.id}`)).status, 404);
});

test("output of an instance reaches the root in order, and a stream ends when its worker goes", async () => {
  await using it = await TestCluster.start();
  const worker = await it.join(workerInfo("w1"));
  const wanted = assignment();
  it.root.want(wanted);
  await eventually("running", () => it.root.statusOf(wanted) === "RUNNING");
  const open = (stream: string, instanceId: string) =>
    it.root.send({ type: "log.open", stream, instanceId, follow: true, tailLines: 10 });
  const of = (stream: string) => it.root.messages.filter((one) => "stream" in one && one.stream === stream);
  open("a", wanted.instanceId);
  await eventually("asked", () => worker.logRequests.length === 1);
  await worker.sendLog({ stream: "a", chunk: "one" });
  await worker.sendLog({ stream: "b", chunk: "not asked for" });
  await worker.sendLog({ stream: "a", chunk: "two", end: "" });
  await eventually("ended", () => of("a").length === 3);
  assert.deepEqual(of("a"), [
    { type: "log.data", stream: "a", chunk: "one" },
    { type: "log.data", stream: "a", chunk: "two" },
    { type: "log.end", stream: "a" },
  ]);
  assert.equal(of("b").length, 0);
  open("c", assignment().instanceId);
  await eventually("refused", () => of("c").some((one) => one.type === "log.end" && one.error !== undefined));
  open("e", wanted.instanceId);
  await eventually("asked", () => worker.logRequests.length === 2);
  // As after a cut that was over before anybody missed it: the worker knows nothing of the stream any more.
  await worker.publish(topics.presence(worker.id), '{"online":true}');
  await eventually("ended with the connection", () => of("e").some((one) => one.type === "log.end"));
  open("d", wanted.instanceId);
  await eventually("asked", () => worker.logRequests.length === 3);
  await worker.disconnect();
  await eventually("ended with the worker", () => of("d").some((one) => one.type === "log.end"));
});
