/** An instance moves between two real clusters under a real root, because a promise about its distance to another is broken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { InstanceReport } from "../../src/protocol/instance.ts";
import { interestIn } from "../../src/protocol/route.ts";
import { eventually } from "../support/eventually.ts";
import { type ScriptedWorker, workerInfo } from "./cluster-fixture.ts";
import { type ExplainDoc, Installation, service } from "./placement-fixture.ts";

const NEAR_MS = 20;
const MB = 1_048_576;
const WHY = /latency to service shop\.prod\.db\.prod was within 20 ms in \d+ of \d+ measurements, promised are 90 %/;
const promise = { type: "latency", threshold: NEAR_MS, rigidness: 0.9, convergence_time: 15 };

/** What a worker says of itself: where it is, and that what it has runs and takes traffic, unless told otherwise. */
class Machine {
  readonly worker: ScriptedWorker;
  readonly statuses = new Map<string, InstanceReport["status"]>();
  readonly #held = new Set<string>();

  constructor(worker: ScriptedWorker) {
    this.worker = worker;
    worker.isDutiful = false;
  }

  stand(x: number): void {
    this.worker.coordinate = { position: [x, 0, 0], heightMs: 0.1, error: 0.1 };
  }

  has(serviceId: string): boolean {
    return this.worker.manifest.instances.some(({ instanceId }) => instanceId.startsWith(serviceId));
  }

  isStandby(instanceId: string): boolean | undefined {
    const desired = this.worker.desired.get(instanceId);
    return desired && desired.standby === true;
  }

  liveOf(serviceId: string): string | undefined {
    const instances = this.worker.tables.get(serviceId)?.instances ?? [];
    assert.ok(instances.length <= 1);
    return instances[0]?.live?.workerId;
  }

  async tell(): Promise<void> {
    const { network, manifest, coordinate, id } = this.worker;
    const [subnet] = network?.subnets ?? [];
    const instances = manifest.instances.map(({ instanceId, generation }): InstanceReport => {
      const status = this.statuses.get(instanceId) ?? "RUNNING";
      const plain = { instanceId, generation, status, detail: "scripted", since: 1, restarts: 0 };
      if (status !== "RUNNING" || subnet === undefined) return plain;
      const sandbox = subnet.replace(/\d+\/\d+$/, (end) => `${Number(end.split("/")[0]) + 2}`);
      return { ...plain, live: { sandbox, worker: { id, address: "192.0.2.7", subnets: [subnet] } } };
    });
    const ids = new Set(instances.map(({ instanceId }) => instanceId));
    const removed = [...this.#held].filter((one) => !ids.has(one));
    for (const one of ids) this.#held.add(one);
    await this.worker.report({ instances, removed, coordinate: coordinate! }).catch(() => {});
  }
}

class Scene implements AsyncDisposable {
  readonly it: Installation;
  readonly machines: Machine[] = [];
  readonly statuses = new Set<string>();
  readonly #timers: NodeJS.Timeout[] = [];
  #watched = "";
  /** The root is being restarted, and answers nobody. */
  isBlind = false;

  constructor(it: Installation) {
    this.it = it;
    this.#timers.push(setInterval(() => void Promise.all(this.machines.map((one) => one.tell())), 500));
    this.#timers.push(setInterval(() => void this.#look().catch(() => {}), 20));
  }

  watch(serviceId: string): void {
    this.#watched = serviceId;
  }

  async #look(): Promise<void> {
    if (this.#watched === "" || this.isBlind) return;
    const found = await this.it.instances(this.#watched);
    this.statuses.add(found.map(({ status }) => status).join(" "));
  }

  async machine(cluster: string, hostname: string, x: number, memoryMb = 100): Promise<Machine> {
    const info = workerInfo(hostname, { memoryBytes: memoryMb * MB });
    const machine = new Machine(await this.it.worker(cluster, hostname, x, info));
    this.machines.push(machine);
    return machine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await this.it[Symbol.asyncDispose]();
  }
}

const until = (what: string, isTrue: () => boolean | Promise<boolean>, withinMs = 30_000) =>
  eventually(async () => (await isTrue()) || undefined, { what, withinMs });

/** `web` runs in `here`, near `db` in `there`; then `db`'s machine is found to be far away, and `there` has another one. */
async function apart() {
  const scene = new Scene(await new Installation().start());
  const { it } = scene;
  await it.cluster("here");
  await it.cluster("there");
  const old = await scene.machine("here", "old", 5);
  const base = await scene.machine("there", "base", 0, 15);
  await it.untilKnown(2);
  const link = { connectivity: [{ target_microservice: "db", con_constraints: [promise] }] };
  const db = service("db", { constraints: [{ type: "direct", cluster: "there", node: "base" }] });
  const ids = await it.deploy("shop", [db, service("web", link)], ["db"]);
  await it.untilStatus(ids.db!, "RUNNING");
  await it.instance(ids.web!);
  assert.equal((await it.untilStatus(ids.web!, "RUNNING")).cluster_name, "here");
  const next = await scene.machine("there", "next", 60);
  await it.untilKnown(3);
  const web = `${ids.web}-0`;
  next.statuses.set(web, "PULLING");
  for (const one of [old, base]) {
    await one.worker.ask(interestIn.name("shop.prod.web.prod"));
    await until(`the route, as ${one.worker.info.hostname} knows it`, () => one.liveOf(ids.web!) === old.worker.id);
  }
  scene.watch(ids.web!);
  base.stand(60);
  return { scene, it, ids: { web: ids.web!, db: ids.db! }, web, old, base, next };
}

const only = async (it: Installation, id: string) => {
  const all = await it.instances(id);
  assert.equal(all.length, 1);
  return all[0]!;
};

test("what its cluster cannot mend moves to another cluster; it serves all the time and nowhere twice, also past a restart of the root", async () => {
  const { scene, it, ids, web, old, base, next } = await apart();
  await using _scene = scene;
  await until("the other cluster starts it", () => next.has(ids.web), 60_000);
  assert.equal(next.isStandby(web), true);
  assert.equal(old.isStandby(web), false);
  const detail = async () => (await only(it, ids.web)).status_detail;
  const moves = /; moves to cluster "there" as soon as it runs there$/;
  assert.match(await detail(), moves);
  assert.match(await detail(), WHY);
  scene.isBlind = true;
  await it.restartRoot();
  scene.isBlind = false;
  await until("the clusters are linked again", async () => !/not heard from/.test(await detail()));
  assert.match(await detail(), moves);
  assert.ok(old.has(ids.web) && next.has(ids.web));

  const seen = [old, base].map((machine) => {
    const list: (string | undefined)[] = [machine.liveOf(ids.web)];
    machine.worker.onRoutes = () => list.push(machine.liveOf(ids.web));
    return list;
  });
  next.statuses.set(web, "RUNNING");
  await until("the other cluster is in charge", async () => (await only(it, ids.web)).cluster_name === "there");
  await until("its worker knows", () => next.isStandby(web) === false);
  await until("all traffic goes there", () => [old, base].every((one) => one.liveOf(ids.web) === next.worker.id));
  assert.ok(old.has(ids.web), "the old one is still there when traffic goes elsewhere");
  await until("the old one knows, too", () => old.isStandby(web) !== false);
  await until("the old one ends", () => !old.has(ids.web));
  assert.match(await detail(), /; moved from cluster "here": /);
  for (const list of seen) {
    const places = list.filter((id, index) => index === 0 || id !== list[index - 1]);
    assert.deepEqual(places, [old.worker.id, next.worker.id], "for everybody it was at one place at any time");
  }
  assert.deepEqual([...scene.statuses], ["RUNNING"], "it was one instance that ran all the time");
  const { timeline } = await it.get<ExplainDoc>(`/api/service/${ids.web}/instance/0/explain`);
  const told = timeline.map(({ detail }) => detail).join("\n");
  for (const part of [WHY, /on standby in cluster "there"/, /moved from cluster "here"/]) assert.match(told, part);
  await until("the promise to the other is kept again", async () => !WHY.test((await only(it, ids.db)).status_detail));
});

test("a cluster in which it fails is given up, and the next one tried; what its user withdraws meanwhile ends everywhere", async () => {
  const { scene, it, ids, web, old, next } = await apart();
  await using _scene = scene;
  await it.cluster("yonder");
  const last = await scene.machine("yonder", "last", 60);
  last.statuses.set(web, "PULLING");
  await until("another cluster starts it", () => next.has(ids.web) || last.has(ids.web), 60_000);
  const [first, second] = next.has(ids.web) ? [next, last] : [last, next];
  first.statuses.set(web, "FAILED");
  await until("it is given up, and the next one tried", () => !first.has(ids.web) && second.has(ids.web));
  assert.ok(old.has(ids.web));
  assert.deepEqual([(await only(it, ids.web)).cluster_name, ...scene.statuses], ["here", "RUNNING"]);
  const { timeline } = await it.get<ExplainDoc>(`/api/service/${ids.web}/instance/0/explain`);
  assert.ok(timeline.some(({ detail }) => /; not moved to cluster "\w+": FAILED there: scripted/.test(detail)));
  scene.watch("");
  await it.send("DELETE", `/api/service/${ids.web}/instance/0`);
  await until("it ends everywhere", () => [old, first, second].every((one) => !one.has(ids.web)));
});
