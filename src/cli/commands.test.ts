/** Commands against a root of a few lines: what they ask, what they print, how they end. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { deadline } from "../base/clock.ts";
import { ownAddress } from "../base/own-address.ts";
import { fakeEdge } from "./edge.fake.ts";
import { endOf } from "./exit-code.ts";
import { createProgram } from "./program.ts";

const folder = mkdtempSync(join(tmpdir(), "oak-commands-"));
const ID = "0123456789abcdef01234567";
const SLA = `sla_version: v2.0
applications:
  - {application_name: shop, application_namespace: prod, microservices: [
      {microservice_name: web, microservice_namespace: prod, virtualization: container, code: nginx, port: "8080:80"}]}
`;

interface FakeRoot {
  registered: boolean;
  /** Statuses that a new instance goes through, one an event. */
  plan: { status: string; status_detail?: string }[];
  instances: { instance_number: number; status: string; status_detail?: string }[];
  token: string;
  requests: string[];
  isPlaceable: boolean;
}
let root: FakeRoot;
beforeEach(() => {
  root = {
    registered: false,
    plan: [{ status: "RUNNING" }],
    instances: [],
    token: "good",
    requests: [],
    isPlaceable: true,
  };
});

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
});
before(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
after(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true });
});

const application = { applicationID: ID, application_name: "shop", application_namespace: "prod", microservices: [ID] };
const service = () => ({
  microserviceID: ID,
  applicationID: ID,
  microservice_name: "web",
  microservice_namespace: "prod",
  app_name: "shop",
  app_ns: "prod",
  job_name: "shop.prod.web.prod",
  image: "nginx",
  port: "8080:80",
  warnings: ["a constraint has no effect"],
  instance_list: root.instances,
});

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const call = `${request.method} ${request.url}`;
  root.requests.push(call);
  const json = (value: unknown, status = 200) => response.writeHead(status).end(JSON.stringify(value));
  if (call === "GET /api/version") return void json({ version: "9" });
  if (call === "POST /api/auth/login") return void json({ token: root.token, refresh_token: "refresh" });
  if (call === "POST /api/auth/refresh") return void json({ token: root.token });
  if (request.headers.authorization !== `Bearer ${root.token}`) {
    return void json({ error: "TOKEN_EXPIRED", message: "The token has expired" }, 401);
  }
  const applications = root.registered ? [application] : [];
  if (call === "GET /api/applications/") return void json(applications);
  if (call === "GET /api/clusters/")
    return void json([{ _id: "c", cluster_name: "home", active: true, active_nodes: 2 }]);
  if (call === "POST /api/cluster/token") return void json({ token: "abc", expires_at: 0 });
  if (call === "POST /api/application/") return void register(json);
  if (call === "POST /api/plan?instances=1") return void json(planned());
  if (call === `GET /api/service/${ID}/instance/0/explain`) return void json(explained);
  if (call === `DELETE /api/application/${ID}`) root.registered = false;
  else if (call === `GET /api/services/${ID}`) return void json([service()]);
  else if (call === `GET /api/service/${ID}`) return void json(service());
  else if (call === `POST /api/service/${ID}/instance`) {
    const instance_number = root.instances.length;
    root.instances.push({ instance_number, status: "REQUESTED" });
    return void json({ message: "ok", instance_number });
  } else if (call === `GET /api/service/${ID}/events`) return await sendEvents(response);
  else if (call.includes("/logs?")) return void response.end("first\nlast words\n");
  else if (call.startsWith(`DELETE /api/service/${ID}/instance/`))
    root.instances = root.instances.filter(({ instance_number }) => !call.endsWith(`/${instance_number}`));
  else return void json({ error: "NOT_FOUND", message: "no such thing" }, 404);
  json({ message: "ok" });
}

const place = {
  job_name: "a",
  instance_number: 0,
  decisions: [{ tier: "cluster", cluster_name: "home", lines: ["✗ w1: memory: needed 20 MB, had 10 MB"] }],
};
const planned = () => ({
  ok: root.isPlaceable,
  applications: [
    {
      name: "shop.prod",
      action: "change",
      services: [
        {
          name: "shop.prod.web.prod",
          action: "change",
          changes: [
            { field: "memory", is: 10, would_be: 20 },
            { field: "environment KEY", is: "[set]", would_be: "[changed]" },
          ],
          instances: { add: [], replace: [0, 1], keep: [], remove: [] },
        },
        {
          name: "shop.prod.old.prod",
          action: "remove",
          changes: [],
          instances: { add: [], replace: [], keep: [], remove: [4] },
        },
      ],
    },
  ],
  placements: [
    root.isPlaceable
      ? { ...place, placed: true, cluster_name: "home", worker_name: "w1", status: "NODE_SCHEDULED", detail: "" }
      : { ...place, placed: false, cluster_name: "", worker_name: "", status: "REQUESTED", detail: "waits" },
  ],
  warnings: [],
});

const room = { cpuMillis: 4000, memoryBytes: 2 ** 32, gpus: 0 };
const plain = { virtualization: ["container"], architectures: ["amd64"], heldPorts: {} };
const recorded = {
  ...{ version: 1, at: 1, tier: "cluster", instanceId: `${ID}-0`, omitted: 0, options: { strategy: "best-fit" } },
  request: { memoryBytes: 1, cpuMillis: 1, gpus: 0, virtualization: "container", architectures: [], ports: [] },
  candidates: [{ id: "x", name: "host-x", active: true, free: room, total: room, ...plain }],
  decision: { placed: true, candidateId: "x", ranking: ["x"] },
};
const explained = {
  job_name: "shop.prod.web.prod",
  instance_number: 0,
  status: "RUNNING",
  status_detail: "runs",
  timeline: [{ at: 0, tier: "worker", status: "RUNNING", detail: "runs" }],
  decisions: [{ at: 1, tier: "cluster", lines: ["best-fit chose worker host-x of 1 workers"], record: recorded }],
};

function register(json: (value: unknown, status?: number) => void): void {
  if (root.registered) {
    json({ error: "NAME_TAKEN", message: 'Application "shop.prod" exists', details: { holder: ID } }, 409);
    return;
  }
  root.registered = true;
  json([application]);
}

async function sendEvents(response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = () => response.write(`: hello\nevent: service\ndata: ${JSON.stringify(service())}\n\n`);
  send();
  for (const step of root.plan) {
    root.instances = root.instances.map((one) => (one.status === "RUNNING" ? one : { ...one, ...step }));
    send();
  }
}

async function oak(args: string[], { input = "", environment = {} }: { input?: string; environment?: object } = {}) {
  const { port } = server.address() as { port: number };
  const edge = fakeEdge({
    input,
    environment: { OAK_SERVER: `http://127.0.0.1:${port}`, ...environment },
    credentialsPath: join(folder, "login.json"),
    signal: deadline(20_000),
  });
  let exitCode = 0;
  let message: string | undefined;
  try {
    await createProgram(edge).parseAsync(["node", "oak", ...args]);
  } catch (error) {
    ({ exitCode, message } = endOf(error, false));
  }
  return { exitCode, stdout: edge.stdout, stderr: edge.stderr + (message ?? ""), started: edge.started };
}

async function loggedIn(): Promise<void> {
  assert.equal((await oak(["login", "-u", "ann", "--password-stdin"], { input: "secret\n" })).exitCode, 0);
}

test("wrong usage ends with 2 and one line", async () => {
  for (const args of [
    ["deploy"],
    ["nonsense"],
    ["app", "lss"],
    ["app", "ls", "-o", "xml"],
    ["scale", "web"],
    ["scale", "web", "-1"],
    ["logs", "web", "--tail", "x"],
    ["up", "--nonsense"],
    ["worker", "nonsense"],
    ["completion", "csh"],
    ["down", "--state"],
  ]) {
    const { exitCode, stderr } = await oak(args);
    assert.equal(exitCode, 2, `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, /^oak: /);
  }
});

test("roles get their flags as typed, and only those", async () => {
  const { started } = await oak(["up", "--state-dir", "/x", "--insecure-default-admin", "--detach"]);
  assert.deepEqual(started, [
    {
      role: "up",
      flags: {
        settings: { stateDir: "/x", insecureDefaultAdmin: "on" },
        config: undefined,
        detach: true,
      },
    },
  ]);
});

test("without a login, and with an expired one, the remedy is told", async () => {
  rmSync(join(folder, "login.json"), { force: true });
  const { exitCode, stderr } = await oak(["app", "ls"]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /Not logged in to .*oak login/);
});

test("an expired token is refreshed once, quietly", async () => {
  await loggedIn();
  root.token = "newer";
  assert.equal((await oak(["app", "ls"])).exitCode, 0);
  assert.deepEqual(root.requests.slice(-3), [
    "GET /api/applications/",
    "POST /api/auth/refresh",
    "GET /api/applications/",
  ]);
});

test("deploy registers, starts, watches, and ends with 0 when it runs", async () => {
  await loggedIn();
  root.plan = [{ status: "PULLING", status_detail: "43 %" }, { status: "RUNNING" }];
  const { exitCode, stdout, stderr } = await oak(["deploy", "-f", "-"], { input: SLA });
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, /shop\.web\/0 {2}PULLING {2}43 %\n.*RUNNING/s);
  assert.match(stderr, /warning: shop\.web: a constraint has no effect/);
  assert.match(stdout, /INSTANCE.*\nshop\.web\/0 +RUNNING/);
});

test("a deployment that fails tells why, shows the last output, and is removed again unless it shall be kept", async () => {
  await loggedIn();
  root.plan = [{ status: "FAILED", status_detail: 'image "nginx" not found' }];
  const { exitCode, stderr } = await oak(["deploy", "-f", "-"], { input: SLA });
  assert.equal(exitCode, 1);
  assert.match(stderr, /last words/);
  assert.match(stderr, /oak: shop\.web\/0 does not run: FAILED: image "nginx" not found/);
  assert.equal(root.registered, false);
  root.instances = [];
  assert.equal((await oak(["deploy", "--keep", "-f", "-"], { input: SLA })).exitCode, 1);
  assert.equal(root.registered, true);
});

test("scaling up that fails says how to take it back", async () => {
  await loggedIn();
  root.registered = true;
  root.plan = [{ status: "FAILED", status_detail: "no" }];
  const { exitCode, stderr } = await oak(["scale", "web", "1"]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /FAILED: no\nIt stays wanted and is tried again; "oak scale shop\.web 0" takes it back/);
});

test("deploying a registered name says what can be done", async () => {
  await loggedIn();
  root.registered = true;
  const { exitCode, stderr } = await oak(["deploy", "-f", "-"], { input: SLA });
  assert.equal(exitCode, 1);
  assert.match(stderr, /exists.*oak app rm shop\.prod.*oak scale/s);
  assert.equal(root.registered, true);
});

test("a wrong descriptor never reaches the root", async () => {
  await loggedIn();
  const { exitCode, stderr } = await oak(["deploy", "-f", "-"], { input: SLA.replace("nginx", '""') });
  assert.equal(exitCode, 2);
  assert.match(stderr, /^oak: standard input:4:\d+: .*code: must name an image/);
  assert.ok(!root.requests.some((call) => call.startsWith("POST /api/application")));
});

test("scale starts what is missing and removes what is too much", async () => {
  await loggedIn();
  root.registered = true;
  assert.equal((await oak(["scale", "shop.web", "2"])).exitCode, 0);
  assert.equal(root.instances.length, 2);
  const { stderr, exitCode } = await oak(["scale", "web", "1"]);
  assert.equal(exitCode, 0);
  assert.match(stderr, /shop\.web\/1 {2}removed/);
  assert.deepEqual(
    root.instances.map(({ instance_number }) => instance_number),
    [0],
  );
});

test("names that are unknown are answered with those that exist", async () => {
  await loggedIn();
  root.registered = true;
  const { exitCode, stderr } = await oak(["service", "show", "wbe"]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /There is no service "wbe"\. There are: shop\.prod\.web\.prod/);
});

test("everything that lists can answer in JSON", async () => {
  await loggedIn();
  root.registered = true;
  root.instances = [{ instance_number: 0, status: "DEAD", status_detail: "exit code 1" }];
  for (const args of [
    ["app", "ls"],
    ["service", "ls"],
    ["instance", "ls"],
    ["cluster", "ls"],
    ["status"],
    ["app", "show", "shop"],
  ]) {
    const { stdout, exitCode, stderr } = await oak([...args, "-o", "json"]);
    assert.equal(exitCode, 0, stderr);
    JSON.parse(stdout);
  }
  const { stdout } = await oak(["status"]);
  assert.match(stdout, /instances: +0 well of 1\n.*shop\.web\/0 {2}DEAD {2}exit code 1/s);
});

test("a join command names an address that other machines have, and says when nothing answers there", async () => {
  await loggedIn();
  const { stdout, stderr } = await oak(["cluster", "token"]);
  const port = (server.address() as { port: number }).port;
  const [, host] = new RegExp(`^OAK_JOIN_TOKEN=abc oak cluster --root http://(.*):${port} --name`).exec(stdout) ?? [];
  // A machine without a network has no other address.
  assert.equal(host, await ownAddress("127.0.0.1"), stdout);
  if (host !== "127.0.0.1") assert.match(stderr, /this root: it listens on loopback only\. Start it with --host/);
});

test("logs of one instance are plain; several are told apart", async () => {
  await loggedIn();
  root.registered = true;
  root.instances = [
    { instance_number: 0, status: "RUNNING" },
    { instance_number: 1, status: "RUNNING" },
  ];
  assert.equal((await oak(["logs", "web/0"])).stdout, "first\nlast words\n");
  assert.match((await oak(["logs", "web"])).stdout, /shop\.web\/1 \| last words\n/);
});

test("plan tells what would change and where it would go, and ends with 0 when all would be placed", async () => {
  await loggedIn();
  const { exitCode, stdout, stderr } = await oak(["plan", "-f", "-"], { input: SLA });
  assert.equal(exitCode, 0, stderr);
  assert.deepEqual(stdout.split("\n"), [
    "~ application shop.prod",
    "  ~ service shop.prod.web.prod: 2 instances made anew",
    "      memory: 10 → 20",
    "      environment KEY: [set] → [changed]",
    "  - service shop.prod.old.prod is not in the descriptor: 1 instance removed",
    "→ a/0 to cluster home, worker w1",
    "",
  ]);
  assert.ok(!root.registered);
});

test("plan ends with 2, and each candidate's verdict, when something would not be placed", async () => {
  await loggedIn();
  root.isPlaceable = false;
  const { exitCode, stdout, stderr } = await oak(["plan", "-f", "-"], { input: SLA });
  assert.equal(exitCode, 2);
  assert.match(stdout, /✗ a\/0 REQUESTED: waits\n {4}the cluster home would decide\n {6}✗ w1: memory: needed 20 MB/);
  assert.match(stderr, /Not everything would be placed now/);
  const json = await oak(["plan", "-f", "-", "-o", "json"], { input: SLA });
  assert.deepEqual([json.exitCode, JSON.parse(json.stdout).ok], [2, false]);
});

test("plan ends with 2 for a descriptor that is none, or is not there", async () => {
  await loggedIn();
  assert.equal((await oak(["plan", "-f", "-"], { input: "sla_version: v1" })).exitCode, 2);
  const missing = await oak(["plan", "-f", "/nonexistent/sla.yaml"]);
  assert.equal(missing.exitCode, 2);
  assert.match(missing.stderr, /Cannot read "\/nonexistent\/sla.yaml"/);
  assert.ok(!root.requests.some((call) => call.startsWith("POST /api/plan")));
});

test("explain tells what happened and what was decided; replay decides it again", async () => {
  await loggedIn();
  root.registered = true;
  const { stdout } = await oak(["explain", "web/0"]);
  assert.match(
    stdout,
    /shop.prod.web.prod\/0 {2}RUNNING {2}runs\n.*worker +RUNNING +runs\n.*the cluster decided\n +best-fit/s,
  );
  const json = await oak(["explain", "web/0", "-o", "json"]);
  const again = await oak(["replay", "-"], { input: json.stdout });
  assert.equal(again.exitCode, 0, again.stderr);
  assert.match(again.stdout, /cluster {2}the same again/);
  const forged = json.stdout.replace(/"candidateId": "x"/, '"candidateId": "y"');
  const other = await oak(["replay", "-"], { input: forged });
  assert.equal(other.exitCode, 1);
  assert.match(other.stdout, /candidateId: was "y", is "x"/);
  assert.equal((await oak(["replay", "-"], { input: "[]" })).exitCode, 2);
});
