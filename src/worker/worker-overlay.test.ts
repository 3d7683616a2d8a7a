/** The worker's part in the overlay, against the fakes of its ports and a real MQTT broker. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../base/clock.ts";
import { topics } from "../protocol/mqtt.ts";
import { type InterestKey, interestIn, type ServiceRoute } from "../protocol/route.ts";
import { desiredInstance, SERVICE } from "./builders.fake.ts";
import { type FakeCluster, startFakeCluster, WORKER_ID } from "./cluster.fake.ts";
import { eventually, startMachine } from "./machine.fake.ts";
import { serviceRoute } from "./routes/builders.fake.ts";

const APPLICATION = "5f0c1a2b3c4d5e6f70819200";
const addressOf = (number: number) => `10.30.0.${10 + number}`;
const network = (number: number) => ({
  network: { instanceAddress: addressOf(number), roundRobin: "10.30.0.1", closest: "10.30.0.2" },
});
const web = (instanceNumber = 0, change: Parameters<typeof desiredInstance>[0] = {}) =>
  desiredInstance({ instanceNumber, ...network(instanceNumber), ...change });
const id = web().instanceId;

/** The service that the instances above belong to, as the cluster tells it. */
function table(numbers: readonly number[], change: Partial<ServiceRoute> = {}): ServiceRoute {
  return {
    ...{ serviceId: SERVICE, applicationId: APPLICATION, jobName: "shop.prod.web.prod", generation: 1 },
    ...{ roundRobin: "10.30.0.1", closest: "10.30.0.2", workers: [] },
    instances: numbers.map((number) => ({ number, address: addressOf(number) })),
    ...change,
  };
}

function hasAsked(cluster: FakeCluster, key: InterestKey): boolean {
  return cluster.interests.some(({ add }) => add.includes(key));
}

test("a worker waits for its subnet with a reason, gets another one, and tells how many addresses it has left", async () => {
  await using cluster = await startFakeCluster();
  await cluster.giveNetwork();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web());
  const detail = () => cluster.instances.get(id)?.detail;
  await eventually(() => detail() === "waiting for the cluster to give this worker a subnet", "the reason");
  await cluster.giveNetwork("10.18.0.64/26");
  await eventually(() => cluster.instances.get(id)?.status === "RUNNING", "RUNNING");
  assert.equal(cluster.instances.get(id)?.live?.sandbox, machine.network.list()[0]?.address);
  assert.deepEqual(cluster.instances.get(id)?.live?.worker.subnets, ["10.18.0.64/26"]);
  assert.equal(cluster.reports.at(-1)?.addressesFree, 60);
  assert.equal(machine.network.identities.get(id), addressOf(0));
  assert.deepEqual(machine.network.settings?.guardedPorts?.length, 3);
  await cluster.giveNetwork("10.18.0.64/26", "10.18.0.128/26");
  await eventually(() => cluster.instances.get(id)?.live?.worker.subnets.length === 2, "the new subnet is told");
});

test("a subnet set by hand goes before the cluster's", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  await using worker = machine.start(cluster.url, { subnet: "10.20.0.0/28" });
  await worker.ready;
  await cluster.want(web());
  await eventually(() => cluster.instances.get(id)?.live !== undefined, "live");
  assert.match(cluster.instances.get(id)!.live!.sandbox, /^10\.20\.0\./);
  assert.equal(cluster.reports.at(-1)?.addressesFree, undefined, "no wish for more");
});

test("routes of the application are there before an instance starts, own instances in them at once", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  cluster.answers = false;
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.want(web());
  const key = interestIn.application(APPLICATION);
  await eventually(() => hasAsked(cluster, key), "interest in the application");
  await systemClock.sleep(100);
  assert.deepEqual(machine.runtime.started, [], "it waits");
  await cluster.tell({ answers: [{ key, serviceIds: [SERVICE] }], tables: [table([0])] });
  await eventually(() => machine.runtime.started.length === 1, "started", 500);
  const routes = () => machine.network.routes.services.find((service) => service.id === SERVICE);
  await eventually(() => routes()?.instances[0]?.sandbox !== undefined, "itself, without a word of the cluster");
  assert.equal(routes()?.closestTarget, machine.network.list()[0]?.address);
  machine.runtime.exit("shop.prod.web.prod.instance.0", 1);
  await eventually(() => routes()?.instances[0]?.sandbox === undefined, "out");
  await eventually(() => cluster.instances.get(id)?.live === undefined, "reported");
});

test("an instance that ends loses its traffic first, and is stopped when what was on its way has arrived", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  cluster.services.set(SERVICE, table([0, 1]));
  await using worker = machine.start(cluster.url);
  await worker.ready;
  const ports = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" as const }];
  await cluster.want(web(0, { workload: { ports } }), web(1));
  await eventually(() => cluster.instances.get(id)?.live !== undefined, "live");
  const before = machine.network.routes;
  const seen: { event: string; at: number }[] = [];
  const note = (event: string) => {
    if (!seen.some((one) => one.event === event)) seen.push({ event, at: performance.now() });
  };
  const { stop } = machine.runtime;
  machine.runtime.stop = async (...args) => {
    note("stop");
    await stop.apply(machine.runtime, args);
  };
  const watch = setInterval(() => {
    const routed = machine.network.routes.services[0]?.instances.find(({ address }) => address === addressOf(0));
    if (machine.network.routes !== before && routed?.sandbox === undefined) note("no route");
    if (cluster.instances.get(id)?.live === undefined) note("reported");
    if (machine.network.holderOf("8080/tcp") === undefined) note("no port");
  }, 1);
  await cluster.want(web(1));
  await eventually(() => cluster.removed.includes(id), "removed");
  clearInterval(watch);
  assert.deepEqual(seen.map(({ event }) => event).toSorted(), ["no port", "no route", "reported", "stop"]);
  const at = (event: string) => seen.find((one) => one.event === event)!.at;
  for (const event of ["no route", "no port", "reported"]) {
    assert.ok(at("stop") - at(event) > 150, `${event} ${Math.round(at("stop") - at(event))} ms before the stop`);
  }
  assert.deepEqual([...machine.network.identities.keys()], [web(1).instanceId]);
});

test("everything else goes on while a start waits for another worker to take packets", async (t) => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  const other = serviceRoute(7, { applicationId: APPLICATION });
  cluster.services.set(other.serviceId, other);
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await cluster.giveNetwork("10.18.0.64/26");
  const turns: number[] = [];
  const timer = setInterval(() => turns.push(performance.now()), 5);
  t.after(() => clearInterval(timer));
  const began = performance.now();
  await cluster.want(web());
  await eventually(() => machine.runtime.started.length === 1, "started without its answer");
  assert.ok(performance.now() - began > 400, "it waited");
  const longest = Math.max(...turns.slice(1).map((at, index) => at - turns[index]!));
  assert.ok(longest < 250, `nothing else had a turn for ${Math.round(longest)} ms`);
});

test("a first packet to another service is resolved, one to nobody refused, and an unused interest goes", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  const other = serviceRoute(7);
  cluster.services.set(other.serviceId, other);
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await eventually(() => machine.network.started && machine.network.settings !== undefined, "the network");
  machine.network.miss(other.roundRobin);
  await eventually(() => machine.network.routes.services.some((service) => service.id === other.serviceId), "routes");
  const peer = machine.network.routes.peers[0];
  assert.deepEqual([peer?.id, peer?.address, peer?.path], ["w1", "192.0.2.1", "vxlan"]);
  assert.deepEqual(machine.network.refused, []);
  machine.network.miss("10.30.99.99");
  await eventually(() => machine.network.refused.includes("10.30.99.99"), "refused");
  machine.network.miss("10.30.99.99");
  await eventually(() => machine.network.refused.length === 2, "refused again, without a question");
  const asked = cluster.interests.filter(({ add }) => add.includes(interestIn.address("10.30.99.99")));
  assert.equal(asked.length, 1);
  await cluster.tell({ gone: [other.serviceId] });
  await eventually(() => machine.network.routes.services.length === 0, "gone");
});

test("the next agent has addresses, routes and identities before the network starts, without a link", async () => {
  await using machine = await startMachine();
  const other = serviceRoute(7, { applicationId: APPLICATION });
  let url = "";
  {
    await using cluster = await startFakeCluster();
    url = cluster.url;
    cluster.services.set(SERVICE, table([0]));
    cluster.services.set(other.serviceId, other);
    await using worker = machine.start(cluster.url);
    await worker.ready;
    await cluster.want(web());
    await eventually(() => cluster.instances.get(id)?.live !== undefined, "live");
    const { sandbox } = cluster.instances.get(id)!.live!;
    const holds = (name: string, text: string) => {
      const path = join(machine.stateDir, name);
      return existsSync(path) && readFileSync(path, "utf8").includes(text);
    };
    await eventually(() => holds("routes.json", sandbox) && holds("routes.json", other.serviceId), "routes on disk");
    await eventually(() => holds("network.json", "10.18.0.0/26") && holds("desired.json", id), "the rest on disk");
  }
  const state = () => {
    const { settings, routes, identities } = machine.network;
    const services = routes.services.toSorted((one, other) => (one.id < other.id ? -1 : 1));
    return structuredClone({ settings, services, peers: routes.peers, identities });
  };
  const known = state();
  machine.network.settings = undefined;
  machine.network.routes = { services: [], peers: [] };
  machine.network.identities.clear();
  const { start } = machine.network;
  let atStart: ReturnType<typeof state> | undefined;
  let changes = 0;
  machine.network.start = async (signal) => {
    atStart = state();
    const { setRoutes } = machine.network;
    machine.network.setRoutes = async (next) => {
      changes += 1;
      await setRoutes.call(machine.network, next);
    };
    await start.call(machine.network, signal);
  };
  await using _worker = machine.start(url);
  await eventually(() => atStart !== undefined, "start");
  assert.deepEqual(atStart, known);
  await systemClock.sleep(300);
  assert.equal(changes, 0, "adopting what runs changes no route");
});

test("asked by its cluster, a worker measures its routes and tells what came of each", async () => {
  await using cluster = await startFakeCluster();
  await using machine = await startMachine();
  const { instances, workers, ...other } = serviceRoute(7);
  // A subnet whose first address is this machine's, where nobody takes bodies.
  const [first, second] = [instances[0]!, instances[1]!];
  cluster.services.set(other.serviceId, {
    ...other,
    workers: [{ ...workers[0]!, subnets: ["127.79.0.0/26"] }],
    instances: [
      { ...first, live: { ...first.live!, sandbox: "127.79.0.2" } },
      { number: second.number, address: second.address },
    ],
  });
  await using worker = machine.start(cluster.url);
  await worker.ready;
  await eventually(() => machine.network.started && machine.network.settings !== undefined, "the network");
  machine.network.miss(other.roundRobin);
  const routed = () => machine.network.routes.services[0]?.instances.some(({ sandbox }) => sandbox !== undefined);
  await eventually(() => routed() === true, "a route to the other worker");
  await cluster.publish(topics.check(WORKER_ID), '{"question":"q","withinMs":60000}', false);
  await eventually(() => cluster.checked.length === 1, "an answer");
  const { question, result } = cluster.checked[0]!;
  assert.ok(question === "q" && result.outcome === "checked", JSON.stringify(result));
  const [route] = result.routes;
  const name = (number: number) => ({ job_name: other.jobName, number });
  assert.deepEqual([route?.worker_id, route?.path, route?.instances], ["w1", "vxlan", [name(0)]]);
  assert.match(route?.error ?? "", /ECONNREFUSED/);
  assert.deepEqual(result.refused, [name(1)]);
});
