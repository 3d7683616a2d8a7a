import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { fakeEdge } from "./edge.fake.ts";
import { createProgram } from "./program.ts";

const worker = { id: "a".repeat(24), hostname: "w1", status: "lost", instances: [] };
let rootLink: object | undefined;
let isCluster = true;

const cluster = createServer((request, response) => {
  const answer = { "/api/workers": [{ ...worker, detail: "not heard from since then" }], "/api/root-link": rootLink }[
    request.url!
  ];
  response.statusCode = answer && isCluster ? 200 : 404;
  response.end(
    JSON.stringify((isCluster ? answer : undefined) ?? { error: "NOT_FOUND", message: "There is nothing here" }),
  );
});
before(() => new Promise<void>((resolve) => cluster.listen(0, "127.0.0.1", resolve)));
after(() => {
  cluster.close();
  cluster.closeAllConnections();
});

async function listWorkers() {
  const edge = fakeEdge({ environment: { OAK_OPERATOR_TOKEN: "t" } });
  const url = `http://127.0.0.1:${(cluster.address() as AddressInfo).port}`;
  await createProgram(edge).parseAsync(["node", "oak", "worker", "ls", "--cluster", url]);
  return edge;
}

test("a list of workers remarks what is odd about each, and why the cluster has no link to its root", async () => {
  rootLink = { root: "http://192.0.2.1:1", connected: false, problem: "Cannot reach it" };
  const { stdout, stderr } = await listWorkers();
  assert.match(stdout, /w1 +lost .*not heard from since then/);
  assert.equal(stderr, "This cluster has no link to its root (http://192.0.2.1:1): Cannot reach it\n");
});

test("a linked cluster, and an older one that does not tell, cause no remark", async () => {
  rootLink = { root: "http://192.0.2.1:1", connected: true };
  assert.equal((await listWorkers()).stderr, "");
  rootLink = undefined;
  assert.equal((await listWorkers()).stderr, "");
});

test("a server that is no cluster is told to be none, with what is wanted instead", async () => {
  isCluster = false;
  await assert.rejects(
    listWorkers(),
    /http:\/\/127\.0\.0\.1:\d+ is no cluster: --cluster wants the join port of a cluster, 10100/,
  );
});
