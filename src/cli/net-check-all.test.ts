import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { CheckedRoute, ClusterCheck, WorkerCheck } from "../protocol/net-check.ts";
import { checkRows, whatFailed } from "./commands/net-check-all.ts";
import { fakeEdge } from "./edge.fake.ts";
import { createProgram } from "./program.ts";

const web = (number: number) => ({ job_name: "shop.prod.web.prod", number });
const route = (change: Partial<CheckedRoute> = {}): CheckedRoute => ({
  ...{ worker_id: "2", hostname: "w2", address: "192.0.2.2", path: "vxlan", rtt_ms: 3, body_ms: 20 },
  ...{ instances: [web(0)], more_instances: 0, ...change },
});
const checked = (id: string, ...routes: CheckedRoute[]): WorkerCheck => ({
  ...{ worker_id: id, hostname: `w${id}`, outcome: "checked", routes, refused: [], left_out: 0 },
});
const all = { silent: 0, of: 1 };

/** A cluster that answers with `answer`; what it was sent, with what token, is kept. */
async function startCluster(t: TestContext, answer: object, status = 200) {
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    asked.push(`${request.method} ${request.url} ${request.headers.authorization} ${body}`);
    response.writeHead(status).end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function run(...args: string[]) {
  const edge = fakeEdge({ environment: { OAK_OPERATOR_TOKEN: "t" } });
  const error = await createProgram(edge)
    .parseAsync(["node", "oak", "net", "check", ...args])
    .then(
      () => undefined,
      (reason: unknown) => reason as Error & { code: string },
    );
  return { ...edge, error };
}

test("every pair of workers has a row with route, time there and back, and body; so has what has no route", () => {
  const dead = route({
    worker_id: "9",
    address: "192.0.2.9",
    path: "plain",
    error: "no connection within 10 s",
    more_instances: 4,
  });
  const { hostname: _, body_ms: __, rtt_ms: ___, ...foreign } = dead;
  const workers: WorkerCheck[] = [
    { ...checked("1", route(), foreign), refused: [web(7)], left_out: 3 } as WorkerCheck,
    checked("2"),
    { worker_id: "3", hostname: "w3", outcome: "off" },
    { worker_id: "4", hostname: "w4", outcome: "silent", detail: "did not answer within 60 s" },
    { worker_id: "5", hostname: "w5", outcome: "not asked", detail: "it is lost: not heard from" },
    { worker_id: "6", hostname: "w6", outcome: "failed", detail: "no kernel" },
  ];
  const other: ClusterCheck = { cluster: "far", workers: [{ ...checked("9"), hostname: "f1" }] };
  const rows = (...checks: ClusterCheck[]) =>
    checkRows(checks).map(({ from, to, route, rttMs, body, instances }) =>
      [from, to, route, rttMs, body, instances].map((one) => one ?? "-").join(" | "),
    );
  const lines = rows({ cluster: "near", workers });
  assert.deepEqual(lines, [
    "w1 | w2 | vxlan to 192.0.2.2 | 3 | 1 MB in 20 ms | shop.web/0",
    "w1 | worker at 192.0.2.9 | plain to 192.0.2.9 | - | no connection within 10 s | shop.web/0 and 4 more",
    "w1 | shop.web/7 | refused: takes no traffic | - | - | -",
    "w1 | - | 3 more are not shown | - | - | -",
    "w2 | - | none: no instance on another worker is in use here | - | - | -",
    "w3 | - | none: its network is off (--net=off) | - | - | -",
    "w4 | - | did not answer within 60 s | - | - | -",
    "w5 | - | not asked: it is lost: not heard from | - | - | -",
    "w6 | - | could not check: no kernel | - | - | -",
  ]);
  const [first] = rows({ cluster: "near", workers }, other);
  assert.match(first!, /^w1 \| f1 \| plain/, "its own cluster's answer names it");
});

test("what failed is counted: routes, workers that have not checked, clusters; a network that is off is no failure", () => {
  const off: WorkerCheck = { worker_id: "3", hostname: "w3", outcome: "off" };
  const silent: WorkerCheck = { worker_id: "4", hostname: "w4", outcome: "silent", detail: "" };
  const rows: [WorkerCheck[], typeof all, string | undefined][] = [
    [[checked("1", route()), off], all, undefined],
    [[checked("1", route(), route({ error: "cut" }))], all, "1 of 2 routes carried no body"],
    [[checked("1", route()), silent], all, "1 of 2 workers have not checked theirs"],
    [[off], { silent: 1, of: 2 }, "1 of 2 clusters could not be asked"],
  ];
  for (const [workers, clusters, words] of rows) assert.equal(whatFailed([{ cluster: "c", workers }], clusters), words);
});

test("--all asks the cluster as its operator, shows a table or the document, and fails with a route", async (t) => {
  const good = await startCluster(t, { cluster: "c", workers: [checked("1", route())] });
  const shown = await run("--all", "--cluster", good.url, "--within", "9");
  assert.equal(shown.error, undefined);
  assert.match(
    shown.stdout,
    /^FROM +TO +ROUTE +RTT +BODY +INSTANCES\nw1 +w2 +vxlan to 192\.0\.2\.2 +3 ms +1 MB in 20 ms/,
  );
  assert.deepEqual(good.asked, ['POST /api/net-check Bearer t {"within_s":9}']);
  const document = await run("--cluster", good.url, "-o", "json");
  const expected = { url: good.url, cluster: "c", workers: [checked("1", route())] };
  assert.deepEqual(JSON.parse(document.stdout), { clusters: [expected] }, "--cluster alone means all of it, too");
  const bad = await startCluster(t, { cluster: "c", workers: [checked("1", route({ error: "cut" }))] });
  const failed = await run("--cluster", bad.url);
  assert.match(failed.stdout, / cut /);
  assert.equal(failed.error?.code, "CHECK_FAILED");
});

test("of several clusters one that cannot be asked takes a line, and the others go on, each with its own token", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "oak-tokens-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const files = ["a", "b"].map((name) => {
    writeFileSync(join(folder, name), `token-${name}\n`);
    return join(folder, name);
  });
  const near = await startCluster(t, { cluster: "near", workers: [checked("1", route())] });
  const busy = await startCluster(t, { error: "IN_USE", message: "being checked" }, 409);
  const { stdout, stderr, error } = await run("--cluster", near.url, busy.url, "--operator-token-file", ...files);
  assert.match(stdout, /^CLUSTER +FROM .*\nnear +w1 /);
  assert.equal(stderr, `${busy.url}: being checked\n`);
  assert.equal(error?.message, "1 of 2 clusters could not be asked");
  assert.match(near.asked[0]!, /Bearer token-a/);
  assert.match(busy.asked[0]!, /Bearer token-b/);
  const uneven = await run("--cluster", near.url, "--operator-token-file", ...files);
  assert.equal(uneven.error?.code, "USAGE");
});

test("a server that does not know the question is told to be no cluster, or an older one; one that is away, to be away", async (t) => {
  const root = await startCluster(t, { error: "NOT_FOUND", message: "There is no such page" }, 404);
  const { error } = await run("--cluster", root.url);
  assert.match(
    error?.message ?? "",
    /^http:\S+ cannot check routes: is that the join port of a cluster \(10100 .*version\?$/,
  );
  const gone = await run("--cluster", "http://127.0.0.1:1");
  assert.match(gone.error?.message ?? "", /^Cannot reach http:\/\/127\.0\.0\.1:1/);
  assert.match((await run("--all", "--within", "121")).error?.message ?? "", /at most 120/);
});
