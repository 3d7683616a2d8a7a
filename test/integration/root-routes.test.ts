/** Routes and address blocks from the root to clusters: asked for, pushed at each change, told anew at reconnect. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { InstanceReport } from "../../src/protocol/instance.ts";
import { type InterestKey, interestIn, type ServiceRoute } from "../../src/protocol/route.ts";
import {
  deploy,
  eventually,
  joined,
  type Root,
  reportOf,
  room,
  ScriptedCluster,
  startRoot,
  withRoot,
} from "./root-fixture.ts";

const worker = { id: "a".repeat(24), address: "192.0.2.7", subnets: ["10.18.0.0/26"] };
const live: InstanceReport["live"] = { sandbox: "10.18.0.2", worker };

const ask = (cluster: ScriptedCluster, add: InterestKey[], full = true) =>
  cluster.send({ type: "interest", full, add, remove: [] });

/** A service with one instance that takes traffic on cluster "edge". */
async function running(root: Root) {
  const edge = await joined(root, "edge");
  const { service, instance } = await deploy(root);
  const [assignment] = (await edge.next("desired")).assignments;
  edge.report({ instances: [reportOf(assignment!, "RUNNING", { live })] });
  return { edge, service, instance, assignment: assignment! };
}

/** The next table that has been sent. */
async function nextTable(cluster: ScriptedCluster): Promise<ServiceRoute> {
  for (;;) {
    const { tables } = await cluster.next("routes");
    if (tables[0]) return tables[0];
  }
}

test("an assignment brings its addresses along, and the service's table says where its instance is", () =>
  withRoot(async (root) => {
    const { edge, service, instance, assignment } = await running(root);
    assert.deepEqual(assignment.network, {
      instanceAddress: instance.address,
      roundRobin: service.roundRobin,
      closest: service.closest,
    });
    await eventually("live", async () => (await root.store.instances())[0]?.report?.live);
    const other = await joined(root, "other");
    const keys = [
      interestIn.address(service.roundRobin),
      interestIn.address(instance.address),
      interestIn.name(service.jobName),
      interestIn.application(service.applicationId),
      interestIn.address("10.30.9.9"),
    ];
    ask(other, keys);
    const { tables, answers, gone } = await other.next("routes");
    assert.deepEqual(
      answers,
      keys.map((key, index) => ({ key, serviceIds: index < 4 ? [service.id] : [] })),
    );
    assert.deepEqual(gone, []);
    const { generation, ...table } = tables[0]!;
    assert.ok(generation > 2 ** 30);
    assert.deepEqual(table, {
      serviceId: service.id,
      applicationId: service.applicationId,
      jobName: service.jobName,
      roundRobin: service.roundRobin,
      closest: service.closest,
      instances: [{ number: 0, address: instance.address, live: { sandbox: "10.18.0.2", workerId: worker.id } }],
      workers: [worker],
    });
    assert.equal(edge.received.filter(({ type }) => type === "routes").length, 0, "only whoever asked is told");
  }));

test("whoever gets an instance is told the routes of its application unasked, and nothing more once it has withdrawn", () =>
  withRoot(async (root) => {
    const edge = await joined(root, "edge");
    const known = interestIn.name("no.such.service.here");
    ask(edge, [known]);
    assert.deepEqual((await edge.next("routes")).answers, [{ key: known, serviceIds: [] }]);
    const { service, instance } = await deploy(root);
    const application = interestIn.application(service.applicationId);
    await edge.next("desired");
    const { answers, tables } = await edge.next("routes");
    assert.deepEqual(answers, [{ key: application, serviceIds: [service.id] }]);
    assert.deepEqual(
      tables.map(({ instances }) => instances.map(({ address }) => address)),
      [[instance.address]],
    );
    edge.send({ type: "interest", full: false, add: [], remove: [application] });
    for (const other of [interestIn.name("nor.this.one.here"), interestIn.name("nor.that.one.here")]) {
      ask(edge, [other], false);
      assert.deepEqual(await edge.next("routes"), {
        ...{ type: "routes", tables: [], gone: [] },
        answers: [{ key: other, serviceIds: [] }],
      });
      await root.store.removeInstance(instance.id);
      root.changes.notify([service.id]);
    }
  }));

test("changes are pushed: a live instance, its end, its removal, the removal of the service", () =>
  withRoot(async (root) => {
    const { edge, service, instance, assignment } = await running(root);
    const other = await joined(root, "other");
    ask(other, [interestIn.address(service.closest)]);
    let table = await nextTable(other);
    if (!table.instances[0]?.live) table = await nextTable(other);
    edge.report({ instances: [reportOf(assignment, "RUNNING", { cpuPercent: 5, live })] });
    edge.report({ instances: [reportOf(assignment, "DEAD")] });
    const dead = await nextTable(other);
    assert.deepEqual(
      [dead.instances[0]?.live, dead.workers, dead.generation > table.generation],
      [undefined, [], true],
    );
    await root.store.removeInstance(instance.id);
    root.orchestration.trigger();
    root.changes.notify([service.id]);
    assert.deepEqual((await nextTable(other)).instances, []);
    await root.store.removeService(service.id);
    root.changes.notify([service.id]);
    const { answers } = await other.next("routes");
    assert.deepEqual(answers, [{ key: interestIn.address(service.closest), serviceIds: [] }]);
  }));

test("a deleted instance leaves the tables before, or as, its withdrawal goes down", () =>
  withRoot(async (root) => {
    const { edge, service, instance } = await running(root);
    ask(edge, [interestIn.application(service.applicationId)]);
    await eventually("live", () =>
      edge.received.some((one) => one.type === "routes" && one.tables[0]?.instances[0]?.live) ? true : undefined,
    );
    edge.received.length = 0;
    await root.store.removeInstance(instance.id);
    root.orchestration.trigger();
    root.changes.notify([service.id]);
    await eventually("both", () => (edge.received.length >= 2 ? true : undefined));
    assert.deepEqual(edge.received.map(({ type }) => type).toSorted(), ["desired", "routes"]);
  }));

test("what comes to be known under a key is told, a service in an application as well", () =>
  withRoot(async (root) => {
    const edge = await joined(root, "edge", 0);
    const { service } = await deploy(root);
    const wanted = "10.30.77.7";
    ask(edge, [interestIn.application(service.applicationId), interestIn.address(wanted)]);
    assert.deepEqual((await edge.next("routes")).answers[1]?.serviceIds, []);
    const [added] = await root.store.addServices(service.applicationId, [
      {
        microservice_name: "db",
        microservice_namespace: "prod",
        virtualization: "docker",
        code: "busybox",
        addresses: { rr_ip: wanted },
      },
    ]);
    root.changes.notify([added!.id]);
    const { answers, tables } = await edge.next("routes");
    assert.deepEqual(Object.fromEntries(answers.map(({ key, serviceIds }) => [key, serviceIds])), {
      [interestIn.application(service.applicationId)]: [service.id, added!.id],
      [interestIn.address(wanted)]: [added!.id],
    });
    assert.deepEqual(
      tables.map(({ jobName }) => jobName),
      ["web.prod.db.prod"],
    );
  }));

test("whoever withdraws its interest, or its link, hears no more; who comes back is told everything", () =>
  withRoot(async (root) => {
    const { edge, service, assignment } = await running(root);
    const key = interestIn.name(service.jobName);
    ask(edge, [key]);
    await nextTable(edge);
    edge.send({ type: "interest", full: false, add: [], remove: [key] });
    edge.report({ instances: [reportOf(assignment, "DEAD")] });
    await eventually("dead", async () => ((await root.store.instances())[0]?.status === "DEAD" ? true : undefined));
    edge.report({ instances: [reportOf(assignment, "RUNNING", { live })] });
    edge.close();
    const again = new ScriptedCluster(root.url, edge.key);
    await again.hello();
    ask(again, [key]);
    const table = await nextTable(again);
    assert.equal(table.serviceId, service.id);
    const late = edge.received.filter(
      (one) => one.type === "routes" && one.tables.some(({ instances }) => !instances[0]?.live),
    );
    assert.ok(late.length <= 1, "at most the first table, before the instance was live");
  }));

test("generations grow across a restart of the root", async () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-root-"));
  try {
    let root = await startRoot(folder);
    const { edge, service } = await running(root);
    ask(edge, [interestIn.name(service.jobName)]);
    const before = await nextTable(edge);
    await root.stop();
    root = await startRoot(folder);
    const again = new ScriptedCluster(root.url, edge.key);
    await again.hello();
    ask(again, [interestIn.name(service.jobName)]);
    assert.ok((await nextTable(again)).generation > before.generation);
    again.close();
    await root.stop();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a cluster learns the service range at once, and gets another block whenever it runs short", () =>
  withRoot(async (root) => {
    const edge = await joined(root, "edge");
    const first = { type: "network", serviceRange: "10.30.0.0/16", blocks: [], key: "key" };
    assert.deepEqual(await edge.next("network"), first);
    edge.report({ subnetsFree: 0 });
    assert.deepEqual((await edge.next("network")).blocks, ["10.18.0.0/22"]);
    edge.report({ subnetsFree: 16 });
    edge.report({ subnetsFree: 3 });
    assert.deepEqual((await edge.next("network")).blocks, ["10.18.0.0/22", "10.18.4.0/22"]);
    const other = await joined(root, "other");
    other.report({ subnetsFree: 0, aggregate: room(1) });
    await other.next("network");
    assert.deepEqual((await other.next("network")).blocks, ["10.18.8.0/22"]);
  }));

test("a wide interest comes back in parts that a link can carry, answers before their tables", () =>
  withRoot(async (root) => {
    const edge = await joined(root, "edge", 0);
    const [app] = await root.store.addApplications("ann", [
      {
        application_name: "wide",
        application_namespace: "prod",
        microservices: Array.from({ length: 1500 }, (_, index) => ({
          microservice_name: `s${index}`,
          microservice_namespace: "prod",
          virtualization: "docker",
          code: "busybox",
        })),
      },
    ]);
    ask(edge, [interestIn.application(app!.id)]);
    const tables = new Set<string>();
    let parts = 0;
    while (tables.size < 1500) {
      const part = await edge.next("routes");
      if (parts === 0) assert.equal(part.answers[0]?.serviceIds.length, 1500);
      parts += 1;
      for (const { serviceId } of part.tables) tables.add(serviceId);
    }
    assert.ok(parts >= 2);
  }));
