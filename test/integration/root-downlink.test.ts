/** The root's orchestration against scripted clusters: real store, real HTTP upgrade, real WebSockets. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { WebSocket } from "ws";
import { ManualClock } from "../../src/base/clock.fake.ts";
import { systemClock } from "../../src/base/clock.ts";
import { hasCode } from "../../src/base/errors.ts";
import { secretToken } from "../../src/base/random.ts";
import {
  deploy,
  eventually,
  joined,
  reportOf,
  room,
  ScriptedCluster,
  startRoot,
  status,
  withRoot,
} from "./root-fixture.ts";

test("an assignment is sent at once, and its reports reach the store and the watchers", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { service, instance } = await deploy(root, { memory: 100, port: "8080:80", cmd: ["sh"] });
    let changes = 0;
    root.changes.onService(service.id, () => (changes += 1));
    const { assignments, revision, full } = await cluster.next("desired");
    assert.deepEqual([revision, full, assignments.length], [2, false, 1]);
    const [one] = assignments;
    assert.deepEqual(
      [one?.instanceId, one?.generation, one?.jobName, one?.request.virtualization, one?.workload.command],
      [instance.id, 1, "web.prod.web.prod", "container", ["sh"]],
    );
    assert.deepEqual(one?.request.ports, [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }]);
    cluster.report({ instances: [reportOf(one!, "RUNNING", { cpuPercent: 1 })], aggregate: room(7000) });
    await eventually("running", async () =>
      (await status(root, instance.id))?.status === "RUNNING" ? true : undefined,
    );
    const before = await eventually("notified", () => (changes > 0 ? changes : undefined));
    cluster.report({ instances: [reportOf(one!, "RUNNING", { cpuPercent: 55 })] });
    const placed = (await status(root, instance.id))!;
    await eventually("measured", () => (root.orchestration.reportOf(placed)?.cpuPercent === 55 ? true : undefined));
    assert.equal((await status(root, instance.id))?.report?.cpuPercent, undefined, "measurements are not stored");
    assert.equal(changes, before);
    await root.store.removeInstance(instance.id);
    root.orchestration.trigger();
    assert.deepEqual((await cluster.next("desired")).removed, [instance.id]);
  }));

test("what a cluster declines goes to the next one; when all decline, the reasons are told", () =>
  withRoot(async (root) => {
    const first = await joined(root, "first", 8000);
    const second = await joined(root, "second", 4000);
    const { instance } = await deploy(root);
    const offered = (await first.next("desired")).assignments[0]!;
    first.report({ instances: [reportOf(offered, "NO_WORKER_CAPACITY", { detail: "port is held" })] });
    const again = (await second.next("desired")).assignments[0]!;
    assert.deepEqual([again.instanceId, again.generation], [instance.id, 2]);
    assert.deepEqual((await first.next("desired")).removed, [instance.id]);
    second.report({ instances: [reportOf(again, "NO_WORKER_CAPACITY", { detail: "no room either" })] });
    const refused = await eventually("refused", async () => {
      const now = await status(root, instance.id);
      return now?.status === "NoActiveClusterWithCapacity" ? now : undefined;
    });
    assert.match(refused.detail, /port is held.*no room either/);
    second.report({ aggregate: room(8000) });
    // The first decline still holds, the second cluster has room again.
    const third = await eventually("offered again", () =>
      second.received.flatMap((one) => (one.type === "desired" ? one.assignments : [])).at(-1),
    );
    assert.equal(third.generation, 3);
  }));

test("a gap in the reports asks for all of them; a cluster that lost count gets everything", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { instance } = await deploy(root);
    const [one] = (await cluster.next("desired")).assignments;
    cluster.send({ type: "report", revision: 9, full: false, instances: [reportOf(one!, "RUNNING")], removed: [] });
    await cluster.next("resync");
    assert.equal((await status(root, instance.id))?.status, "CLUSTER_SCHEDULED");
    cluster.send({ type: "report", revision: 10, full: true, instances: [reportOf(one!, "RUNNING")], removed: [] });
    await eventually("running", async () =>
      (await status(root, instance.id))?.status === "RUNNING" ? true : undefined,
    );
    cluster.send({ type: "resync" });
    const everything = await cluster.next("desired");
    assert.deepEqual([everything.full, everything.revision, everything.assignments.length], [true, 3, 1]);
  }));

test("who may not join is told why, and closed", () =>
  withRoot(async (root) => {
    const edge = await joined(root, "edge");
    const cases: readonly [string, Record<string, unknown>, string][] = [
      ["no token", { clusterName: "new" }, "TOKEN_INVALID"],
      ["wrong token", { clusterName: "new", joinToken: "guess" }, "TOKEN_INVALID"],
      ["wrong key", { clusterName: "edge" }, "TOKEN_INVALID"],
      ["taken name", { clusterName: "edge", joinToken: await root.token() }, "NAME_TAKEN"],
      ["old protocol", { protocol: 0, joinToken: await root.token() }, "PROTOCOL_UNSUPPORTED"],
      ["no hello", { type: "report" }, "HELLO_INVALID"],
      ["bad name", { clusterName: "a b" }, "HELLO_INVALID"],
    ];
    for (const [what, hello, code] of cases) {
      const stranger = new ScriptedCluster(root.url);
      await stranger.hello(hello);
      const refused = await stranger.next("refused");
      assert.equal(refused.code, code, what);
      assert.ok(refused.message.length > 10 && !refused.message.includes(stranger.key));
      assert.equal((await stranger.closed()).code, 1008, what);
    }
    assert.equal((await root.store.clusters()).length, 1);
    assert.equal(root.orchestration.isActive((await root.store.clusters())[0]!.id), true);
    edge.close();
  }));

test("too many refusals close the door for a while", () =>
  withRoot(async (root) => {
    for (let index = 0; index < 30; index++) {
      const stranger = new ScriptedCluster(root.url);
      await stranger.hello();
      await stranger.closed();
    }
    const late = new WebSocket(root.url);
    const answer = await new Promise<number | undefined>((resolve) => {
      late.on("unexpected-response", (_request, response) => resolve(response.statusCode));
      late.on("error", () => resolve(undefined));
    });
    assert.equal(answer, 429);
    late.terminate();
  }));

test("malformed messages close the link with a reason, and nothing else", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    let link = cluster;
    for (const bad of ["{", '"text"', '{"type":"report"}', '{"type":"unknown"}', '{"type":"hello"}']) {
      link.send(bad);
      assert.equal((await link.closed()).code, 1008, bad);
      link = new ScriptedCluster(root.url, cluster.key);
      await link.hello();
      await link.next("welcome");
    }
    link.send("x".repeat(9 * 1024 * 1024));
    assert.equal((await link.closed()).code, 1009);
  }));

test("before it is let in, a socket may send no more than a hello; afterwards it may", () =>
  withRoot(async (root) => {
    const stranger = new ScriptedCluster(root.url);
    await stranger.hello({ padding: "x".repeat(200_000) });
    assert.equal((await stranger.closed()).code, 1006, "cut off, unheard");
    const cluster = await joined(root, "edge");
    cluster.report({ padding: "x".repeat(200_000) });
    cluster.send("{");
    assert.match((await cluster.closed()).reason, /is not JSON/, "the large message was taken");
  }));

test("a newer link of a cluster replaces the older one", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const newer = new ScriptedCluster(root.url, cluster.key);
    await newer.hello();
    await newer.next("welcome");
    assert.equal((await cluster.closed()).code, 4000);
    assert.equal((await newer.next("desired")).full, true);
    assert.equal(root.orchestration.isActive((await root.store.clusters())[0]!.id), true);
  }));

test("a root that starts again knows everything, and tells a returning cluster all of it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-root-"));
  const first = await startRoot(folder);
  const cluster = await joined(first, "edge");
  const { instance } = await deploy(first);
  const [one] = (await cluster.next("desired")).assignments;
  cluster.report({ instances: [reportOf(one!, "RUNNING")] });
  await eventually("running", async () =>
    (await status(first, instance.id))?.status === "RUNNING" ? true : undefined,
  );
  await first.stop();
  assert.equal((await cluster.closed()).code, 1001);

  const second = await startRoot(folder);
  try {
    assert.equal((await status(second, instance.id))?.status, "RUNNING");
    const back = new ScriptedCluster(second.url, cluster.key);
    await back.hello();
    await back.next("welcome");
    const desired = await back.next("desired");
    assert.deepEqual(desired.assignments, [one]);
    assert.equal(desired.full, true);
  } finally {
    await second.stop();
    rmSync(folder, { recursive: true });
  }
});

test("the registry login travels with the assignment, and again when it changes", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const login = { owner: "ann", name: "hub", server: "hub.local", username: "me" };
    await root.registrySecrets.put({ ...login, password: "one" });
    await deploy(root, { registry: "hub" });
    const first = (await cluster.next("desired")).assignments[0]!;
    assert.deepEqual(first.workload.credentials, { server: "hub.local", username: "me", password: "one" });
    assert.doesNotMatch(JSON.stringify(await root.store.registryPassword("ann", "hub")), /one/);
    await root.registrySecrets.put({ ...login, password: "two" });
    root.orchestration.trigger();
    const again = (await cluster.next("desired")).assignments[0]!;
    assert.deepEqual([again.generation, again.workload.credentials?.password], [1, "two"]);
  }));

test("logs stream through; unknown instances and lost links are errors", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { instance } = await deploy(root);
    await cluster.next("desired");
    const stop = new AbortController();
    const open = (id: string, signal = stop.signal) =>
      root.orchestration.openLog(id, { follow: true, tailLines: 10 }, signal)[Symbol.asyncIterator]();
    const log = open(instance.id);
    const first = log.next();
    const { stream, tailLines, follow } = await cluster.next("log.open");
    assert.deepEqual([tailLines, follow], [10, true]);
    cluster.send({ type: "log.data", stream, chunk: "hello\n" });
    cluster.send({ type: "log.data", stream: "another", chunk: "not mine" });
    assert.equal((await first).value, "hello\n");
    cluster.send({ type: "log.data", stream, chunk: "bye\n" });
    assert.equal((await log.next()).value, "bye\n");
    cluster.send({ type: "log.end", stream });
    assert.equal((await log.next()).done, true);

    await assert.rejects(open(`${"0".repeat(24)}-0`).next(), (error) => hasCode(error, "NOT_FOUND"));
    const second = open(instance.id).next();
    cluster.send({ type: "log.end", stream: (await cluster.next("log.open")).stream, error: "worker is away" });
    await assert.rejects(second, (error) => hasCode(error, "UNAVAILABLE"));
    const third = open(instance.id);
    const word = third.next();
    cluster.send({ type: "log.data", stream: (await cluster.next("log.open")).stream, chunk: "x" });
    await word;
    stop.abort();
    assert.equal((await third.next()).done, true);
    await cluster.next("log.close");
    const fourth = open(instance.id, new AbortController().signal).next();
    await cluster.next("log.open");
    cluster.close();
    await assert.rejects(fourth, (error) => hasCode(error, "UNAVAILABLE"));
    await assert.rejects(open(instance.id, new AbortController().signal).next(), (error) =>
      hasCode(error, "UNAVAILABLE"),
    );
  }));

test("who does not say hello, or falls silent, is cut off", async () => {
  const clock = new ManualClock();
  await withRoot(async (root) => {
    const speechless = new ScriptedCluster(root.url);
    const mute = new ScriptedCluster(root.url, secretToken(), { autoPong: false });
    const alive = new ScriptedCluster(root.url);
    await mute.hello({ clusterName: "mute", joinToken: await root.token() });
    await alive.hello({ clusterName: "alive", joinToken: await root.token() });
    await Promise.all([mute.next("welcome"), alive.next("welcome")]);
    await clock.advance(10_000);
    assert.equal((await speechless.closed()).code, 1006);
    const [muteId, aliveId] = (await root.store.clusters()).map(({ id }) => id) as [string, string];
    const heard = () => root.orchestration.heardAt(aliveId) === clock.now() || undefined;
    await eventually("first pong", heard);
    await clock.advance(10_000);
    await eventually("second pong", heard);
    await clock.advance(10_000);
    assert.equal((await mute.closed()).code, 1006);
    await eventually("gone", () => !root.orchestration.isActive(muteId) || undefined);
    assert.equal(root.orchestration.isActive(aliveId), true);
    alive.close();
  }, clock);
});

test("a clock that is set, by an hour or a year, makes no cluster look lost", async () => {
  let aheadMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  await withRoot(async (root) => {
    const holder = await joined(root, "holder", 8000);
    const other = await joined(root, "other", 4000);
    const { instance } = await deploy(root);
    const [one] = (await holder.next("desired")).assignments;
    holder.report({ instances: [reportOf(one!, "RUNNING")] });
    await eventually("running", async () =>
      (await status(root, instance.id))?.status === "RUNNING" ? true : undefined,
    );
    for (const [index, jump] of [3_600_000, 31_536_000_000, -31_536_000_000].entries()) {
      aheadMs = jump;
      // Heard from since the jump, while the holder was not: where the instance would go.
      other.report({ aggregate: room(7000) });
      const later = await deploy(root, {}, `later${index}`);
      await eventually("placed", async () => ((await status(root, later.instance.id))?.clusterId ? true : undefined));
      assert.equal((await status(root, instance.id))?.generation, 1);
    }
  }, clock);
});

test("a cluster whose clock is a year off joins, works, and is shown with the difference", () =>
  withRoot(async (root) => {
    for (const [name, off] of [
      ["ahead", 31_536_000_000],
      ["behind", -31_536_000_000],
    ] as const) {
      const cluster = new ScriptedCluster(root.url);
      await cluster.hello({ clusterName: name, joinToken: await root.token(), clock: systemClock.now() + off });
      const { clusterId } = await cluster.next("welcome");
      cluster.report({ aggregate: room(8000) });
      await eventually("active", () => root.orchestration.isActive(clusterId) || undefined);
      assert.ok(Math.abs(root.orchestration.clockOffMs(clusterId)! - off) < 10_000);
      cluster.close();
      await eventually("gone", () => !root.orchestration.isActive(clusterId) || undefined);
    }
  }));

test("a removed cluster is disconnected, and its key opens no door any more", () =>
  withRoot(async (root) => {
    const cluster = await joined(root, "edge");
    const { instance } = await deploy(root);
    await cluster.next("desired");
    const { id } = (await root.store.clusters())[0]!;
    await root.store.removeCluster(id);
    root.orchestration.disconnect(id);
    assert.equal((await cluster.closed()).code, 4001);
    await eventually("unplaced", async () =>
      (await status(root, instance.id))?.status === "NoActiveClusterWithCapacity" ? true : undefined,
    );
    const back = new ScriptedCluster(root.url, cluster.key);
    await back.hello();
    assert.equal((await back.next("refused")).code, "TOKEN_INVALID");
  }));
