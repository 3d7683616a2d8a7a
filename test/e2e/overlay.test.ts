/** Packets between machines: two clusters at two sites, a worker each, and services that call each other across. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ClusterCheck } from "../../src/protocol/net-check.ts";
import type { RouteUpdate, ServiceRoute } from "../../src/protocol/route.ts";
import { startLab, type TestLab } from "../support/lab.ts";
import { eventually } from "../support/lab-host.ts";

const GET = `
require("node:http").get({ host: process.argv[1], timeout: 4000 }, (response) => console.log(response.statusCode))
  .on("timeout", () => process.exit(1)).on("error", (error) => console.log(error.code));
`;
const STATE = "/var/lib/oakestra/worker";
let lab: TestLab;

before(async () => {
  lab = await startLab({ clusters: 2, workers: 1 });
  await lab.buildImage();
  await deploy("shop", { web: "c1", client: "c2" });
  await deploy("bank", { teller: "c2" });
});

after(async () => {
  await lab?.remove();
});

/** One service a name, each pinned to the worker of a cluster. */
async function deploy(application: string, services: Readonly<Record<string, string>>): Promise<void> {
  const microservices = Object.entries(services).map(([name, cluster]) => ({
    ...{ microservice_name: name, microservice_namespace: "e2e", virtualization: "container", memory: 16 },
    code: "oakestra.local/hello:latest",
    healthcheck: { type: "tcp", port: 80, interval: 1 },
    constraints: [{ type: "direct", cluster, node: `${cluster}w1` }],
  }));
  const one = { application_name: application, application_namespace: "e2e", microservices };
  const file = `/tmp/${application}.json`;
  const input = JSON.stringify({ sla_version: "v2.0", applications: [one] });
  await lab.run("root", ["sh", "-c", `cat >${file}`], { input });
  await lab.sh("root", `oak deploy -f ${file}`);
}

async function routeOf(worker: string, service: string): Promise<ServiceRoute> {
  return await eventually(
    async () => {
      const { tables } = JSON.parse(await lab.sh(worker, `cat ${STATE}/routes.json`)) as RouteUpdate;
      return tables.find(({ jobName, instances }) => jobName.includes(`.${service}.`) && instances[0]?.live);
    },
    { what: `a live instance of ${service} as ${worker} knows it` },
  );
}

/** What the service's instance on the worker gets from an address. */
async function get(worker: string, service: string, address: string): Promise<string> {
  const { live } = (await routeOf(worker, service)).instances[0]!;
  const args = ["ip", "netns", "exec", `oak-${live!.sandbox}`, process.execPath, "-e", GET, address];
  return (await lab.run(worker, args)).stdout.trim();
}

test("a service of the same application is reached in another cluster", async () => {
  const web = await routeOf("c2w1", "web");
  assert.equal(await get("c2w1", "client", web.roundRobin), "200");
  assert.equal(await get("c2w1", "client", web.closest), "200");
  assert.equal(await get("c2w1", "client", web.instances[0]!.address), "200");
});

test("so is one of another application, by a worker that nobody there knew of", async () => {
  const teller = await routeOf("c2w1", "teller");
  assert.equal(await get("c1w1", "web", teller.roundRobin), "200", "its first packet, too");
});

test("oak net shows, checks and traces the routes of a worker", async () => {
  const web = await routeOf("c2w1", "web");
  const shown = await lab.sh("c2w1", "oak net show shop.web");
  assert.match(shown, new RegExp(`${web.roundRobin} .*shop.web, round robin .*10\\.18\\.`));
  const { checks, routes } = await lab.json<{ checks: object[]; routes: object[] }>(["net", "check"], "c2w1");
  assert.equal(checks.length, 1);
  assert.ok("body_ms" in checks[0]!, JSON.stringify(checks));
  assert.equal(routes.length, 3);
  const traced = await lab.sh("c2w1", "oak net trace shop.client shop.web");
  assert.match(traced, /through the tunnel/);
  assert.match(traced, new RegExp(`seen to come from ${(await routeOf("c2w1", "client")).instances[0]!.address}`));
});

test("an operator of a cluster sees the routes of all its workers, measured by them", async () => {
  const { clusters } = await lab.json<{ clusters: ClusterCheck[] }>(["net", "check", "--all"], "c2");
  const { cluster, workers } = clusters[0]!;
  assert.deepEqual([cluster, workers.map(({ hostname }) => hostname)], ["c2", ["c2w1"]]);
  const [checked] = workers;
  assert.ok(checked?.outcome === "checked" && checked.routes.length === 1, JSON.stringify(workers));
  const [route] = checked.routes;
  assert.deepEqual([route!.path, route!.address, route!.error], ["vxlan", await lab.address("c1w1"), undefined]);
  assert.ok(route!.body_ms! > 0 && route!.instances.some(({ job_name }) => job_name.includes(".web.")));
});

test("a service whose only instance has gone is refused everywhere", async () => {
  const web = await routeOf("c2w1", "web");
  await lab.sh("root", "oak service rm shop.web");
  await eventually(async () => (await get("c2w1", "client", web.roundRobin)) === "ECONNREFUSED", { what: "a refusal" });
});
