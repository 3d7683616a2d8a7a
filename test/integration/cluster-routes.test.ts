/** Routes and subnets of a cluster between a scripted root and scripted workers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Assignment, InstanceReport } from "../../src/protocol/instance.ts";
import { type InterestKey, interestIn, type ServiceRoute } from "../../src/protocol/route.ts";
import { assignment, eventually, type ScriptedWorker, TestCluster, workerInfo } from "./cluster-fixture.ts";

let addresses = 0;
const nextAddress = () => {
  addresses += 1;
  return `10.30.${1 + Math.floor(addresses / 250)}.${addresses % 250}`;
};

/** An assignment with a place in the overlay. @param of another instance of the same service */
function routed(
  change: Partial<Assignment["request"]> = {},
  of?: Assignment,
): Assignment & Required<Pick<Assignment, "network">> {
  const fresh = assignment(change);
  const network = { roundRobin: nextAddress(), closest: nextAddress(), ...of?.network, instanceAddress: nextAddress() };
  if (!of) return { ...fresh, network };
  const { serviceId, applicationId, jobName } = of;
  const instanceNumber = of.instanceNumber + 1;
  const instanceId = `${serviceId}-${instanceNumber}`;
  return { ...fresh, instanceId, serviceId, applicationId, jobName, instanceNumber, network };
}

const liveOn = (sandbox: string): NonNullable<InstanceReport["live"]> => ({
  sandbox,
  // Whatever it claims: a worker speaks for itself only.
  worker: {
    ...{ id: "f".repeat(24), address: "192.0.2.7" },
    subnets: [`10.18.0.${64 * Math.floor(Number(sandbox.split(".")[3]) / 64)}/26`],
  },
});

async function goLive(worker: ScriptedWorker, one: Assignment, sandbox: string): Promise<void> {
  await eventually("placed", () => worker.lists(one));
  await worker.reportStatus(one.instanceId, "RUNNING", { live: liveOn(sandbox) });
}

const livesOf = (table: ServiceRoute | undefined) =>
  table?.instances.map(({ number, live }) => [number, live?.sandbox]);

/** A cluster with two workers that report what a test tells them to. */
async function twoWorkers(): Promise<{ it: TestCluster; one: ScriptedWorker; two: ScriptedWorker }> {
  const it = await TestCluster.start();
  it.root.send({ type: "network", serviceRange: "10.30.0.0/16", blocks: ["10.18.0.0/22"] });
  const one = await it.join(workerInfo("one"), false);
  await eventually("the first subnet", () => one.network?.subnets[0] === "10.18.0.0/26");
  const two = await it.join(workerInfo("two"), false);
  await eventually("the second subnet", () => two.network?.subnets[0] === "10.18.0.64/26");
  return { it, one, two };
}

test("a worker learns of live instances of its own cluster, by any key, and of their end at once", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const wanted = routed({ directWorkers: ["one"] });
  const { network, serviceId } = wanted;
  it.root.answer = () => [serviceId];
  it.root.want(wanted);
  await goLive(one, wanted, "10.18.0.2");
  await two.ask(interestIn.address(network.closest), interestIn.name(wanted.jobName));
  await eventually("table", () => two.tables.has(serviceId));
  const { generation: _generation, ...table } = two.tables.get(serviceId)!;
  assert.deepEqual(table, {
    serviceId,
    applicationId: wanted.applicationId,
    jobName: wanted.jobName,
    roundRobin: network.roundRobin,
    closest: network.closest,
    instances: [{ number: 0, address: network.instanceAddress, live: { sandbox: "10.18.0.2", workerId: one.id } }],
    workers: [{ id: one.id, address: "192.0.2.7", subnets: ["10.18.0.0/26"] }],
  });
  assert.deepEqual(two.desired.size, 0);
  assert.deepEqual(one.desired.get(wanted.instanceId)?.network, network);
  await eventually("told above", () => it.root.instances.get(wanted.instanceId)?.live?.worker.id === one.id);

  await one.reportStatus(wanted.instanceId, "RUNNING");
  await eventually("out", () => livesOf(two.tables.get(serviceId))?.[0]?.[1] === undefined);
  await eventually("told above", () => it.root.instances.get(wanted.instanceId)?.live === undefined);
  await one.reportStatus(wanted.instanceId, "RUNNING", { live: liveOn("10.18.0.3") });
  await eventually("in again", () => livesOf(two.tables.get(serviceId))?.[0]?.[1] === "10.18.0.3");
});

test("a withdrawn instance is out of the tables before its worker can have stopped it", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const first = routed({ directWorkers: ["one"] });
  const second = routed({ directWorkers: ["two"] }, first);
  it.root.answer = () => [first.serviceId];
  it.root.want(first, second);
  await goLive(one, first, "10.18.0.2");
  await goLive(two, second, "10.18.0.66");
  await one.ask(interestIn.application(first.applicationId));
  await eventually("both", () => livesOf(one.tables.get(first.serviceId))?.every(([, sandbox]) => sandbox) ?? false);
  it.root.unwant(second);
  await eventually("withdrawn", () => !two.lists(second));
  // Its worker has not said a word yet; it will let connections drain for longer than this.
  await eventually("out", () => one.tables.get(first.serviceId)!.instances.length === 1, 100);
  assert.deepEqual(livesOf(one.tables.get(first.serviceId)), [[0, "10.18.0.2"]]);
});

test("an instance brings the routes of its application to its worker, which need not ask, nor its cluster wait", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  await one.askAll();
  const wanted = routed({ directWorkers: ["one"] });
  const application = interestIn.application(wanted.applicationId);
  // It has said so with the assignment; asked, it would say nothing.
  it.root.answer = undefined;
  it.root.want(wanted);
  it.root.send({
    type: "routes",
    tables: [],
    answers: [{ key: application, serviceIds: [wanted.serviceId] }],
    gone: [],
  });
  await eventually("placed", () => one.lists(wanted));
  await eventually("answered", () => one.tables.has(wanted.serviceId), 500);
  assert.deepEqual(one.answers.get(application), [wanted.serviceId]);
  await eventually("told above", () => it.root.interest.has(application));
  assert.equal(two.answers.size, 0);
  await one.drop(application);
  await eventually("withdrawn", () => !it.root.interest.has(application));
});

test("what the root offers for an instance that nobody can run is given up", async () => {
  await using it = await TestCluster.start();
  await it.join(workerInfo("one"), false);
  const wanted = routed({ cpuMillis: 1e6 });
  const application = interestIn.application(wanted.applicationId);
  it.root.interest.add(application);
  it.root.want(wanted);
  it.root.send({
    type: "routes",
    tables: [],
    answers: [{ key: application, serviceIds: [wanted.serviceId] }],
    gone: [],
  });
  await eventually("given up", () => !it.root.interest.has(application));
});

test("instances of other clusters come from the root, our own are not taken from there", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const ours = routed({ directWorkers: ["one"] });
  it.root.answer = () => [ours.serviceId];
  it.root.want(ours);
  await goLive(one, ours, "10.18.0.2");
  await two.ask(interestIn.name(ours.jobName));
  await eventually("own", () => livesOf(two.tables.get(ours.serviceId))?.length === 1);
  const far = { id: "b".repeat(24), address: "192.0.2.99", subnets: ["10.20.0.0/26"] };
  const table = {
    ...two.tables.get(ours.serviceId)!,
    generation: 5,
    instances: [
      { number: 0, address: ours.network.instanceAddress, live: { sandbox: "10.9.9.9", workerId: one.id } },
      { number: 1, address: "10.30.2.1", live: { sandbox: "10.20.0.2", workerId: far.id } },
      // Was ours until a moment ago.
      { number: 2, address: "10.30.2.2", live: { sandbox: "10.18.0.9", workerId: one.id } },
    ],
    workers: [far, { ...far, id: one.id }],
  };
  it.root.send({ type: "routes", tables: [table], answers: [], gone: [] });
  const merged = [
    [0, "10.18.0.2"],
    [1, "10.20.0.2"],
    [2, undefined],
  ];
  await eventually("merged", () => two.tables.get(ours.serviceId)?.instances.length === 3);
  assert.deepEqual(livesOf(two.tables.get(ours.serviceId)), merged);
  assert.deepEqual(
    two.tables
      .get(ours.serviceId)!
      .workers.map(({ id }) => id)
      .sort(),
    [far.id, one.id].sort(),
  );

  it.root.send({ type: "routes", tables: [{ ...table, generation: 4, instances: [] }], answers: [], gone: [] });
  it.root.send({
    type: "routes",
    tables: [{ ...table, generation: 6, roundRobin: "10.30.7.7" }],
    answers: [],
    gone: [],
  });
  await eventually("newer", () => two.tables.get(ours.serviceId)?.roundRobin === "10.30.7.7");
  assert.deepEqual(livesOf(two.tables.get(ours.serviceId)), merged, "an older generation is ignored");
});

test("without its root, and started anew, a cluster routes on: what it was told, and what it has itself", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const ours = routed({ directWorkers: ["one"] });
  const other = routed();
  const key = interestIn.address(other.network.roundRobin);
  it.root.answer = (asked) => (asked === key ? [other.serviceId] : []);
  it.root.want(ours);
  await goLive(one, ours, "10.18.0.2");
  await two.ask(key);
  await eventually("asked above", () => it.root.interest.has(key));
  const far = { id: "b".repeat(24), address: "192.0.2.99", subnets: ["10.20.0.0/26"] };
  const table: ServiceRoute = {
    serviceId: other.serviceId,
    applicationId: other.applicationId,
    jobName: other.jobName,
    generation: 5,
    roundRobin: other.network.roundRobin,
    closest: other.network.closest,
    instances: [{ number: 0, address: "10.30.2.1", live: { sandbox: "10.20.0.2", workerId: far.id } }],
    workers: [far],
  };
  it.root.send({ type: "routes", tables: [table], answers: [], gone: [] });
  await eventually("told", () => two.tables.has(other.serviceId));
  const before = two.tables.get(other.serviceId)!;

  await it.stopCluster();
  await it.root.close();
  await it.startCluster();
  await eventually("link", () => two.isConnected && one.isConnected);
  await two.askAll(key, interestIn.name(ours.jobName));
  await eventually("told again", () => two.tables.get(other.serviceId)!.generation > before.generation, 900);
  assert.deepEqual(livesOf(two.tables.get(other.serviceId)), [[0, "10.20.0.2"]]);
  await eventually("own", () => livesOf(two.tables.get(ours.serviceId))?.[0]?.[1] === "10.18.0.2", 900);

  const start = performance.now();
  const unknown = interestIn.address("10.30.9.9");
  await two.ask(unknown);
  await eventually("refused", () => two.answers.get(unknown)?.length === 0);
  const waitedMs = performance.now() - start;
  assert.ok(waitedMs > 900 && waitedMs < 2_000, `the root has its second: ${waitedMs}`);
});

test("a key that the root does not know is refused at once; one that it does not answer, after a second", async () => {
  await using it = await TestCluster.start();
  const one = await it.join(workerInfo("one"));
  const unknown = interestIn.address("10.30.9.9");
  await one.ask(unknown);
  await eventually("refused", () => one.answers.get(unknown)?.length === 0, 500);
  it.root.answer = undefined;
  const slow = interestIn.address("10.30.9.8");
  const start = performance.now();
  await one.ask(slow);
  await eventually("refused", () => one.answers.get(slow)?.length === 0);
  assert.ok(performance.now() - start > 900);
  it.root.send({ type: "routes", tables: [], answers: [{ key: slow, serviceIds: ["a".repeat(24)] }], gone: [] });
  await eventually("known after all", () => one.answers.get(slow)?.length === 1);
});

test("interest goes up once for all workers, is withdrawn with the last, and told in full to a root that comes back", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const [both, mine]: InterestKey[] = [interestIn.name("a.b.c.d"), interestIn.address("10.30.9.9")];
  await one.ask(both!, mine!);
  await two.ask(both!);
  await eventually("asked", () => it.root.interest.size === 2);
  await one.drop(both!, mine!);
  await eventually("withdrawn", () => !it.root.interest.has(mine!));
  assert.deepEqual([...it.root.interest], [both]);
  it.root.interest.clear();
  it.root.cut();
  await eventually("told anew", () => it.root.interest.has(both!), 15_000);
  await it.operate("DELETE", `/api/workers/${two.id}`);
  await eventually("the last has gone", () => it.root.interest.size === 0);
});

test("a worker that says goodbye keeps traffic only while nobody else can take it", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const three = await it.join(workerInfo("three"));
  const first = routed({ directWorkers: ["one"] });
  const second = routed({ directWorkers: ["two"] }, first);
  it.root.answer = () => [first.serviceId];
  it.root.want(first, second);
  await goLive(one, first, "10.18.0.2");
  await goLive(two, second, "10.18.0.66");
  await three.ask(interestIn.name(first.jobName));
  const lives = () => JSON.stringify(livesOf(three.tables.get(first.serviceId)));
  await eventually("both", () => lives() === '[[0,"10.18.0.2"],[1,"10.18.0.66"]]');
  await two.disconnect();
  await eventually("the other one only", () => lives() === '[[0,"10.18.0.2"],[1,null]]');
  await eventually("told above", () => it.root.instances.get(second.instanceId)?.live === undefined);
  await one.disconnect();
  await eventually("rather both than none", () => lives() === '[[0,"10.18.0.2"],[1,"10.18.0.66"]]');
  await eventually("told above", () => it.root.instances.get(second.instanceId)?.live !== undefined);
});

test("workers get subnets out of the cluster's blocks, more as they fill up, the same after a restart", async () => {
  await using it = await TestCluster.start();
  const small = { memoryBytes: 0, cpuMillis: 0 };
  const one = await it.join(workerInfo("one"));
  it.root.send({ type: "network", serviceRange: "10.30.0.0/16", blocks: ["10.18.4.0/22"] });
  await eventually("first", () => one.network !== undefined);
  assert.deepEqual(one.network, { serviceRange: "10.30.0.0/16", subnets: ["10.18.4.0/26"] });
  await eventually("told above", () =>
    it.root.messages.some((message) => message.type === "report" && message.subnetsFree === 15),
  );
  it.root.want(...Array.from({ length: 60 }, () => routed(small)));
  await eventually("second", () => one.network?.subnets.length === 2);
  await one.report({ addressesFree: 7 });
  await eventually("third", () => one.network?.subnets.length === 3);
  const two = await it.join(workerInfo("two"));
  await eventually("of its own", () => two.network?.subnets[0] === "10.18.4.192/26");

  await it.stopCluster();
  [one.network, two.network] = [undefined, undefined];
  await it.startCluster();
  await eventually("the same", () => one.network !== undefined && two.network !== undefined);
  assert.deepEqual(two.network, { serviceRange: "10.30.0.0/16", subnets: ["10.18.4.192/26"] });
  await eventually("with both", () => one.network!.subnets.length >= 2);
  assert.deepEqual(one.network!.subnets.slice(0, 3), ["10.18.4.0/26", "10.18.4.64/26", "10.18.4.128/26"]);
  await it.operate("DELETE", `/api/workers/${two.id}`);
  await eventually("taken back", () => two.network === undefined || !two.isConnected);
});

test("a worker that claims a place which is not its own gets no traffic, and the operator sees why", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const wanted = routed({ directWorkers: ["one"] });
  const { serviceId, instanceId } = wanted;
  it.root.answer = () => [serviceId];
  it.root.want(wanted);
  await goLive(one, wanted, "10.18.0.2");
  await two.ask(interestIn.name(wanted.jobName));
  const sandbox = () => livesOf(two.tables.get(serviceId))?.[0]?.[1];
  await eventually("live", () => sandbox() === "10.18.0.2");
  const { worker } = liveOn("10.18.0.2");
  const lies = [
    { live: { sandbox: "10.18.0.66", worker }, said: 'sandbox address "10.18.0.66" refused: ' },
    { live: liveOn("10.18.0.66"), said: 'subnet "10.18.0.64/26" refused: ' },
    {
      live: { sandbox: "10.18.0.2", worker: { ...worker, address: "10.30.0.9" } },
      said: 'address "10.30.0.9" refused: ',
    },
  ];
  for (const { live, said } of lies) {
    await one.reportStatus(instanceId, "RUNNING", { live });
    await eventually("out", () => sandbox() === undefined);
    await eventually("told above", () => it.root.instances.get(instanceId)?.live === undefined);
    const { refused = "" } = (await it.workersBy()).one!;
    assert.ok(refused.startsWith(said), refused);
    await one.reportStatus(instanceId, "RUNNING", { live: liveOn("10.18.0.2") });
    await eventually("believed again", () => sandbox() === "10.18.0.2");
    assert.equal((await it.workersBy()).one!.refused, undefined);
  }
});

test("a worker that is away for a moment keeps its traffic, although another is connected from the same address", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const wanted = routed({ directWorkers: ["one"] });
  const { serviceId, instanceId } = wanted;
  it.root.answer = () => [serviceId];
  it.root.want(wanted);
  await eventually("placed", () => one.lists(wanted));
  const plain = liveOn("10.18.0.2");
  const live = { ...plain, worker: { ...plain.worker, address: "127.0.0.1" } };
  await one.reportStatus(instanceId, "RUNNING", { live });
  await two.ask(interestIn.name(wanted.jobName));
  const sandbox = () => livesOf(two.tables.get(serviceId))?.[0]?.[1];
  await eventually("live", () => sandbox() === "10.18.0.2");
  await one.disconnect();
  // Another instance of the service makes the table anew.
  const other = routed({ directWorkers: ["two"] }, wanted);
  it.root.want(wanted, other);
  await eventually("made anew", () => two.tables.get(serviceId)!.instances.length === 2);
  assert.equal(sandbox(), "10.18.0.2");
  assert.notEqual(it.root.instances.get(instanceId)?.live, undefined);
});

test("an assignment that is withdrawn before its worker looks at it leaves no interest behind", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  await one.askAll();
  const brief = routed({ directWorkers: ["one"] });
  const asked = routed({ directWorkers: ["one"] });
  const sibling = routed({ directWorkers: ["two"] }, brief);
  const interests = [brief, asked].map(({ applicationId }) => interestIn.application(applicationId));
  it.root.answer = (key) => [key === interests[0] ? brief.serviceId : asked.serviceId];
  it.root.want(brief, asked, sibling);
  await eventually("the interest of both", () => interests.every((key) => it.root.interest.has(key)));
  await eventually("answered", () => one.tables.has(brief.serviceId));
  await one.ask(interests[1]!);
  it.root.unwant(brief, asked);
  await eventually("withdrawn", () => !it.root.interest.has(interests[0]!));
  assert.ok(it.root.interest.has(interests[1]!), "what the worker has asked for itself it gives up itself");
  const { generation } = one.tables.get(brief.serviceId)!;
  await goLive(two, sibling, "10.18.0.66");
  await two.ask(interestIn.name(sibling.jobName));
  await eventually("told to who asks", () => two.tables.get(brief.serviceId)?.instances[0]?.live !== undefined);
  assert.equal(one.tables.get(brief.serviceId)!.generation, generation, "and to nobody else");
});

test("of an instance on standby the root says where its traffic goes, be it a worker of ours; in charge, the cluster does", async () => {
  const { it, one, two } = await twoWorkers();
  await using _ = it;
  const wanted = routed({ directWorkers: ["one"] });
  const { serviceId, applicationId, jobName, instanceId, network } = wanted;
  const { instanceAddress: address, roundRobin, closest } = network;
  let generation = 0;
  const rootSays = (workerId: string, sandbox: string, subnet: string) => {
    const instances = [{ number: 0, address, live: { sandbox, workerId } }];
    const workers = [{ id: workerId, address: "192.0.2.9", subnets: [subnet] }];
    generation += 1;
    const table = { serviceId, applicationId, jobName, generation, roundRobin, closest, instances, workers };
    it.root.send({ type: "routes", tables: [table], answers: [], gone: [] });
  };
  const far = ["e".repeat(24), "10.20.0.2", "10.20.0.0/26"] as const;
  const isAt = (sandbox: string) => livesOf(two.tables.get(serviceId))?.[0]?.[1] === sandbox;
  it.root.answer = () => [serviceId];
  it.root.want({ ...wanted, standby: true });
  await goLive(one, wanted, "10.18.0.2");
  assert.equal(one.desired.get(instanceId)?.standby, true);
  await eventually("the root is told that it could", () => it.root.instances.get(instanceId)?.live !== undefined);
  await two.ask(interestIn.name(jobName));
  await eventually("an answer", () => two.answers.has(interestIn.name(jobName)));
  assert.equal(two.tables.has(serviceId), false, "what only the root knows is not guessed");
  rootSays(...far);
  await eventually("the root's word counts", () => isAt("10.20.0.2"));
  rootSays(one.id, "10.18.0.2", "10.18.0.0/26");
  await eventually("also that it is here", () => isAt("10.18.0.2"));
  rootSays(...far);
  await eventually("there again", () => isAt("10.20.0.2"));
  it.root.want(wanted);
  await eventually("in charge", () => one.desired.get(instanceId)?.standby === undefined);
  await eventually("its own word counts", () => isAt("10.18.0.2"));
  it.root.want({ ...wanted, standby: true });
  await eventually("on standby again", () => isAt("10.20.0.2"));
  assert.deepEqual(
    two.tables.get(serviceId)?.workers.map(({ id }) => id),
    [far[0]],
  );
});
