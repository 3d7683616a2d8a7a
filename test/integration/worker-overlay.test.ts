/** The worker's part in the overlay on a real kernel, in a machine of its own: service addresses, names, and what users notice of changes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import type { DesiredInstance } from "../../src/protocol/mqtt.ts";
import { buildImage } from "../../src/runtime/image-build.ts";
import { desiredInstance } from "../../src/worker/builders.fake.ts";
import { type FakeCluster, startFakeCluster } from "../../src/worker/cluster.fake.ts";
import {
  eventually,
  type LabHost,
  labHostProblem,
  type Running,
  repository,
  startLabHost,
} from "../support/lab-host.ts";

const IMAGE = "oakestra.local/hello:latest";
const CLIENT = "5f0c1a2b3c4d5e6f70819300";
const LOOK_UP = `
const resolver = new (require("node:dns").promises.Resolver)({ timeout: 2000, tries: 1 });
resolver.setServers([process.argv[1]]);
resolver.resolve4(process.argv[2]).then((all) => console.log(all.join()), (error) => console.log(error.code));
`;
const GET = `
require("node:http").get({ host: process.argv[1], timeout: 3000 }, (response) => console.log(response.statusCode))
  .on("timeout", () => process.exit(1)).on("error", (error) => console.log(error.code));
`;
const LOAD = `
const { get } = require("node:http");
let done = 0, failed = 0, last = "";
const one = () => get({ host: process.argv[1], port: 80, agent: false, timeout: 3000 }, (response) => {
  response.resume().on("end", () => { done += 1; next(); });
}).on("timeout", function () { this.destroy(new Error("timeout")); })
  .on("error", (error) => { failed += 1; last = String(error.code ?? error); next(); });
const next = () => setTimeout(one, 2);
for (let i = 0; i < 8; i++) one();
process.on("SIGTERM", () => { console.log(JSON.stringify({ done, failed, last })); process.exit(0); });
`;

let host: LabHost;
let cluster: FakeCluster;
let worker: Running;

before(async () => {
  assert.equal(labHostProblem(), undefined, "these tests need a machine that can run containers");
  host = await startLabHost({ name: "overlay" });
  const archive = join(host.folder, "hello.tar");
  await buildImage(join(repository, "examples/hello/image.yaml"), archive);
  host.start("containerd", ["containerd"]);
  await eventually(async () => (await host.run(["ctr", "version"])).exitCode === 0, { what: "containerd" });
  cluster = await startFakeCluster(host.gateway);
  worker = startWorker(archive);
});

after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await host?.stop();
});

function startWorker(...more: string[]): Running {
  const program = join(repository, "test/integration/worker-program.ts");
  const args = [process.execPath, "--disable-warning=ExperimentalWarning", program];
  return host.start("worker", [...args, cluster.url, "/var/lib/oakestra/worker", ...more]);
}

const network = (last: number) => ({
  instanceAddress: `10.30.0.${last}`,
  roundRobin: "10.30.0.1",
  closest: "10.30.0.2",
});
/** Without the check an instance would get its first connections before its server listens. */
const healthcheck = { type: "tcp", port: 80, intervalMs: 1000, timeoutMs: 500, retries: 3, startPeriodMs: 0 } as const;
const web = (instanceNumber: number, workload: Partial<DesiredInstance["workload"]> = {}) =>
  desiredInstance({
    ...{ instanceNumber, network: network(10 + instanceNumber) },
    workload: { image: IMAGE, healthcheck, ...workload },
  });
const client = desiredInstance({
  ...{ serviceId: CLIENT, jobName: "shop.prod.client.prod", workload: { image: IMAGE } },
  network: { instanceAddress: "10.30.1.10", roundRobin: "10.30.1.1", closest: "10.30.1.2" },
});

const isLive = ({ instanceId }: DesiredInstance) => cluster.instances.get(instanceId)?.live !== undefined;

async function run(...instances: DesiredInstance[]): Promise<void> {
  await cluster.want(client, ...instances);
  await eventually(() => instances.every(isLive) && isLive(client), { what: "all live", everyMs: 5 });
  await eventually(() => cluster.instances.size === instances.length + 1, { what: "no other", everyMs: 5 });
}

/** In the client's network. */
async function inClient(...command: string[]) {
  const sandbox = cluster.instances.get(client.instanceId)!.live!.sandbox;
  return await host.run(["ip", "netns", "exec", `oak-${sandbox}`, ...command], { timeoutMs: 15_000 });
}

/** The status that the client gets from the address, or its error. */
async function status(address: string): Promise<string> {
  return (await inClient(process.execPath, "-e", GET, address)).stdout.trim();
}

/** The address that the client's name server has for it, or its error. */
async function lookUp(name: string): Promise<string> {
  const conf = await host.run(["cat", "/var/lib/oakestra/worker/resolv.conf"]);
  assert.match(conf.stdout, /^nameserver 10\.18\.0\.1$/m);
  const { stdout } = await inClient(process.execPath, "-e", LOOK_UP, "10.18.0.1", name);
  return stdout.trim();
}

async function startLoad(address: string): Promise<() => Promise<{ done: number; failed: number; last: string }>> {
  const sandbox = cluster.instances.get(client.instanceId)!.live!.sandbox;
  const inSandbox = ["ip", "netns", "exec", `oak-${sandbox}`, process.execPath, "-e", LOAD, address];
  const label = `load-${Math.round(performance.now())}`;
  const load = host.start(label, inSandbox);
  await systemClock.sleep(500);
  return async () => {
    process.kill(load.pid(), "SIGTERM");
    await load.ended;
    return JSON.parse(host.log(label));
  };
}

test("an instance reaches a service of its application by every address and by name", async () => {
  await run(web(0, { ports: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] }), web(1));
  const names = {
    web: 1,
    "web.closest": 2,
    "1.web": 11,
    "any.closest.web.prod.shop.prod": 2,
    "0.rr.WEB.prod.shop.prod": 10,
  };
  for (const [name, last] of Object.entries(names)) assert.equal(await lookUp(name), `10.30.0.${last}`, name);
  assert.equal(await lookUp("nosuch"), "ENOTFOUND");
  for (const last of [1, 2, 10, 11]) assert.equal(await status(`10.30.0.${last}`), "200", `10.30.0.${last}`);
  const began = performance.now();
  assert.equal(await status("10.30.77.77"), "ECONNREFUSED");
  assert.ok(performance.now() - began < 1000, "an address that nobody has is refused quickly");
  const page = await fetch(`http://${host.address}:8080/`);
  assert.equal(page.status, 200, "the host port, from outside");
});

test("no request fails while a service grows from 3 to 6 instances and shrinks to 2", async () => {
  await run(...[0, 1, 2].map((number) => web(number)));
  const stop = await startLoad("10.30.0.1");
  await run(...[0, 1, 2, 3, 4, 5].map((number) => web(number)));
  await systemClock.sleep(500);
  await run(...[4, 5].map((number) => web(number)));
  await systemClock.sleep(500);
  const { done, failed, last } = await stop();
  assert.deepEqual([failed, last], [0, ""]);
  assert.ok(done > 300, `${done} requests`);
});

test("no request fails while the agent is killed, is away, and comes back", async () => {
  await run(web(4), web(5));
  const stop = await startLoad("10.30.0.1");
  process.kill(worker.pid(), "SIGKILL");
  await worker.ended;
  await systemClock.sleep(1000);
  const count = cluster.reports.length;
  worker = startWorker();
  await eventually(() => cluster.reports.length > count && isLive(web(4)) && isLive(web(5)), { what: "adopted" });
  await systemClock.sleep(1000);
  const { done, failed, last } = await stop();
  assert.deepEqual([failed, last], [0, ""]);
  assert.ok(done > 300, `${done} requests`);
});
