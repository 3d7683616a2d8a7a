/** Placement through all tiers: nearness to services, users and places, waiting, refusals, plans, explanations and plugins. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { PlanDocument } from "../../src/root/api/plan-document.ts";
import { readRecord, replay } from "../../src/scheduler/record.ts";
import { eventually } from "../support/eventually.ts";
import { descriptor, type ExplainDoc, Installation, service, within } from "./placement-fixture.ts";

const MUNICH = "48.137,11.575";
const BERLIN = "52.52,13.405";

/** Munich with two workers, near each other; Berlin with two, 100 ms away, one of them far out. */
async function twoCities(): Promise<Installation> {
  const it = await new Installation().start();
  await it.cluster("munich", { location: MUNICH });
  await it.cluster("berlin", { location: BERLIN });
  await it.worker("munich", "m1", 0);
  await it.worker("munich", "m2", 3);
  await it.worker("berlin", "b1", 100);
  await it.worker("berlin", "b2", 180);
  await it.untilKnown(4);
  return it;
}

const explained = (it: Installation, id: string, token?: string) =>
  it.get<ExplainDoc>(`/api/service/${id}/instance/0/explain`, token);
const linesOf = ({ decisions }: ExplainDoc, tier: string) =>
  decisions.filter((one) => one.tier === tier).flatMap(({ lines }) => lines);

test("a service goes to the place that its users are near, and why not elsewhere is told", async () => {
  await using it = await twoCities();
  const near = { constraints: [{ type: "geo", location: "48.2,11.6", threshold: 50 }] };
  const { web } = await it.deploy("shop", [service("web", near)], ["web"]);
  const instance = await it.untilStatus(web!, "RUNNING");
  assert.equal(instance.cluster_name, "munich");
  const explanation = await explained(it, web!);
  assert.ok(linesOf(explanation, "root").some((line) => /✗ berlin: distance to users in 48\.2,11\.6/.test(line)));
  assert.ok(linesOf(explanation, "cluster").some((line) => /chose worker m[12]/.test(line)));
  assert.deepEqual(
    explanation.timeline.map(({ tier, status }) => `${tier} ${status}`).filter((one) => !/CLUSTER_SCHED/.test(one)),
    ["root REQUESTED", "cluster NODE_SCHEDULED", "worker RUNNING"],
  );

  const nowhere = { constraints: [{ type: "geo", location: "0,0", threshold: 50 }] };
  const { far } = await it.deploy("far", [service("far", nowhere)], ["far"]);
  const refused = await it.untilStatus(far!, "NoActiveClusterWithCapacity");
  assert.match(
    refused.status_detail,
    /munich: distance to users in 0,0 \(needs at most 50 km, has at least \d+\.\d km\)/,
  );
});

test("a linked service waits for the other, then goes within its reach, across both tiers", async () => {
  await using it = await twoCities();
  const db = service("db", { constraints: [{ type: "direct", cluster: "berlin", node: "b1" }] });
  const ids = await it.deploy("shop", [service("web", within(20, "db")), db], ["web"]);
  const waiting = await eventually(async () => (await it.instances(ids.web!))[0], { what: "the instance" });
  assert.equal(waiting.status, "REQUESTED");
  await eventually(
    async () =>
      /waits for an instance of service shop.prod.db.prod/.test((await it.instances(ids.web!))[0]!.status_detail) ||
      undefined,
    { what: "the reason" },
  );
  await it.instance(ids.db!);
  assert.equal((await it.untilStatus(ids.web!, "RUNNING")).cluster_name, "berlin");
  assert.equal(it.hostOf(ids.db!), "b1");
  assert.equal(it.hostOf(ids.web!), "b1");
  const lines = linesOf(await explained(it, ids.web!), "cluster");
  assert.ok(
    lines.some((line) => /✗ b2: latency to service shop.prod.db.prod: needed at most 20 ms, had 80/.test(line)),
  );
});

test("a service of another cluster is near enough, or too far, by its worker's coordinate", async () => {
  await using it = await twoCities();
  const db = service("db", { constraints: [{ type: "direct", cluster: "berlin", node: "b1" }] });
  const web = service("web", { ...within(110, "db"), constraints: [{ type: "direct", cluster: "munich" }] });
  const api = service("api", { ...within(50, "db"), constraints: [{ type: "direct", cluster: "munich" }] });
  const ids = await it.deploy("shop", [db, web, api], ["db", "web", "api"]);
  assert.equal((await it.untilStatus(ids.web!, "RUNNING")).cluster_name, "munich");
  const refused = await it.untilStatus(ids.api!, "TargetClusterNoCapacity");
  assert.match(refused.status_detail, /munich: latency to service shop.prod.db.prod \(needs at most 50 ms/);
});

test("users at a host: some workers measure it, and the instance goes where they are near", async () => {
  await using it = await twoCities();
  const rtt: Record<string, number> = { m1: 40, m2: 9, b1: 90, b2: 170 };
  for (const [hostname, worker] of it.workers) {
    worker.onMeasure = ({ targets }) => {
      const measured = targets.map(({ host }) => ({ host, rttMs: rtt[hostname]! }));
      if (measured.length > 0) worker.report({ measured }).catch(() => {});
    };
  }
  const near = { constraints: [{ type: "latency", target: "192.0.2.77", threshold: 20 }] };
  const { web } = await it.deploy("shop", [service("web", near)], ["web"]);
  await it.untilStatus(web!, "RUNNING");
  assert.equal(it.hostOf(web!), "m2");
});

test("a host that nobody reaches: every cluster says so, and the root tells it", async () => {
  await using it = await new Installation().start();
  await it.cluster("munich");
  const worker = await it.worker("munich", "m1", 0);
  await it.untilKnown(1);
  worker.onMeasure = ({ targets }) => {
    if (targets.length > 0) worker.report({ measured: targets.map(({ host }) => ({ host })) }).catch(() => {});
  };
  const near = { constraints: [{ type: "latency", target: "192.0.2.78", threshold: 20 }] };
  const { web } = await it.deploy("shop", [service("web", near)], ["web"]);
  const instance = await it.untilStatus(web!, "NoActiveClusterWithCapacity");
  assert.match(
    instance.status_detail,
    /munich declined: no worker fits: m1: latency to users at 192\.0\.2\.78 \(needs at most 20 ms, has unreachable: none of 1 workers got an answer\)/,
  );
});

test("what contradicts itself is refused when it is registered", async () => {
  await using it = await new Installation().start();
  const impossible = {
    constraints: [
      { type: "geo", location: MUNICH, threshold: 50 },
      { type: "geo", location: BERLIN, threshold: 50 },
    ],
  };
  const { status, body } = await it.send("POST", "/api/application", descriptor("shop", [service("web", impossible)]));
  assert.equal(status, 422);
  assert.match((body as { message: string }).message, /they are 504 km apart/);
});

test("a plan says what would happen, and changes nothing", async () => {
  await using it = await twoCities();
  await it.deploy("shop", [service("web"), service("old")], []);
  const before = await it.get("/api/applications/");
  const plan = async (name: string, services: readonly object[]) =>
    (await it.send("POST", "/api/plan?instances=2", descriptor(name, services))).body as PlanDocument;
  const good = await plan("new", [service("db"), service("web", within(20, "db"))]);
  assert.equal(good.ok, true, JSON.stringify(good.placements));
  const { placements } = good;
  assert.equal(placements.length, 4);
  assert.equal(new Set(placements.map(({ cluster_name }) => cluster_name)).size, 1, "linked services go together");
  assert.ok(placements.every(({ worker_name }) => ["m1", "m2", "b1", "b2"].includes(worker_name)));
  const bad = await plan("new", [service("web", { memory: 4000 })]);
  assert.equal(bad.ok, false);
  assert.match(bad.placements[0]!.detail, /munich: memory/);
  const there = await plan("shop", [service("web", { memory: 20 })]);
  assert.equal(there.ok, true);
  const none = { add: [], replace: [], keep: [], remove: [] };
  assert.deepEqual(there.applications[0], {
    name: "shop.prod",
    action: "change",
    services: [
      {
        ...{ name: "shop.prod.web.prod", action: "change", instances: none },
        changes: [{ field: "memory", is: 10, would_be: 20 }],
      },
      { name: "shop.prod.old.prod", action: "remove", changes: [], instances: none },
    ],
  });
  assert.deepEqual(await it.get("/api/applications/"), before);
  assert.equal((await it.send("POST", "/api/plan", { sla_version: "v1" })).status, 422);
  const many = [service("a"), service("b"), service("c"), service("d"), service("e"), service("f")];
  const { status, body } = await it.send("POST", "/api/plan?instances=100", descriptor("many", many));
  assert.equal(status, 422);
  assert.match((body as { message: string }).message, /600 would be placed, more than the 500/);
});

test("a plan asks the clusters: what only they know decides, and comes true", async () => {
  await using it = await twoCities();
  const labelled = service("web", { constraints: [{ type: "labels", labels: { gpu: "none" } }] });
  const ask = async (one: object, token?: string) =>
    (await it.send("POST", "/api/plan", descriptor("new", [one]), token)).body as PlanDocument;
  const refused = await ask(labelled);
  assert.equal(refused.ok, false);
  assert.match(refused.placements[0]!.detail, /munich declined: no worker fits: m1: label/);
  const lines = refused.placements[0]!.decisions.flatMap((one) =>
    one.lines.map((line) => `${one.cluster_name} ${line}`),
  );
  for (const worker of ["munich ✗ m1", "munich ✗ m2", "berlin ✗ b1", "berlin ✗ b2"]) {
    assert.ok(
      lines.some((line) => line.startsWith(`${worker}: label`)),
      lines.join("\n"),
    );
  }
  const pinned = service("web", { constraints: [{ type: "direct", node: "b2" }], port: "80:80" });
  const [predicted] = (await ask(pinned)).placements;
  assert.deepEqual([predicted!.cluster_name, predicted!.worker_name], ["berlin", "b2"]);
  const { web } = await it.deploy("shop", [pinned], ["web"]);
  await it.untilStatus(web!, "RUNNING");
  assert.equal(it.hostOf(web!), "b2");
  const [second] = (await ask(pinned)).placements;
  assert.match(second!.detail, /b2: host port/);
  const again = { ...pinned, memory: 20 };
  const replaced = (await it.send("POST", "/api/plan", descriptor("shop", [again]))).body as PlanDocument;
  assert.deepEqual(replaced.applications[0]!.services[0]!.instances.replace, [0]);
  assert.deepEqual([replaced.ok, replaced.placements[0]!.worker_name], [true, "b2"], "its own port is no obstacle");
});

test("a plan names workers only to those who run them", async () => {
  await using it = await twoCities();
  const roles = [{ name: "Application_Provider" }];
  await it.send("POST", "/api/auth/register", { name: "ann", password: "correct horse", email: "", roles });
  const ann = await it.logIn("ann", "correct horse");
  const { body } = await it.send("POST", "/api/plan", descriptor("new", [service("web")]), ann);
  const [placement] = (body as PlanDocument).placements;
  assert.deepEqual([placement!.placed, placement!.worker_name], [true, ""]);
  assert.ok(!/\b[mb][12]\b/.test(JSON.stringify(placement)), JSON.stringify(placement));
});

test("workers are named to those who run them; others see what is lacking", async () => {
  await using it = await twoCities();
  const roles = [{ name: "Application_Provider" }];
  await it.send("POST", "/api/auth/register", { name: "ann", password: "correct horse", email: "", roles });
  const ann = await it.logIn("ann", "correct horse");
  const pinned = { constraints: [{ type: "direct", node: "m2" }] };
  const { web } = await it.deploy("shop", [service("web", pinned)], [], ann);
  await it.send("POST", `/api/service/${web}/instance`, undefined, ann);
  await it.untilStatus(web!, "RUNNING");
  const lines = linesOf(await explained(it, web!, ann), "cluster");
  assert.ok(
    lines.some((line) => /chose one of 2 workers/.test(line)),
    lines.join("\n"),
  );
  assert.ok(!lines.some((line) => /m1|→/.test(line)));
  const open = await explained(it, web!);
  assert.ok(linesOf(open, "cluster").some((line) => /✗ m1: pinned elsewhere/.test(line)));
  for (const { record } of open.decisions) assert.equal(replay(readRecord(record)!).same, true);
});

test("a plugin decides among those that fit; one that hangs costs half a second and a warning", async () => {
  await using it = await new Installation().start();
  const plugin = join(it.folder, "plugin.mjs");
  writeFileSync(
    plugin,
    `import { createInterface } from "node:readline";
     for await (const line of createInterface({ input: process.stdin })) {
       const { candidates } = JSON.parse(line);
       const last = candidates.map(({ name, id }) => ({ name, id })).sort((a, b) => (a.name < b.name ? 1 : -1))[0];
       console.log(JSON.stringify({ ranking: [last.id] }));
     }`,
  );
  await it.cluster("own", { placementPlugin: `${process.execPath} ${plugin}` });
  await it.cluster("hung", { placementPlugin: "sleep 1000" });
  for (const name of ["p1", "p2", "p3"]) await it.worker("own", name);
  await it.worker("hung", "h1");
  await it.untilKnown(4);
  const at = (cluster: string) => ({ constraints: [{ type: "direct", cluster }] });
  const { web, api } = await it.deploy("shop", [service("web", at("own")), service("api", at("hung"))], ["web", "api"]);
  await it.untilStatus(web!, "RUNNING");
  assert.equal(it.hostOf(web!), "p3");
  await it.untilStatus(api!, "RUNNING");
  const lines = linesOf(await explained(it, api!), "cluster");
  assert.ok(
    lines.some((line) => /warning: placement plugin: no answer within 500 ms; best-fit/.test(line)),
    lines.join("\n"),
  );
});
