/** What every root store must keep to; runs on each implementation. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { hasCode } from "../../src/base/errors.ts";
import { openDatabase, storageError, transaction } from "../../src/base/sqlite.ts";
import { aggregate } from "../../src/hierarchy/capacity.ts";
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../src/protocol/descriptor.ts";
import type { InstanceReport } from "../../src/protocol/instance.ts";
import type { User } from "../../src/root/model.ts";
import type { MoveStep } from "../../src/root/moves.ts";
import type { RootStore } from "../../src/root/store/root-store.ts";
import { SqliteRootStore } from "../../src/root/store/sqlite-root-store.ts";

const NOW = 1_700_000_000_000;

const IMPLEMENTATIONS: Readonly<Record<string, (folder: string) => RootStore>> = {
  SQLite: (folder) => new SqliteRootStore(join(folder, "root.db")),
};

for (const [name, open] of Object.entries(IMPLEMENTATIONS)) {
  describe(`root store on ${name}`, () => {
    const withStore = async (use: (store: RootStore, reopen: () => RootStore) => Promise<void>) => {
      const folder = mkdtempSync(join(tmpdir(), "oak-root-store-"));
      let store = open(folder);
      try {
        await use(store, () => {
          store.close();
          store = open(folder);
          return store;
        });
      } finally {
        store.close();
        rmSync(folder, { recursive: true });
      }
    };

    test("a secret is made once and survives a restart", () =>
      withStore(async (store, reopen) => {
        assert.equal(await store.secret("signing", () => "one"), "one");
        assert.equal(await store.secret("signing", () => "two"), "one");
        assert.equal(await reopen().secret("signing", () => "three"), "one");
      }));

    test("users are kept, changed, refused twice, and stay while they own applications", () =>
      withStore(async (store) => {
        await store.addUser(user("ann"));
        await assert.rejects(store.addUser(user("ann")), code("NAME_TAKEN"));
        const changed = await store.updateUser("ann", { roles: ["Admin"], tokenEpoch: 1 });
        assert.deepEqual(changed, { ...user("ann"), roles: ["Admin"], tokenEpoch: 1 });
        assert.deepEqual(await store.user("ann"), changed);
        assert.equal(await store.user("bob"), undefined);
        await assert.rejects(store.updateUser("bob", {}), code("NOT_FOUND"));
        const [application] = await store.addApplications("ann", [app("shop")]);
        await assert.rejects(store.removeUser("ann"), code("IN_USE"));
        await store.removeApplication(application!.id);
        await store.removeUser("ann");
        assert.deepEqual(await store.users(), []);
        await assert.rejects(store.removeUser("ann"), code("NOT_FOUND"));
      }));

    test("applications come with their services, all or none", () =>
      withStore(async (store) => {
        const [shop] = await store.addApplications("ann", [{ ...app("shop", "front", "back"), color: "red" }]);
        assert.deepEqual(shop!.extra, { color: "red" });
        const services = await store.services({ applicationId: shop!.id });
        assert.deepEqual(
          services.map(({ jobName }) => jobName),
          ["shop.prod.front.prod", "shop.prod.back.prod"],
        );
        await assert.rejects(store.addApplications("bob", [app("new"), app("shop")]), (error) => {
          assert.ok(hasCode(error, "NAME_TAKEN"));
          const { holder } = (error as { details: { holder: Record<string, unknown> } }).details;
          assert.deepEqual(holder, { application: "shop.prod", applicationId: shop!.id, owner: "ann" });
          return true;
        });
        await assert.rejects(store.addApplications("bob", [app("twice", "a", "a")]), code("NAME_TAKEN"));
        assert.deepEqual(
          (await store.applications()).map(({ name }) => name),
          ["shop"],
        );
        assert.deepEqual(await store.applications("bob"), []);
        assert.equal((await store.services({ owner: "ann" })).length, 2);
      }));

    test("a renamed application renames its jobs, but not under running instances", () =>
      withStore(async (store) => {
        const [shop, other] = await store.addApplications("ann", [app("shop", "web"), app("other")]);
        const [web] = await store.services({ applicationId: shop!.id });
        await store.updateApplication(shop!.id, { name: "store", description: "new" });
        assert.equal((await store.service(web!.id))?.jobName, "store.prod.web.prod");
        await assert.rejects(store.updateApplication(other!.id, { name: "store" }), code("NAME_TAKEN"));
        const instance = await store.addInstance(web!.id, NOW);
        await assert.rejects(store.updateApplication(shop!.id, { name: "shop" }), code("IN_USE"));
        await store.updateApplication(shop!.id, { name: "store", description: "same name is no rename" });
        await assert.rejects(store.updateService(web!.id, service("renamed")), code("IN_USE"));
        await store.removeInstance(instance.id);
        assert.equal((await store.updateService(web!.id, service("renamed"))).jobName, "store.prod.renamed.prod");
        await assert.rejects(store.updateApplication("0".repeat(24), {}), code("NOT_FOUND"));
      }));

    test("removing an application takes its services and instances along", () =>
      withStore(async (store) => {
        const [shop] = await store.addApplications("ann", [app("shop", "web", "db")]);
        const services = await store.services();
        await store.addInstance(services[0]!.id, NOW);
        assert.deepEqual(
          await store.removeApplication(shop!.id),
          services.map(({ id }) => id),
        );
        assert.deepEqual(await store.instances(), []);
        assert.deepEqual(await store.services(), []);
        await assert.rejects(store.removeApplication(shop!.id), code("NOT_FOUND"));
        await assert.rejects(store.addServices(shop!.id, [service("web")]), code("NOT_FOUND"));
        await assert.rejects(store.removeService(services[0]!.id), code("NOT_FOUND"));
      }));

    test("instance numbers are never used twice", () =>
      withStore(async (store, reopen) => {
        const [web] = await addService(store);
        const first = await store.addInstance(web!.id, NOW);
        assert.deepEqual([first.number, first.status, first.generation, first.id], [0, "REQUESTED", 0, `${web!.id}-0`]);
        assert.equal(await store.removeInstance(first.id), true);
        assert.equal(await store.removeInstance(first.id), false);
        const again = reopen();
        assert.equal((await again.addInstance(web!.id, NOW)).number, 1);
        await assert.rejects(again.addInstance("f".repeat(24), NOW), code("NOT_FOUND"));
      }));

    test("placing raises the generation, keeps the descriptor of that moment, and forgets the old report", () =>
      withStore(async (store) => {
        const { instance, cluster, web } = await placedInstance(store);
        assert.equal(instance.generation, 1);
        assert.equal(instance.clusterId, cluster.id);
        await store.updateService(web.id, { ...service("web"), code: "newer" });
        assert.equal((await only(store)).descriptor?.code, "busybox");
        await store.reportInstances(cluster.id, [report(instance.id, 1, "RUNNING")]);
        await store.placeInstances(
          [{ id: instance.id, clusterId: undefined, status: "REQUESTED", detail: "why" }],
          NOW + 5,
        );
        const back = await only(store);
        assert.deepEqual(
          [back.clusterId, back.generation, back.status, back.since, back.report, back.descriptor],
          [undefined, 1, "REQUESTED", NOW + 5, undefined, undefined],
        );
        await place(store, instance.id, cluster.id);
        assert.deepEqual([(await only(store)).generation, (await only(store)).descriptor?.code], [2, "newer"]);
      }));

    test("a move to another cluster is kept in each of its parts, and each cluster speaks for its own", () =>
      withStore(async (store, reopen) => {
        const { instance, cluster } = await placedInstance(store);
        const other = await secondCluster(store);
        const { id } = instance;
        const move = (step: Omit<MoveStep, "id" | "reason">) =>
          store.moveInstances([{ ...step, id, reason: "too far" }], NOW + 5);
        const prepare = { do: "prepare", clusterId: other.id, note: "moves to other" } as const;
        await store.reportInstances(cluster.id, [{ ...report(id, 1, "RUNNING"), brokenPromise: "too far" }]);
        assert.equal((await only(store)).report?.brokenPromise, "too far");
        assert.deepEqual((await move({ ...prepare, do: "switch" })).length, 0, "there is nothing to switch to");
        assert.equal((await move(prepare)).length, 1);
        assert.equal((await move(prepare)).length, 0, "one move at a time");

        let again = reopen();
        const begun = await only(again);
        assert.deepEqual([begun.clusterId, begun.generation, begun.status], [cluster.id, 1, "RUNNING"]);
        assert.equal(begun.detail, "it is RUNNING; moves to other: too far");
        assert.deepEqual(begun.move?.successor, { clusterId: other.id, generation: 2 });
        assert.deepEqual(await again.reportInstances(other.id, [report(id, 2, "FAILED")]), [], "nobody else sees it");
        assert.deepEqual(await again.reportInstances(other.id, [report(id, 1, "DEAD")]), []);
        assert.deepEqual(await again.reportInstances(cluster.id, [report(id, 2, "DEAD")]), []);
        assert.equal((await only(again)).move?.successor?.report?.status, "FAILED");
        const step = { id, reason: "FAILED there", clusterId: other.id, note: "not moved to other" };
        await again.moveInstances([{ ...step, do: "abandon" }], NOW + 6);
        assert.equal((await only(again)).detail, "it is RUNNING; not moved to other: FAILED there");
        await again.moveInstances([{ ...step, do: "prepare", note: "moves to other" }], NOW + 7);
        assert.equal((await only(again)).move?.successor?.generation, 3, "no generation is given twice");
        await again.reportInstances(other.id, [report(id, 3, "RUNNING")]);
        const [switched] = await again.moveInstances([{ ...step, do: "switch", note: "moved from edge" }], NOW + 8);
        assert.equal(switched?.clusterId, other.id);

        again = reopen();
        const over = await only(again);
        assert.deepEqual([over.clusterId, over.generation, over.status], [other.id, 3, "RUNNING"]);
        assert.equal(over.detail, "it is RUNNING; moved from edge: FAILED there");
        const { clusterId, generation, report: last } = over.move!.predecessor!;
        assert.deepEqual([clusterId, generation, last?.status], [cluster.id, 1, "RUNNING"]);
        assert.deepEqual(await again.reportInstances(cluster.id, [report(id, 1, "DEAD")]), []);
        assert.equal((await only(again)).move?.predecessor?.report?.status, "DEAD");
        await again.moveInstances([{ ...step, do: "retire", clusterId: cluster.id }], NOW + 9);
        assert.equal((await only(again)).move?.predecessor, undefined);
        await again.reportInstances(other.id, [report(id, 3, "DEAD")]);
        assert.equal((await only(again)).detail, "it is DEAD", "told for as long as the status lasts");
        await place(again, id, cluster.id);
        assert.deepEqual([(await only(again)).generation, (await only(again)).move], [4, undefined]);
        assert.equal(await again.removeInstance(id), true);
        assert.deepEqual(await again.moveInstances([{ ...step, do: "prepare" }], NOW), []);
      }));

    test("a move is undone by the old one's return, and by being placed anew; a removed cluster leaves it to the other", () =>
      withStore(async (store) => {
        const { instance, cluster } = await placedInstance(store);
        const other = await secondCluster(store);
        const { id } = instance;
        const step = { id, reason: "too far", clusterId: other.id, note: "moves" };
        await store.reportInstances(cluster.id, [report(id, 1, "RUNNING")]);
        await store.moveInstances([{ ...step, do: "prepare" }], NOW);
        await store.reportInstances(other.id, [report(id, 2, "RUNNING")]);
        await store.moveInstances([{ ...step, do: "switch" }], NOW);
        await store.moveInstances([{ ...step, do: "return", clusterId: cluster.id, note: "back" }], NOW);
        const back = await only(store);
        assert.deepEqual([back.clusterId, back.generation, back.status], [cluster.id, 1, "RUNNING"]);
        assert.deepEqual(back.move, { reason: "too far", note: "back" });
        await store.moveInstances([{ ...step, do: "prepare" }], NOW);
        await store.removeCluster(cluster.id);
        const left = await only(store);
        assert.deepEqual([left.status, left.move?.successor?.clusterId], ["RUNNING", other.id]);
        await store.moveInstances([{ ...step, do: "switch" }], NOW);
        const taken = await only(store);
        assert.deepEqual([taken.clusterId, taken.generation, taken.status], [other.id, 3, "CLUSTER_SCHEDULED"]);
      }));

    test("a cluster that is removed right after the switch leaves the instance to the one that still has it", () =>
      withStore(async (store) => {
        const { instance, cluster } = await placedInstance(store);
        const other = await secondCluster(store);
        const { id } = instance;
        const step = { id, reason: "too far", clusterId: other.id, note: "moves" };
        await store.reportInstances(cluster.id, [report(id, 1, "RUNNING")]);
        await store.moveInstances([{ ...step, do: "prepare" }], NOW);
        await store.reportInstances(other.id, [report(id, 2, "RUNNING")]);
        await store.moveInstances([{ ...step, do: "switch" }], NOW);
        await store.removeCluster(other.id);
        const left = await only(store);
        assert.deepEqual([left.clusterId, left.move?.predecessor?.clusterId], [other.id, cluster.id]);
        assert.deepEqual(await store.reportInstances(cluster.id, [report(id, 1, "RUNNING")]), []);
        await store.moveInstances([{ ...step, do: "return", clusterId: cluster.id, note: "back" }], NOW);
        const back = await only(store);
        assert.deepEqual([back.clusterId, back.generation, back.status], [cluster.id, 1, "RUNNING"]);
      }));

    test("only credible reports are kept: own instance, this generation, a possible turn, and news", () =>
      withStore(async (store) => {
        const { instance, cluster, web } = await placedInstance(store);
        const cases: readonly [string, InstanceReport, readonly string[]][] = [
          ["first", report(instance.id, 1, "RUNNING"), [web.id]],
          ["the same again", report(instance.id, 1, "RUNNING"), []],
          ["new measurements", { ...report(instance.id, 1, "RUNNING"), cpuPercent: 12, memoryBytes: 5 }, []],
          ["older generation", report(instance.id, 0, "FAILED"), []],
          ["the root's own status", report(instance.id, 1, "REQUESTED"), []],
          ["not withdrawn by its user", report(instance.id, 1, "UNDEPLOYED"), []],
          ["unknown instance", report(`${web.id}-99`, 1, "RUNNING"), []],
          ["end", { ...report(instance.id, 1, "COMPLETED"), exitCode: 0 }, [web.id]],
          ["nothing follows the end", report(instance.id, 1, "RUNNING"), []],
        ];
        for (const [what, one, changed] of cases) {
          assert.deepEqual(await store.reportInstances(cluster.id, [one]), changed, what);
        }
        assert.deepEqual(await store.reportInstances("f".repeat(24), [report(instance.id, 1, "DEAD")]), []);
        const kept = await only(store);
        assert.deepEqual([kept.status, kept.report?.exitCode], ["COMPLETED", 0]);
      }));

    test("the last decision about an instance is kept, and goes with it", () =>
      withStore(async (store) => {
        const [web] = await addService(store);
        const instance = await store.addInstance(web!.id, NOW);
        const record = {
          ...{ version: 1 as const, at: 1, tier: "root" as const, instanceId: instance.id, candidates: [], omitted: 0 },
          request: { memoryBytes: 1, cpuMillis: 1, gpus: 0, virtualization: "x", architectures: [], ports: [] },
          options: { strategy: "best-fit" as const },
          decision: { placed: false, verdicts: [] },
        };
        await store.keepDecisions([record, { ...record, at: 2 }, { ...record, instanceId: "gone-1" }]);
        assert.deepEqual(await store.decision(instance.id), { ...record, at: 2 });
        assert.equal(await store.decision("gone-1"), undefined);
        await store.removeInstance(instance.id);
        assert.equal(await store.decision(instance.id), undefined);
      }));

    test("a cluster joins once by token, then by its key; a taken name and a spent token are refused", () =>
      withStore(async (store) => {
        await assert.rejects(store.admitCluster(hello("edge", "k1")), code("TOKEN_INVALID"));
        await store.addJoinToken("t1", NOW + 1000);
        await assert.rejects(
          store.admitCluster({ ...hello("edge", "k1", "t1"), now: NOW + 1000 }),
          code("TOKEN_INVALID"),
        );
        await store.addJoinToken("t2", NOW + 1000);
        const cluster = await store.admitCluster(hello("edge", "k1", "t2"));
        await assert.rejects(store.admitCluster(hello("other", "k2", "t2")), code("TOKEN_INVALID"));
        await store.addJoinToken("t3", NOW + 1000);
        await assert.rejects(store.admitCluster(hello("edge", "k3", "t3")), code("NAME_TAKEN"));
        assert.equal((await store.admitCluster(hello("third", "k3", "t3"))).name, "third", "a refusal spends no token");
        const again = await store.admitCluster({ ...hello("renamed", "k1"), ip: "10.0.0.9" });
        assert.deepEqual([again.id, again.name, again.ip], [cluster.id, "renamed", "10.0.0.9"]);
      }));

    test("a cluster's last word is kept; a removed one gives its instances back", () =>
      withStore(async (store, reopen) => {
        const { instance, cluster } = await placedInstance(store);
        const one = aggregate([]);
        await store.touchCluster(cluster.id, { heardAt: NOW + 7, aggregate: one });
        await store.touchCluster(cluster.id, { heardAt: NOW + 8 });
        const again = reopen();
        assert.deepEqual(await again.clusters(), [{ ...cluster, heardAt: NOW + 8, aggregate: one }]);
        await again.removeCluster(cluster.id);
        const back = await only(again);
        assert.deepEqual([back.id, back.clusterId, back.status], [instance.id, undefined, "REQUESTED"]);
        assert.match(back.detail, /"edge" was removed/);
        await assert.rejects(again.removeCluster(cluster.id), code("NOT_FOUND"));
      }));

    test("registries belong to their owner and are replaced by name", () =>
      withStore(async (store) => {
        await store.addUser(user("ann"));
        const registry = { owner: "ann", name: "hub", server: "hub.local", username: "me" };
        await store.putRegistry(registry, "sealed1");
        await store.putRegistry({ ...registry, username: "you" }, "sealed2");
        assert.deepEqual(await store.registries("ann"), [{ ...registry, username: "you" }]);
        assert.deepEqual(
          { ...(await store.registryPassword("ann", "hub")) },
          {
            server: "hub.local",
            username: "you",
            sealedPassword: "sealed2",
          },
        );
        assert.equal(await store.registryPassword("bob", "hub"), undefined);
        await assert.rejects(store.removeRegistry("bob", "hub"), code("NOT_FOUND"));
        await store.removeUser("ann");
        assert.deepEqual(await store.registries("ann"), []);
      }));
  });
}

test("SQLite: a full disk is told apart from any other fault", () => {
  const database = openDatabase(":memory:", ["CREATE TABLE t (x TEXT) STRICT"]);
  // The limit stands in for the disk: SQLite reports both alike.
  database.exec("PRAGMA max_page_count = 2");
  const overflow = () => database.prepare("INSERT INTO t VALUES (?)").run("x".repeat(100_000));
  assert.throws(
    () => transaction(database, overflow),
    (error) => hasCode(storageError(error, "it"), "STORAGE_FULL"),
  );
  assert.throws(
    () => database.exec("SELECT nonsense"),
    (error) => hasCode(storageError(error, "it"), "STORAGE_FAILED"),
  );
  database.close();
});

test("SQLite: an unusable folder is STORAGE_FAILED", async () => {
  await assert.rejects(new SqliteRootStore("/dev/null/root.db").users(), code("STORAGE_FAILED"));
});

const code = (expected: string) => (error: unknown) => {
  assert.ok(hasCode(error, expected), `${expected} expected, got ${String(error)}`);
  return true;
};

const user = (name: string): User => ({
  id: name.padEnd(24, "0"),
  name,
  email: "",
  passwordHash: "hash",
  roles: ["Application_Provider"],
  createdAt: NOW,
  tokenEpoch: 0,
});

const service = (name: string): MicroserviceDescriptor => ({
  microservice_name: name,
  microservice_namespace: "prod",
  virtualization: "container",
  code: "busybox",
});

const app = (name: string, ...services: string[]): ApplicationDescriptor => ({
  application_name: name,
  application_namespace: "prod",
  microservices: services.map(service),
});

const hello = (name: string, keyDigest: string, joinTokenDigest?: string) => ({
  name,
  location: "here",
  ip: "10.0.0.1",
  keyDigest,
  joinTokenDigest,
  now: NOW,
});

const report = (instanceId: string, generation: number, status: InstanceReport["status"]): InstanceReport => ({
  instanceId,
  generation,
  status,
  detail: `it is ${status}`,
  since: NOW,
  restarts: 0,
});

async function addService(store: RootStore) {
  await store.addApplications("ann", [app("shop", "web")]);
  return store.services();
}

const place = (store: RootStore, id: string, clusterId: string) =>
  store.placeInstances([{ id, clusterId, status: "CLUSTER_SCHEDULED", detail: "handed over" }], NOW);

async function secondCluster(store: RootStore) {
  await store.addJoinToken("another token", NOW + 1);
  return store.admitCluster(hello("other", "another key", "another token"));
}

const only = async (store: RootStore) => (await store.instances())[0]!;

async function placedInstance(store: RootStore) {
  const [web] = await addService(store);
  await store.addJoinToken("token", NOW + 1);
  const cluster = await store.admitCluster(hello("edge", "key", "token"));
  const { id } = await store.addInstance(web!.id, NOW);
  await place(store, id, cluster.id);
  return { instance: await only(store), cluster, web: web! };
}
