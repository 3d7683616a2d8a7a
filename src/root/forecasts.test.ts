import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { aggregate } from "../hierarchy/capacity.ts";
import { PLAN_VERSION, type PlannedInstance, type RootMessage } from "../protocol/uplink.ts";
import type { ClusterView } from "./candidates.ts";
import { type Draft, withDraft } from "./draft.ts";
import { Forecasts } from "./forecasts.ts";
import type { Instance, Service } from "./model.ts";
import type { PlacementInput } from "./placement-plan.ts";

const MB = 1_048_576;
const SERVICE = "0".repeat(24);
const clock = new ManualClock();

const service: Service = {
  ...{ id: SERVICE, applicationId: "app", owner: "ann", jobName: "a.a.s.a", roundRobin: "", closest: "" },
  descriptor: {
    ...{ microservice_name: "s", microservice_namespace: "a", virtualization: "container", code: "i" },
    memory: 100,
  },
  ...{ nextInstanceNumber: 0, createdAt: 0 },
};

const instance = (number: number, change: Partial<Instance> = {}): Instance => ({
  ...{ id: `${SERVICE}-${number}`, serviceId: SERVICE, number, address: "", generation: 0 },
  ...{ status: "REQUESTED", detail: "", since: 0 },
  ...change,
});

const cluster = (name: string, memoryMb: number, counted: ClusterView["counted"] = new Map()): ClusterView => {
  const room = { cpuMillis: 4000, memoryBytes: memoryMb * MB, gpus: 0 };
  const machine = { architecture: "amd64", virtualization: ["container"], cpuPercent: 0, memoryPercent: 0 };
  return {
    ...{ id: `id-${name}`, name, connected: true, heardAt: clock.now(), counted },
    aggregate: aggregate([{ ...machine, total: room, free: room }]),
  };
};

const input = (clusters: readonly ClusterView[], instances: readonly Instance[] = []): PlacementInput => ({
  ...{ services: new Map([[SERVICE, service]]), instances, clusters, declines: new Map() },
  ...{ strategy: "best-fit", now: clock.now() },
});

const draft = (change: Partial<Draft> = {}): Draft => ({
  ...{ services: [service], instances: [instance(0)], removedServices: new Set(), leaving: new Set() },
  ...change,
});

type Ask = Extract<RootMessage, { type: "plan.ask" }>;
type Says = Pick<PlannedInstance, "outcome" | "detail"> & { readonly worker?: string };

/** @param says what a cluster answers, by its id; one that is not named is not connected, `silent` says nothing */
function forecasts(observed: PlacementInput, says: Record<string, Says | "silent">) {
  const asked: { clusterId: string; message: Ask }[] = [];
  const it: Forecasts = new Forecasts({
    clock,
    observe: async () => observed,
    link: (clusterId) => {
      const said = says[clusterId];
      if (!said) return undefined;
      return {
        send: (message) => {
          if (message.type !== "plan.ask") throw new Error(`unexpected ${message.type}`);
          asked.push({ clusterId, message });
          if (said === "silent") return;
          const instances = message.instances.map(({ instanceId }) => ({ instanceId, ...said, lines: ["words"] }));
          const { question } = message;
          queueMicrotask(() =>
            it.receive(clusterId, { type: "plan.answer", version: PLAN_VERSION, question, instances }),
          );
        },
      };
    },
  });
  return { it, asked };
}

test("the cluster that would get it tells on which worker", async () => {
  const { it, asked } = forecasts(input([cluster("big", 4000), cluster("small", 2000)]), {
    "id-big": { outcome: "placed", detail: "", worker: "w1" },
  });
  const [predicted] = await it.predict(draft(), true);
  assert.deepEqual(
    [predicted!.placed, predicted!.clusterId, predicted!.worker, predicted!.status],
    [true, "id-big", "w1", "NODE_SCHEDULED"],
  );
  assert.deepEqual(
    predicted!.decisions.map(({ tier }) => tier),
    ["root", "cluster"],
  );
  assert.equal(asked[0]!.message.namesWorkers, true);
  assert.equal(asked[0]!.message.instances[0]!.request.memoryBytes, 100 * MB);
});

test("what one cluster would decline is offered to the next, and that is told", async () => {
  const { it } = forecasts(input([cluster("big", 4000), cluster("small", 2000)]), {
    "id-big": { outcome: "declined", detail: "no worker fits: w1: labels" },
    "id-small": { outcome: "placed", detail: "" },
  });
  const [predicted] = await it.predict(draft(), false);
  assert.equal(predicted!.clusterId, "id-small");
  assert.deepEqual(
    predicted!.decisions.map((one) => `${one.tier} ${one.clusterId ?? ""}`),
    ["cluster id-big", "root ", "cluster id-small"],
  );
});

test("declined by all, it is refused in the words that the status would have", async () => {
  const no = { outcome: "declined", detail: "no worker fits: w1: labels" } as const;
  const { it } = forecasts(input([cluster("big", 4000), cluster("small", 2000)]), { "id-big": no, "id-small": no });
  const [predicted] = await it.predict(draft(), false);
  assert.deepEqual([predicted!.placed, predicted!.status], [false, "NoActiveClusterWithCapacity"]);
  assert.match(predicted!.detail, /big declined: no worker fits: w1: labels; small declined/);
});

test("what would wait is not placed, and says for what", async () => {
  const { it } = forecasts(input([cluster("big", 4000)]), {
    "id-big": { outcome: "waits", detail: "waiting for a measurement of h" },
  });
  const [predicted] = await it.predict(draft(), false);
  assert.deepEqual(
    [predicted!.placed, predicted!.status, predicted!.detail],
    [false, "CLUSTER_SCHEDULED", "waiting for a measurement of h"],
  );
});

test("a cluster that does not answer in time leaves the worker open, and so does one without a link", async () => {
  const silent = forecasts(input([cluster("big", 4000)]), { "id-big": "silent" });
  const answer = silent.it.predict(draft(), true);
  await clock.advance(3_000);
  const [predicted] = await answer;
  assert.equal(predicted!.placed, true);
  assert.match(predicted!.detail, /which worker is not known: its cluster does not answer/);
  const [away] = await forecasts(input([cluster("big", 4000)]), {}).it.predict(draft(), true);
  assert.match(away!.detail, /which worker is not known: its cluster is not connected/);
});

test("a cluster that answers for the first ones only leaves the worker of the others open", async () => {
  const { it, asked } = forecasts(input([cluster("big", 4000)]), { "id-big": "silent" });
  const answer = it.predict(draft({ instances: [instance(0), instance(1)] }), true);
  await clock.advance(1);
  const { question, instances } = asked[0]!.message;
  const [first] = instances.map(({ instanceId }) => instanceId);
  const placed: PlannedInstance = { instanceId: first!, outcome: "placed", worker: "w1", detail: "", lines: [] };
  it.receive("id-big", { type: "plan.answer", version: PLAN_VERSION, question, instances: [placed] });
  assert.deepEqual(
    (await answer).map(({ worker, detail }) => worker ?? detail),
    ["w1", "which worker is not known: not asked: too many at once for its cluster; plan fewer instances"],
  );
});

test("a cluster has one question at a time; another plan's waits its turn, and no longer than for an answer", async () => {
  const says: Record<string, Says | "silent"> = { "id-big": "silent" };
  const { it, asked } = forecasts(input([cluster("big", 4000)]), says);
  const first = it.predict(draft(), true);
  const second = it.predict(draft({ instances: [instance(1)] }), true);
  await clock.advance(1_000);
  const third = it.predict(draft({ instances: [instance(2)] }), true);
  await clock.advance(1_999);
  assert.deepEqual(
    asked.map(({ message }) => message.instances[0]!.instanceId),
    [`${SERVICE}-0`],
  );
  says["id-big"] = { outcome: "placed", detail: "", worker: "w1" };
  await clock.advance(1);
  assert.match((await first)[0]!.detail, /its cluster does not answer/);
  assert.match((await second)[0]!.detail, /its cluster has too many other plans to answer; try again/);
  assert.equal((await third)[0]!.worker, "w1");
  assert.deepEqual(
    asked.map(({ message }) => message.instances[0]!.instanceId),
    [`${SERVICE}-0`, `${SERVICE}-2`],
  );
});

test("only the cluster that was asked can answer", async () => {
  const { it, asked } = forecasts(input([cluster("big", 4000)]), { "id-big": "silent" });
  const answer = it.predict(draft(), true);
  await clock.advance(1);
  const { question, instances } = asked[0]!.message;
  const forged = instances.map(({ instanceId }) => ({ instanceId, outcome: "placed" as const, detail: "", lines: [] }));
  it.receive("id-other", { type: "plan.answer", version: PLAN_VERSION, question, instances: forged });
  await clock.advance(3_000);
  assert.match((await answer)[0]!.detail, /does not answer/);
});

test("an instance that is made anew has the room of the one that it replaces", async () => {
  const running = instance(0, { clusterId: "id-full", status: "RUNNING", generation: 2 });
  const counted = new Map([[running.id, 2]]);
  const observed = input([cluster("full", 10, counted)], [running]);
  const says = { "id-full": { outcome: "placed", detail: "", worker: "w1" } } as const;
  const { it, asked } = forecasts(observed, says);
  const [predicted] = await it.predict(draft({ leaving: new Set([running.id]) }), true);
  assert.equal(predicted!.worker, "w1", predicted!.detail);
  assert.deepEqual(asked[0]!.message.leaving, [running.id]);
  const [another] = await it.predict(draft({ instances: [instance(1)] }), true);
  assert.equal(another!.placed, false, "without anybody leaving there is none");
});

test("a draft leaves what is there as it is", () => {
  const running = instance(0, { clusterId: "id-a", status: "RUNNING" });
  const observed = input([cluster("a", 100, new Map([[running.id, 0]]))], [running]);
  const before = structuredClone(observed);
  const would = withDraft(
    observed,
    draft({ leaving: new Set([running.id]), removedServices: new Set([SERVICE]), services: [] }),
  );
  assert.deepEqual([would.services.size, would.instances.map(({ status }) => status)], [0, ["REQUESTED"]]);
  assert.deepEqual(observed, before);
});
