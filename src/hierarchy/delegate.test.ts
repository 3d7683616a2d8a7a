import assert from "node:assert/strict";
import { test } from "node:test";
import type { Link, PlacementRequest, Position } from "../protocol/placement-request.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import { type Decided, type Delegated, delegate, reserve } from "./delegate.ts";

const at = (x: number): Position => ({ network: { position: [x, 0, 0], heightMs: 0, error: 0.1 } });
const worker = (id: string, x: number): Candidate => ({
  id,
  name: id,
  active: true,
  free: { cpuMillis: 1000, memoryBytes: 1000, gpus: 0 },
  total: { cpuMillis: 1000, memoryBytes: 1000, gpus: 0 },
  architectures: ["amd64"],
  virtualization: ["container"],
  heldPorts: new Map(),
  position: at(x),
  replicas: new Map(),
  applications: new Set(),
});
const asked = (service: string, links: readonly Link[] = [], change: Partial<PlacementRequest> = {}): Delegated => ({
  instanceId: `${service}-0`,
  request: {
    memoryBytes: 100,
    cpuMillis: 100,
    gpus: 0,
    virtualization: "container",
    architectures: [],
    ports: [],
    serviceName: service,
    applicationId: "app",
    links: [...links],
    ...change,
  },
});
const near = (service: string, waits = true): Link => ({ measure: "latency", threshold: 10, service, waits });
const run = (instances: readonly Delegated[], candidates: readonly Candidate[], onDecision?: (one: Decided) => void) =>
  delegate({ instances, candidates, lost: new Set(), strategy: "best-fit", onDecision });

test("what is placed in one walk is a target for the others of it, whatever their order", () => {
  const workers = [worker("a", 0), worker("b", 500)];
  const steps = run([asked("db"), asked("web", [near("db")])], workers);
  assert.deepEqual(
    steps.map((step) => step.do === "assign" && step.childId),
    ["a", "a"],
  );
  const early = run([asked("web", [near("db")]), asked("db")], workers);
  assert.deepEqual(early, [
    { do: "assign", instanceId: "web-0", childId: "a" },
    { do: "assign", instanceId: "db-0", childId: "a" },
  ]);
  const alone = run([asked("web", [near("db")])], workers)[0]!;
  assert.ok(alone.do === "refuse" && alone.waitsFor?.[0] === "an instance of service db");
});

test("replicas of one burst go to different workers", () => {
  const workers = [worker("a", 0), worker("b", 1), worker("c", 2)];
  const replicas = [0, 1, 2].map((number) => ({ ...asked("web"), instanceId: `web-${number}` }));
  const children = run(replicas, workers).map((step) => step.do === "assign" && step.childId);
  assert.deepEqual(children.sort(), ["a", "b", "c"]);
});

test("reserve() counts what is handed to a cluster against its figures", () => {
  const cluster = {
    ...worker("k", 0),
    aggregated: { groups: [], reserved: { cpuMillis: 5, memoryBytes: 5, gpus: 0 } },
  };
  const after = reserve(cluster, "web-0", asked("web").request);
  assert.deepEqual(after.aggregated?.reserved, { cpuMillis: 105, memoryBytes: 105, gpus: 0 });
  assert.equal(after.replicas?.get("web"), 1);
  assert.ok(after.applications?.has("app"));
});

test("each decision is told with what it was made from", () => {
  const told: string[] = [];
  run([asked("db"), asked("web")], [worker("a", 0)], ({ instanceId, decision, candidates }) => {
    told.push(`${instanceId} ${decision.placed} ${candidates[0]!.free.cpuMillis}`);
  });
  assert.deepEqual(told, ["db-0 true 1000", "web-0 true 900"]);
});
