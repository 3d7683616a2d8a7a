/** An instance moves between two workers of a real cluster, because a promise about its distance to another is broken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Assignment, InstanceReport } from "../../src/protocol/instance.ts";
import { interestIn } from "../../src/protocol/route.ts";
import { assignment, eventually, type ScriptedWorker, TestCluster, workerInfo } from "./cluster-fixture.ts";

const NEAR_MS = 20;

function routed(number: number, change: Partial<Assignment["request"]>): Assignment {
  const addresses = [1, 2, 3].map((last) => `10.30.${number}.${last}`) as [string, string, string];
  const [instanceAddress, roundRobin, closest] = addresses;
  return { ...assignment(change), network: { instanceAddress, roundRobin, closest } };
}

/** Where a worker stands, in milliseconds on a line. */
function stand(worker: ScriptedWorker, x: number): void {
  worker.coordinate = { position: [x, 0, 0], heightMs: 0.1, error: 0.1 };
}

test("a broken promise moves an instance without a moment in which it serves nowhere, or twice, also past a restart", async () => {
  await using it = await TestCluster.start();
  it.root.send({ type: "network", serviceRange: "10.30.0.0/16", blocks: ["10.18.0.0/22"] });
  const [db, old, next, observer] = await Promise.all(
    ["db", "old", "next", "observer"].map((name) => it.join(workerInfo(name), false)),
  );
  assert.ok(db && old && next && observer);
  const everybody = [db, old, next, observer];
  await eventually("addresses", () => everybody.every(({ network }) => network?.subnets.length === 1));
  const states = new Map<string, InstanceReport["status"]>();
  stand(db, 0);
  stand(old, 5);
  stand(next, 60);
  stand(observer, 300);

  /** What each worker would say of itself: where it is, and that what it has runs and takes traffic. */
  const live = (worker: ScriptedWorker): InstanceReport["live"] => {
    const [subnet] = worker.network!.subnets as [string];
    const sandbox = subnet.replace(/\d+\/\d+$/, (end) => `${Number(end.split("/")[0]) + 2}`);
    return { sandbox, worker: { id: worker.id, address: "192.0.2.7", subnets: [subnet] } };
  };
  const tell = async (worker: ScriptedWorker) => {
    const instances = worker.manifest.instances.map(({ instanceId, generation }): InstanceReport => {
      const status = states.get(`${worker.info.hostname} ${instanceId}`) ?? "RUNNING";
      const plain = { instanceId, generation, status, detail: "scripted", since: 1, restarts: 0 };
      return status === "RUNNING" ? { ...plain, live: live(worker) } : plain;
    });
    const held = new Set(instances.map(({ instanceId }) => instanceId));
    const removed = [...states.keys()]
      .map((key) => key.split(" ")[1]!)
      .filter((id) => !held.has(id) && [web, base].some((one) => one.instanceId === id));
    await worker.report({ instances, removed, coordinate: worker.coordinate! }).catch(() => {});
  };

  const base = routed(1, { directWorkers: ["db"] });
  const promise = {
    measure: "latency",
    threshold: NEAR_MS,
    waits: true,
    rigidness: 0.9,
    convergenceMs: 15_000,
  } as const;
  const web = routed(2, {
    directWorkers: ["old", "next"],
    links: [{ ...promise, service: base.jobName }],
  });
  const { serviceId, instanceId } = web;
  it.root.answer = (key) => (key.includes(web.jobName) ? [serviceId] : []);
  it.root.want(base);
  await eventually("the first is placed", () => db.lists(base));
  const tellAll = () => Promise.all(everybody.map(tell));
  const telling = setInterval(() => void tellAll(), 500);
  let watching: NodeJS.Timeout | undefined;
  try {
    await tellAll();
    it.root.want(web);
    await eventually("the linked one is placed", () => old.lists(web), 20_000);
    await eventually("it runs", () => it.root.statusOf(web) === "RUNNING");
    await observer.ask(interestIn.name(web.jobName));
    const seen: (string | undefined)[] = [];
    const here = () => observer.tables.get(serviceId)?.instances;
    await eventually("its route", () => here()?.[0]?.live !== undefined);
    observer.onRoutes = () => {
      assert.equal(here()?.length, 1);
      seen.push(here()?.[0]?.live?.workerId);
    };
    const statuses = new Set<string | undefined>();
    watching = setInterval(() => {
      if (it.root.isLinked && it.root.instances.has(instanceId)) statuses.add(it.root.statusOf(web));
    }, 5);

    states.set(`next ${instanceId}`, "PULLING");
    stand(db, 60);
    await eventually("the next one is told to start it", () => next.lists(web), 60_000);
    assert.equal(next.desired.get(instanceId)?.standby, true);
    assert.equal(old.desired.get(instanceId)?.standby, undefined);
    const why = /latency to service .* was within 20 ms in \d+ of \d+ measurements, promised are 90 %/;
    await eventually("the root is told why", () => {
      const { status, detail } = it.root.instances.get(instanceId) ?? { status: undefined, detail: "" };
      return (
        status === "RUNNING" && /; moves to worker "next" as soon as it runs there/.test(detail) && why.test(detail)
      );
    });
    await it.stopCluster();
    await it.startCluster();
    await eventually("a link again", () => it.root.instances.has(instanceId), 20_000);
    await eventually("the observer is there again", () => observer.isConnected);
    await observer.askAll(interestIn.name(web.jobName));
    assert.ok(old.lists(web) && next.lists(web));
    states.set(`next ${instanceId}`, "RUNNING");
    await eventually("traffic goes to the next one", () => here()?.[0]?.live?.workerId === next.id, 30_000);
    assert.ok(old.lists(web), "the old one is still there when traffic goes elsewhere");
    await eventually("roles are swapped", () => old.desired.get(instanceId)?.standby === true);
    await eventually("the next one is in charge", () => next.desired.get(instanceId)?.standby === undefined);
    await eventually("the old one ends", () => !old.lists(web), 20_000);
    await eventually("the root is told how it went", () => {
      const { detail } = it.root.instances.get(instanceId)!;
      return /; moved from worker "old": /.test(detail) && why.test(detail);
    });
    clearInterval(watching);
    assert.deepEqual([...statuses], ["RUNNING"], "to the root it ran all the time");
    assert.deepEqual(
      seen.filter((workerId, index) => workerId !== seen[index - 1]),
      seen[0] === next.id ? [next.id] : [old.id, next.id],
      "to others it was at one place at any time",
    );
  } finally {
    clearInterval(telling);
    clearInterval(watching);
  }
});
