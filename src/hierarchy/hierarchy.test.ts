import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import { aggregate } from "./capacity.ts";
import { type ChildContact, liveness, lostChildren } from "./children.ts";
import { type Delegated, delegate } from "./delegate.ts";

const request = (change: Partial<PlacementRequest> = {}): PlacementRequest => ({
  memoryBytes: 100,
  cpuMillis: 100,
  gpus: 0,
  virtualization: "container",
  architectures: [],
  ports: [],
  ...change,
});
const child = (id: string, cpuMillis: number, memoryBytes: number): Candidate => ({
  id,
  name: id,
  active: true,
  free: { cpuMillis, memoryBytes, gpus: 0 },
  total: { cpuMillis, memoryBytes, gpus: 0 },
  architectures: ["amd64"],
  virtualization: ["container"],
  heldPorts: new Map(),
});
const none = new Set<string>();

test("a burst never overcommits a child, and what does not fit is refused with verdicts", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({ cpuMillis: fc.integer({ min: 0, max: 400 }), memoryBytes: fc.integer({ min: 0, max: 400 }) }),
        { maxLength: 60 },
      ),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 0, max: 1000 })), { maxLength: 5 }),
      (needs, rooms) => {
        const instances: Delegated[] = needs.map((need, index) => ({
          instanceId: `i${index}`,
          request: request(need),
        }));
        const candidates = rooms.map(([cpu, memory], index) => child(`c${index}`, cpu, memory));
        const steps = delegate({ instances, candidates, lost: none, strategy: "best-fit" });
        assert.equal(steps.length, instances.length);
        for (const candidate of candidates) {
          const taken = steps.flatMap((step) =>
            step.do === "assign" && step.childId === candidate.id ? [needs[Number(step.instanceId.slice(1))]!] : [],
          );
          assert.ok(taken.reduce((sum, need) => sum + need.cpuMillis, 0) <= candidate.free.cpuMillis);
          assert.ok(taken.reduce((sum, need) => sum + need.memoryBytes, 0) <= candidate.free.memoryBytes);
        }
      },
    ),
  );
});

test("an instance that sits well is left alone", () => {
  const steps = delegate({
    instances: [{ instanceId: "i", request: request(), childId: "a" }],
    candidates: [child("a", 0, 0)],
    lost: none,
    strategy: "best-fit",
  });
  assert.deepEqual(steps, []);
});

test("what a lost child had goes to another child, and stays where it is when nobody else can take it", () => {
  const instances = [{ instanceId: "i", request: request(), childId: "a" }];
  const moved = delegate({
    instances,
    candidates: [child("a", 1000, 1000), child("b", 500, 500)],
    lost: new Set(["a"]),
    strategy: "best-fit",
  });
  assert.deepEqual(
    moved.map((step) => step.do),
    ["takeBack", "assign"],
  );
  assert.equal(moved[1]!.do === "assign" && moved[1]!.childId, "b");
  const stuck = delegate({
    instances,
    candidates: [child("a", 1000, 1000)],
    lost: new Set(["a"]),
    strategy: "best-fit",
  });
  assert.deepEqual(stuck, []);
});

test("what a child declined is taken back although nobody else can take it; a wish to move is not enough for that", () => {
  const ask = (why: object) =>
    delegate({
      instances: [{ instanceId: "i", request: request(), childId: "a", ...why }],
      candidates: [child("a", 1000, 1000)],
      lost: none,
      strategy: "best-fit",
    }).map((step) => step.do);
  assert.deepEqual(ask({ takeBack: "declined" }), ["takeBack", "refuse"]);
  assert.deepEqual(ask({ moveIfPossible: "failed too often" }), []);
});

test("two instances with one host port go to two children, and a third is refused", () => {
  const ports = [{ hostPort: 80, containerPort: 80, protocol: "tcp" as const }];
  const instances = ["x", "y", "z"].map((instanceId) => ({ instanceId, request: request({ ports }) }));
  const steps = delegate({
    instances,
    candidates: [child("a", 1000, 1000), child("b", 1000, 1000)],
    lost: none,
    strategy: "best-fit",
  });
  assert.deepEqual(
    steps.map((step) => step.do),
    ["assign", "assign", "refuse"],
  );
  assert.equal(new Set(steps.flatMap((step) => (step.do === "assign" ? [step.childId] : []))).size, 2);
});

const options = { suspectAfterMs: 15_000, lostAfterMs: 30_000 };
const contact = (id: string, silentMs: number, connected = true): ChildContact => ({
  id,
  heardAt: 1_000_000 - silentMs,
  connected,
});

test("a child is suspect when its link is down or silent, and lost only after the longer time", () => {
  assert.equal(liveness(contact("a", 0), 1_000_000, options), "active");
  assert.equal(liveness(contact("a", 0, false), 1_000_000, options), "suspect");
  assert.equal(liveness(contact("a", 20_000), 1_000_000, options), "suspect");
  assert.equal(liveness(contact("a", 30_000), 1_000_000, options), "lost");
});

test("when most children fall silent together none is given up; a single one is", () => {
  const together = ["a", "b", "c"].map((id) => contact(id, 31_000));
  assert.equal(lostChildren([...together, contact("d", 0)], 1_000_000, options).size, 0);
  assert.deepEqual(
    [...lostChildren([contact("a", 31_000), contact("b", 0), contact("c", 0)], 1_000_000, options)],
    ["a"],
  );
  assert.deepEqual([...lostChildren([contact("a", 31_000)], 1_000_000, options)], ["a"]);
});

test("the aggregate tells sums, means and deviations, in all and by architecture, and never a worker", () => {
  const worker = (architecture: string, free: number) => ({
    architecture,
    virtualization: ["container"],
    total: { cpuMillis: 4000, memoryBytes: 4000, gpus: 0 },
    free: { cpuMillis: free, memoryBytes: free, gpus: 0 },
    cpuPercent: 10,
    memoryPercent: 20,
  });
  const result = aggregate([worker("amd64", 1000), worker("amd64", 3000), worker("arm64", -5)]);
  assert.deepEqual(result.byArchitecture.amd64?.memoryBytesFree, { sum: 4000, mean: 2000, deviation: 1000 });
  assert.equal(result.byArchitecture.arm64?.cpuMillisFree.sum, 0);
  assert.equal(result.all.workers, 3);
  assert.deepEqual(aggregate([]).all.cpuMillisFree, { sum: 0, mean: 0, deviation: 0 });
});
