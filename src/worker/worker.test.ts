/** The whole worker against the fakes of its ports and a real MQTT broker. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { appendFile, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../base/clock.ts";
import { topics } from "../protocol/mqtt.ts";
import { desiredInstance } from "./builders.fake.ts";
import { startFakeCluster, WORKER_ID } from "./cluster.fake.ts";
import { eventually, startMachine } from "./machine.fake.ts";

const web = desiredInstance({ workload: { ports: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] } });
const NAME = "shop.prod.web.prod.instance.0";
const id = web.instanceId;

test("a worker registers, runs what is desired, tells of it, and removes what is withdrawn", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web);
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
  assert.equal(cluster.presence, '{"online":true}');
  const [first] = cluster.reports;
  assert.equal(first?.sequence, 1);
  assert.equal(first?.full, true);
  assert.equal(first?.info?.hostname, "edge1");
  assert.deepEqual(
    cluster.reports.map(({ sequence }) => sequence),
    cluster.reports.map((_, index) => index + 1),
  );
  assert.equal(machine.network.holderOf("8080/tcp"), id);
  const [spec] = machine.runtime.started;
  assert.equal(spec?.containerId, NAME);
  assert.equal(spec?.shimGroup, web.serviceId);
  assert.equal(spec?.logPath, join(machine.stateDir, "logs", `${id}.log`));
  assert.equal((await stat(join(machine.stateDir, "key"))).mode & 0o777, 0o600);
  const hosts = join(machine.stateDir, "hosts", id);
  assert.deepEqual([spec?.hostname, spec?.hostsFile, (await stat(hosts)).mode & 0o777], ["web-0", hosts, 0o644]);
  const [sandbox] = machine.network.list();
  assert.ok((await readFile(hosts, "utf8")).endsWith(`\n${sandbox?.address}\tweb-0\n`));
  await cluster.want();
  await eventually(() => cluster.removed.includes(id), "removed");
  assert.deepEqual(await machine.runtime.list(new AbortController().signal), []);
  assert.deepEqual(machine.network.list(), []);
  assert.equal(machine.network.holderOf("8080/tcp"), undefined);
  assert.ok(!existsSync(hosts));
});

test("a container that ends is DEAD with its exit code, and starts again in the sandbox it had", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web);
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
  const [before] = machine.network.list();
  machine.runtime.oom(NAME);
  await eventually(() => cluster.instances.get(id)?.status === "DEAD", "DEAD");
  const report = cluster.instances.get(id)!;
  assert.equal(report.exitCode, 137);
  assert.match(report.detail, /^killed: out of memory, limit 64 MB; starts again in 1 s$/);
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING again");
  assert.equal(cluster.instances.get(id)?.restarts, 1);
  assert.deepEqual(machine.network.list(), [before]);
});

test("an instance with a healthcheck tells whether it is ready, anew after each start", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url);
  await worker.ready;
  machine.runtime.execs.set("check", { exitCode: 1 });
  const timing = { intervalMs: 20, timeoutMs: 1000, retries: 2, startPeriodMs: 0 };
  await cluster.want(desiredInstance({ workload: { healthcheck: { type: "exec", command: ["check"], ...timing } } }));
  const detail = () => cluster.instances.get(id)?.detail ?? "";
  await eventually(() => detail() === "not ready: check: exit code 1", "not ready");
  machine.runtime.execs.delete("check");
  await eventually(() => detail() === "ready", "ready");
  machine.runtime.execs.set("check", { exitCode: 1 });
  await eventually(() => detail() === "not ready: check: exit code 1", "not ready any more");
  machine.runtime.execs.delete("check");
  machine.runtime.exit(NAME, 1);
  await eventually(() => cluster.instances.get(id)?.status === "DEAD", "DEAD");
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING" && detail() === "ready", "ready again");
});

test("what cannot run is FAILED with its reason, and runs as soon as the reason is gone", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  machine.network.hostListeners.set("8080/tcp", { pid: 7, name: "nginx" });
  const unknown = desiredInstance({ instanceNumber: 1, workload: { image: "nowhere/nothing:1" } });
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web, unknown);
  await eventually(() => cluster.instances.get(id)?.status === "FAILED", "port busy");
  assert.match(cluster.instances.get(id)!.detail, /8080\/tcp.*nginx.*; tried again in 1 s$/);
  assert.deepEqual(machine.runtime.started, [], "nothing was started for nothing");
  await eventually(() => cluster.instances.get(unknown.instanceId)?.status === "FAILED", "image unknown");
  assert.match(cluster.instances.get(unknown.instanceId)!.detail, /no such image/);
  machine.network.hostListeners.clear();
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
});

test("while the runtime is away, what is desired says so; what may run is left alone", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  machine.runtime.setAvailable(false);
  {
    await using worker = machine.start(cluster.url);
    await worker.ready;
    await cluster.want(web);
    await eventually(() => /waiting.*runtime is switched off/.test(cluster.instances.get(id)?.detail ?? ""), "reason");
    assert.ok(
      cluster.reports.every(({ manifest }) => manifest === 0),
      "what else is there is not known",
    );
    machine.runtime.setAvailable(true);
    await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
    await eventually(() => existsSync(join(machine.stateDir, "desired.json")), "the desired set on disk");
  }
  machine.runtime.setAvailable(false);
  const other = desiredInstance({ instanceNumber: 1 });
  const before = cluster.reports.length;
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web, other);
  await eventually(
    () => /switched off/.test(cluster.instances.get(other.instanceId)?.detail ?? ""),
    "reason of another",
  );
  const told = cluster.reports.slice(before).flatMap(({ instances }) => instances.map(({ instanceId }) => instanceId));
  assert.ok(!told.includes(id), "it may run, and take traffic");
});

test("the next agent adopts what runs, and removes what was withdrawn meanwhile", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  const other = desiredInstance({ instanceNumber: 1 });
  {
    await using worker = machine.start(cluster.url);
    await worker.ready;
    await cluster.want(web, other);
    await eventually(() => machine.runtime.started.length === 2 && cluster.instances.size === 2, "both run");
  }
  await eventually(() => cluster.presence === '{"online":false}', "its farewell has arrived");
  assert.equal((await machine.runtime.list(new AbortController().signal)).length, 2, "an agent's end stops nothing");
  await cluster.want(web);
  const before = cluster.reports.length;
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await eventually(() => cluster.removed.includes(other.instanceId), "removed");
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "adopted");
  assert.equal(machine.runtime.started.length, 2, "nothing was started twice");
  const taken = cluster.reports.slice(before).find(({ manifest }) => manifest === 2)!;
  const mentioned = [...taken.instances.map(({ instanceId }) => instanceId), ...taken.removed];
  assert.ok(mentioned.includes(other.instanceId), "silence about it would mean that it is gone");
  assert.equal(cluster.registrations.at(-1)?.joinToken, undefined, "a known key needs no token");
  assert.equal(cluster.registrations.at(-1)?.key, cluster.registrations[0]?.key);
});

test("a boot without link starts everything from disk, but no one-shot that was done", async () => {
  await using machine = await startMachine();
  const job = desiredInstance({ instanceNumber: 1, workload: { image: "job", oneShot: true } });
  machine.runtime.addImage("job", { exitsWith: 0 });
  {
    await using cluster = await startFakeCluster();
    await using worker = machine.start(cluster.url);
    await worker.ready;
    await cluster.want(web, job);
    await eventually(() => cluster.instances.get(job.instanceId)?.status === "COMPLETED", "COMPLETED");
    await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
    await eventually(() => machine.network.list().length === 1, "the job's sandbox is gone");
  }
  const signal = new AbortController().signal;
  await machine.runtime.remove(NAME, signal);
  await machine.network.stop({ purge: true });
  await using _worker = machine.start("http://127.0.0.1:9");
  await eventually(() => machine.runtime.started.length === 3, "started from disk");
  assert.equal(machine.runtime.started[2]?.instanceId, id);
  await systemClock.sleep(50);
  assert.equal(machine.runtime.started.length, 3, "the job stays done");
});

test("while the runtime is away instances keep their status, and all goes on when it is back", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web);
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
  machine.runtime.setAvailable(false);
  await eventually(() => cluster.instances.get(id)!.detail.includes("("), "a detail that says so");
  assert.equal(cluster.instances.get(id)?.status, "RUNNING");
  machine.runtime.setAvailable(true);
  machine.runtime.exit(NAME, 3);
  await eventually(() => cluster.instances.get(id)?.status === "DEAD", "the missed end");
  assert.match(cluster.instances.get(id)!.detail, /^ended with exit code 3; starts again in \d s$/);
});

test("after a cut the link comes back with a full report, and logs can be read", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web);
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
  const path = machine.runtime.started[0]!.logPath;
  await appendFile(path, "one\ntwo\nthree\n");
  const file = join(machine.stateDir, "desired.json");
  await eventually(() => existsSync(file), "the desired set on disk");
  const { ino } = await stat(file);
  cluster.cut();
  const count = cluster.reports.length;
  await eventually(() => cluster.reports.length > count, "a report");
  assert.equal(cluster.reports[count]!.sequence, 1);
  assert.equal(cluster.reports[count]!.full, true);
  assert.equal(cluster.reports[count]!.instances.length, 1);
  assert.equal((await stat(file)).ino, ino, "nothing is written anew for the same desired set");
  const request = { type: "open", stream: "s", instanceId: id, follow: true, tailLines: 2 };
  await cluster.publish(topics.logRequest(WORKER_ID), JSON.stringify(request), false);
  const heard = () => cluster.logs.map(({ chunk }) => chunk ?? "").join("");
  await eventually(() => heard() === "two\nthree\n", "the last two lines");
  await appendFile(path, "four\n");
  await eventually(() => heard() === "two\nthree\nfour\n", "what follows");
  await cluster.publish(topics.logRequest(WORKER_ID), '{"type":"close","stream":"s"}', false);
  await cluster.publish(
    topics.logRequest(WORKER_ID),
    JSON.stringify({ ...request, stream: "t", instanceId: `${web.serviceId}-9` }),
    false,
  );
  await eventually(
    () => cluster.logs.some(({ stream, end }) => stream === "t" && end?.includes("no instance")),
    "refused",
  );
});

test("a refused worker says why and goes on trying; broken messages are dropped", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  cluster.refuse = 403;
  {
    await using _worker = machine.start(cluster.url);
    await eventually(() => cluster.registrations.length === 1, "a try");
    assert.equal(cluster.registrations[0]?.joinToken, "token");
  }
  cluster.refuse = undefined;
  await cluster.publish(topics.manifest(WORKER_ID), "{broken");
  await cluster.publish(topics.desired(WORKER_ID, id), '{"instanceId":1}');
  await using worker = machine.start(cluster.url, { net: "off" });
  await worker.ready;
  await cluster.want(web);
  await eventually(() => cluster.instances.get(id)?.status === "FAILED", "host ports without a network");
  assert.match(cluster.instances.get(id)!.detail, /network of this worker is off/);
  await cluster.publish(topics.check(WORKER_ID), '{"question":"q","withinMs":5000}', false);
  await eventually(() => cluster.checked.length === 1, "no routes to check");
  assert.deepEqual(cluster.checked[0], { question: "q", result: { outcome: "off" } });
  const file = join(machine.stateDir, "desired.json");
  await eventually(() => existsSync(file), "the desired set on disk");
  assert.equal(JSON.parse(await readFile(file, "utf8")).revision, 1);
});
