/** What an operator is told who gives a worker or a cluster a wrong address or a wrong token; and that it joins once that is mended. */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { resolveSettings } from "../../src/base/settings.ts";
import { type ClusterRole, createCluster } from "../../src/cluster/cluster.ts";
import { CLUSTER_SETTINGS } from "../../src/cluster/settings.ts";
import { createRoot } from "../../src/root/root.ts";
import { ROOT_SETTINGS } from "../../src/root/settings.ts";
import { HttpClient } from "../../src/transport/http-client.ts";
import { startMachine } from "../../src/worker/machine.fake.ts";
import { eventually } from "../support/eventually.ts";

const folder = mkdtempSync(join(tmpdir(), "oak-misdirected-"));
const stop = new AbortController();
const ended: Promise<void>[] = [];
/** Of every role that runs here. */
const lines: { level: string; message: string; reason?: string }[] = [];
const log = createLogger({
  ...{ level: "info", format: "json", now: systemClock.now },
  write: (line) => lines.push(JSON.parse(line)),
});
/** The wall clock of root and cluster can be set; their monotonic one cannot. */
let aheadMs = 0;
const clock: Clock = { ...systemClock, now: () => systemClock.now() + aheadMs };

const root = createRoot(
  resolveSettings(ROOT_SETTINGS, {
    environment: {},
    flags: { stateDir: join(folder, "root"), port: 0, insecureDefaultAdmin: true },
  }).values,
  { log, clock },
);
let rootUrl = "";
let joinUrl = "";
let cluster: ClusterRole;

before(async () => {
  ended.push(root.run(stop.signal));
  rootUrl = `http://127.0.0.1:${(await root.listening).port}`;
  cluster = clusterAt(rootUrl, "edge", () => root.issueClusterToken());
  joinUrl = `http://127.0.0.1:${(await cluster.listening).joinPort}`;
});
after(async () => {
  stop.abort();
  await Promise.all(ended);
  rmSync(folder, { recursive: true });
});

function clusterAt(url: string, name: string, rootToken?: () => Promise<string>): ClusterRole {
  const flags = { name, stateDir: join(folder, name), root: url, joinPort: 0, mqttPort: 0 };
  const { values } = resolveSettings(CLUSTER_SETTINGS, { environment: {}, flags });
  const role = createCluster(values, { log, clock, ...(rootToken ? { rootToken } : {}) });
  ended.push(role.run(stop.signal));
  return role;
}

/** What a worker says of its cluster on its own machine, once it has tried. */
async function workerTold(url: string, token: () => Promise<string> = async () => ""): Promise<string> {
  await using machine = await startMachine();
  await using _worker = machine.start(url, {}, token);
  const socketPath = join(machine.stateDir, "worker.sock");
  return await eventually(
    async () => {
      const { cluster: told } = (await overSocket(socketPath)) as { cluster: { connected: boolean; problem?: string } };
      return told.connected ? "connected" : told.problem;
    },
    { what: "a reason" },
  );
}

function overSocket(socketPath: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: "/net" }, (response) =>
      response.toArray().then((chunks) => resolve(JSON.parse(Buffer.concat(chunks).toString())), reject),
    );
    call.on("error", reject);
    call.end();
  });
}

/** What a cluster says of its root to its operator, once it has tried; and the same in its log. */
async function clusterTold(url: string, name: string, rootToken?: () => Promise<string>): Promise<string> {
  const { joinPort } = await clusterAt(url, name, rootToken).listening;
  const token = readFileSync(join(folder, name, "operator-token"), "utf8").trim();
  const http = new HttpClient(`http://127.0.0.1:${joinPort}`);
  const told = await eventually(
    async () => {
      const { body } = await http.send("GET", "/api/root-link", { token });
      const { connected, problem, root: shown } = body as { connected: boolean; problem?: string; root: string };
      assert.equal(shown, url);
      return connected ? "connected" : problem;
    },
    { what: "a reason" },
  );
  if (told !== "connected")
    assert.ok(
      lines.some(({ reason }) => reason === told),
      told,
    );
  return told;
}

async function withServer(server: ReturnType<typeof createServer>, use: (port: number) => Promise<void>) {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use((server.address() as AddressInfo).port);
  } finally {
    server.close();
  }
}

test("a worker that is given the root's URL, or that of any other server, is told which one it needs", async () => {
  assert.match(
    await workerTold(rootUrl),
    /^http:\/\/127\.0\.0\.1:\d+ is a root, not a cluster: --cluster wants the join port/,
  );
  const other = createHttpServer((_, response) => response.writeHead(404).end("nothing here"));
  await withServer(other, async (port) => {
    assert.match(await workerTold(`http://127.0.0.1:${port}`), /is no cluster: --cluster wants/);
    other.closeAllConnections();
  });
});

test("a worker is told what is wrong with its token, and how to get one", async () => {
  const remedy = /make one with "oak worker token".*OAK_JOIN_TOKEN or in joinTokenFile/;
  const missing = await workerTold(joinUrl);
  assert.match(missing, /does not know this worker/);
  assert.match(missing, remedy);
  const wrong = await workerTold(joinUrl, async () => "guess");
  assert.match(wrong, /The join token is unknown or already used/);
  assert.match(wrong, remedy);
  assert.ok(!wrong.includes("guess"));
  const token = await cluster.issueWorkerToken();
  assert.equal(await workerTold(joinUrl, async () => token), "connected");
  assert.match(await workerTold(joinUrl, async () => token), /already used/);
});

test("a worker whose name another one has is told the remedy", async () => {
  await using machine = await startMachine();
  await using _worker = machine.start(joinUrl, {}, () => cluster.issueWorkerToken());
  const socketPath = join(machine.stateDir, "worker.sock");
  const problem = async () => ((await overSocket(socketPath)) as { cluster: { problem?: string } }).cluster.problem;
  const told = await eventually(problem, { what: "a reason" });
  assert.match(told, /Another worker \(\w+\) with another key is called "edge1".*oak worker rm edge1.*--hostname/);
  assert.ok(lines.every(({ message }) => !/fresh join token/.test(message)));
});

test("a worker that reaches nobody is told why: no listener, no name, no HTTP, TLS", async () => {
  assert.match(
    await workerTold("http://127.0.0.1:1"),
    /Cannot reach http:\/\/127\.0\.0\.1:1: nothing listens on port 1 there/,
  );
  assert.match(await workerTold("http://no-such-host.invalid:10100"), /the name "no-such-host\.invalid"/);
  const mqtt = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(Buffer.from([0x20, 2, 0, 0])));
  });
  await withServer(mqtt, async (port) => assert.match(await workerTold(`http://127.0.0.1:${port}`), /speaks no HTTP/));
  assert.match(await workerTold(joinUrl.replace("http", "https")), /speaks no TLS: write http:\/\//);
});

test("a cluster that is given a cluster's URL, or that of any other server, is told which one it needs", async () => {
  assert.match(
    await clusterTold(joinUrl, "lost1", async () => "t"),
    /^http:\/\/127\.0\.0\.1:\d+ is a cluster, not a root: --root wants the URL of a root's API/,
  );
  const other = createHttpServer((_, response) => response.writeHead(404).end("nothing here"));
  await withServer(other, async (port) => {
    assert.match(await clusterTold(`http://127.0.0.1:${port}`, "lost2"), /is no root \(it answers HTTP 404\)/);
    other.closeAllConnections();
  });
});

test("a cluster is told what is wrong with its token or its name, and how to mend it", async () => {
  const remedy = /make one with "oak cluster token".*OAK_JOIN_TOKEN or in joinTokenFile/;
  const missing = await clusterTold(rootUrl, "new1");
  assert.match(missing, /"new1" is not known here, and it has no join token/);
  assert.match(missing, remedy);
  const wrong = await clusterTold(rootUrl, "new2", async () => "guess");
  assert.match(wrong, /its join token is unknown, used or expired/);
  assert.match(wrong, remedy);
  assert.ok(!wrong.includes("guess"));
  const token = await root.issueClusterToken();
  assert.equal(await clusterTold(rootUrl, "new3", async () => token), "connected");
  assert.match(await clusterTold(rootUrl, "new4", async () => token), /used/);
  const namesake = createCluster(
    resolveSettings(CLUSTER_SETTINGS, {
      environment: {},
      flags: { name: "edge", stateDir: join(folder, "namesake"), root: rootUrl, joinPort: 0, mqttPort: 0 },
    }).values,
    { log, clock, rootToken: () => root.issueClusterToken() },
  );
  ended.push(namesake.run(stop.signal));
  await eventually(
    async () =>
      lines.some(({ reason }) =>
        /"edge" is taken by another cluster.*--name, or.*oak cluster rm edge/.test(reason ?? ""),
      ) || undefined,
    { what: "the reason in the log" },
  );
});

test("a cluster that reaches nobody is told why: no listener, no name, no HTTP, TLS", async () => {
  assert.match(
    await clusterTold("http://127.0.0.1:1", "off1"),
    /Cannot reach the root at http:\/\/127\.0\.0\.1:1: nothing listens/,
  );
  assert.match(await clusterTold("http://no-such-host.invalid:10000", "off2"), /the name "no-such-host\.invalid"/);
  assert.match(await clusterTold(rootUrl.replace("http", "https"), "off3"), /speaks no TLS: write http:\/\//);
  const mute = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.destroy());
  });
  await withServer(mute, async (port) =>
    assert.match(await clusterTold(`http://127.0.0.1:${port}`, "off4"), /if it speaks TLS, write https:\/\//),
  );
});

test("a token that was issued before a clock was set is as good as before, at both tiers", async () => {
  const year = 365 * 86_400_000;
  for (const jump of [year, -year]) {
    const forCluster = await root.issueClusterToken();
    const forWorker = await cluster.issueWorkerToken();
    aheadMs += jump;
    // Issuing another one sweeps what has expired.
    await cluster.issueWorkerToken();
    assert.equal(await clusterTold(rootUrl, `jump${jump > 0 ? "ahead" : "back"}`, async () => forCluster), "connected");
    await using machine = await startMachine();
    await using worker = machine.start(
      joinUrl,
      { hostname: `jump${jump > 0 ? "ahead" : "back"}` },
      async () => forWorker,
    );
    await worker.ready;
  }
});

test("the token of a file is read at each try: a fresh one needs no restart", async () => {
  const file = join(folder, "token");
  writeFileSync(file, "stale");
  const flags = {
    name: "later",
    stateDir: join(folder, "later"),
    root: rootUrl,
    joinPort: 0,
    mqttPort: 0,
    joinTokenFile: file,
  };
  const role = createCluster(resolveSettings(CLUSTER_SETTINGS, { environment: {}, flags }).values, { log, clock });
  ended.push(role.run(stop.signal));
  await eventually(
    async () => lines.some(({ reason }) => /"later" is not known here/.test(reason ?? "")) || undefined,
    { what: "refused" },
  );
  writeFileSync(file, await root.issueClusterToken());
  await eventually(
    async () => {
      const { body } = await new HttpClient(rootUrl).send("GET", "/api/clusters", { token: await adminToken() });
      return (
        (body as { cluster_name: string; active: boolean }[]).some(
          (one) => one.cluster_name === "later" && one.active,
        ) || undefined
      );
    },
    { what: "joined" },
  );
});

async function adminToken(): Promise<string> {
  const { body } = await new HttpClient(rootUrl).send("POST", "/api/auth/login", {
    body: { username: "Admin", password: "Admin" },
  });
  return (body as { token: string }).token;
}
