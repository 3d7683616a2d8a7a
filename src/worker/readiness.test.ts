import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { type TestContext, test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import type { Healthcheck } from "../protocol/healthcheck.ts";
import { FakeContainerRuntime } from "../runtime/container-runtime.fake.ts";
import { createProbe, type ProbeResult } from "./probes.ts";
import { afterCheck, ReadinessChecks, type ReadinessTarget, UNCHECKED, untilNextCheckMs } from "./readiness.ts";

const signal = new AbortController().signal;
const timing = { intervalMs: 10_000, timeoutMs: 200, retries: 3, startPeriodMs: 0 };
const tcp: Healthcheck = { type: "tcp", port: 80, ...timing };
const good: ProbeResult = { ok: true };
const bad: ProbeResult = { ok: false, reason: "no" };

test("afterCheck(): one success makes ready, `retries` failures in a row unready", () => {
  const states = (results: readonly ProbeResult[], check: Healthcheck = tcp, sinceStartMs = 0) => {
    let readiness = UNCHECKED;
    return results.map((result) => {
      readiness = afterCheck(readiness, result, check, sinceStartMs);
      return readiness.state;
    });
  };
  const rows: [ProbeResult[], string[]][] = [
    [[good], ["ready"]],
    [
      [bad, bad, bad, bad],
      ["unknown", "unknown", "unready", "unready"],
    ],
    [
      [good, bad, bad, good, bad, bad, bad, good],
      [...Array(6).fill("ready"), "unready", "ready"],
    ],
  ];
  for (const [results, expected] of rows) assert.deepEqual(states(results), expected);
  const patient = { ...tcp, retries: 1, startPeriodMs: 1000 };
  assert.deepEqual(states([bad, bad, bad], patient, 999), ["unknown", "unknown", "unknown"]);
  assert.deepEqual(states([bad], patient, 1000), ["unready"]);
  assert.deepEqual(states([good, bad], patient, 10), ["ready", "unready"], "once ready, failures count");
});

test("untilNextCheckMs(): quick until the first success, then the interval", () => {
  const pauses = [1, 2, 3, 8, 30].map((checks) => untilNextCheckMs({ ...UNCHECKED, checks }, tcp, false));
  assert.deepEqual(pauses, [100, 200, 400, 10_000, 10_000]);
  assert.equal(untilNextCheckMs({ ...UNCHECKED, checks: 1 }, tcp, true), 10_000);
  assert.equal(untilNextCheckMs({ ...UNCHECKED, checks: 9 }, { ...tcp, intervalMs: 1000 }, false), 1000);
});

async function listening(t: TestContext, server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test("http, tcp and exec are probed, and failures have their reason", async (t) => {
  const web = createHttpServer((request, response) => {
    if (request.url === "/hang") return;
    response.writeHead(Number(request.url!.slice(1)));
    // Without an end: only the status counts.
    response.write("x");
  });
  t.after(() => web.closeAllConnections());
  const webPort = await listening(t, web);
  const closed = createServer();
  const closedPort = await listening(t, closed);
  closed.close();
  const runtime = new FakeContainerRuntime();
  runtime.addImage("web");
  const spec = { containerId: "c", instanceId: "i", generation: 1, image: "web", environment: [], hostname: "h" };
  await runtime.start({ ...spec, limits: {}, logPath: "/dev/null", labels: {} }, signal);
  runtime.execs.set("check bad", { exitCode: 3 });
  const probe = createProbe(runtime);
  const run = (check: Healthcheck) => probe({ containerId: "c", address: "127.0.0.1", check }, signal);
  const http = (path: string): Healthcheck => ({ type: "http", port: webPort, path, ...timing });
  const command = (...words: string[]): Healthcheck => ({ type: "exec", command: words, ...timing });
  for (const check of [http("/200"), http("/302"), { ...tcp, port: webPort }, command("check", "good")]) {
    assert.deepEqual(await run(check), good, JSON.stringify(check));
  }
  const failures: [Healthcheck, RegExp][] = [
    [http("/404"), /^GET :\d+\/404: status 404$/],
    [http("/503"), /status 503$/],
    [http("/hang"), /^GET :\d+\/hang: no answer within 0\.2 s$/],
    [{ ...tcp, port: closedPort }, /^port \d+: .*ECONNREFUSED/],
    [{ ...http("/200"), port: closedPort } as Healthcheck, /ECONNREFUSED/],
    [command("check", "bad"), /^check bad: exit code 3$/],
  ];
  for (const [check, expected] of failures) {
    const result = await run(check);
    assert.ok(!result.ok);
    assert.match(result.reason, expected);
  }
  const reason = new Error("enough");
  await assert.rejects(
    probe({ containerId: "c", address: "127.0.0.1", check: tcp }, AbortSignal.abort(reason)),
    reason,
  );
});

test("ReadinessChecks follows what runs: a new container is unknown again, one that is gone is not asked", async () => {
  const clock = new ManualClock();
  let result: ProbeResult = bad;
  const probed: string[] = [];
  const changed: string[] = [];
  const checks = new ReadinessChecks({
    ...{ clock, log: silentLogger, onChange: (instanceId) => changed.push(instanceId) },
    probe: async ({ containerId }) => {
      probed.push(containerId);
      return result;
    },
  });
  const target = (change: Partial<ReadinessTarget> = {}): ReadinessTarget => ({
    ...{
      instanceId: "a",
      containerId: "c",
      address: "10.18.0.2",
      check: tcp,
      startedAt: clock.monotonic(),
      isAdopted: false,
    },
    ...change,
  });
  const stop = new AbortController();
  const first = target();
  checks.sync([first]);
  assert.equal(checks.of("a"), undefined);
  const ended = checks.run(stop.signal);
  assert.equal(checks.of("a")?.state, "unknown");
  await clock.advance(800);
  assert.deepEqual([checks.of("a")?.state, checks.of("a")?.reason], ["unready", "no"]);
  result = good;
  await clock.advance(2000);
  assert.equal(checks.of("a")?.state, "ready");
  checks.sync([first]);
  assert.equal(checks.of("a")?.state, "ready");
  const count = probed.length;
  await clock.advance(60_000);
  assert.ok(probed.length - count >= 5 && probed.length - count <= 7, "one each interval");
  result = bad;
  checks.sync([target({ startedAt: clock.monotonic() + 1 })]);
  assert.equal(checks.of("a")?.state, "unknown");
  await clock.advance(100);
  checks.sync([]);
  assert.equal(checks.of("a"), undefined);
  probed.length = 0;
  await clock.advance(60_000);
  assert.deepEqual(probed, []);
  assert.ok(changed.length >= 3 && changed.every((instanceId) => instanceId === "a"));
  checks.sync([target()]);
  stop.abort();
  await ended;
});
