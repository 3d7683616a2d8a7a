import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AggregateGroup, spread } from "../protocol/capacity.ts";
import { candidate, request } from "./builders.fake.ts";
import type { Aggregated, Candidate, Quantities } from "./candidate.ts";
import { likelihood } from "./likelihood.ts";
import { schedule } from "./schedule.ts";

const NONE: Quantities = { cpuMillis: 0, memoryBytes: 0, gpus: 0 };
const group = (workers: readonly (readonly [cpuMillis: number, memoryBytes: number])[]): AggregateGroup => ({
  workers: workers.length,
  cpuMillisTotal: 4000 * workers.length,
  memoryBytesTotal: 1000 * workers.length,
  cpuMillisFree: spread(workers.map(([cpu]) => cpu)),
  memoryBytesFree: spread(workers.map(([, memory]) => memory)),
  gpusFree: spread(workers.map(() => 0)),
});
const cluster = (id: string, aggregated: Aggregated, change: Partial<Candidate> = {}) =>
  candidate(id, { aggregated, total: { cpuMillis: 4000, memoryBytes: 1000, gpus: 0 }, ...change });
const ask = (cpuMillis: number, memoryBytes: number) => request({ cpuMillis, memoryBytes });

test("what it calls certain is true, and what it calls impossible as well", () => {
  const worker = fc.tuple(fc.integer({ min: 0, max: 4000 }), fc.integer({ min: 0, max: 1000 }));
  fc.assert(
    fc.property(
      fc.array(worker, { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 0, max: 4000 }),
      fc.integer({ min: 0, max: 1000 }),
      (workers, cpu, memory) => {
        const chance = likelihood(ask(cpu, memory), { groups: [group(workers)], reserved: NONE });
        const fits = workers.some(([freeCpu, freeMemory]) => freeCpu >= cpu && freeMemory >= memory);
        assert.ok(chance >= 0 && chance <= 1);
        if (chance === 1) assert.ok(fits);
        if (chance === 0) assert.ok(!fits);
      },
    ),
    { numRuns: 1000 },
  );
});

test("many small workers are less likely than one large, whatever their sum", () => {
  const small = { groups: [group(Array.from({ length: 10 }, () => [500, 500] as const))], reserved: NONE };
  const large = { groups: [group([[2000, 900]])], reserved: NONE };
  assert.equal(likelihood(ask(1000, 100), small), 0);
  assert.equal(likelihood(ask(1000, 100), large), 1);
});

test("what was handed over since lowers the chance; more workers raise it", () => {
  const workers = (count: number) =>
    Array.from({ length: count }, (_, index) => [index % 2 ? 3000 : 500, 900] as const);
  const chance = (count: number, reserved: Quantities) =>
    likelihood(ask(2000, 100), { groups: [group(workers(count))], reserved });
  const handed = { cpuMillis: 4000, memoryBytes: 200, gpus: 0 };
  assert.ok(chance(4, handed) < chance(4, NONE));
  assert.ok(chance(4, handed) < chance(20, handed));
});

test("several architectures: one of them is enough", () => {
  const groups = [group([[100, 100]]), group([[2000, 900]])];
  assert.equal(likelihood(ask(1000, 100), { groups, reserved: NONE }), 1);
  assert.equal(likelihood(ask(1000, 100), { groups: [], reserved: NONE }), 0);
});

test("clusters are ranked by the chance that one worker has room, then siblings, then room", () => {
  const sure = { groups: [group([[3000, 900]])], reserved: NONE };
  const unsure = {
    groups: [
      group([
        [3000, 900],
        [0, 0],
        [0, 0],
        [0, 0],
      ]),
    ],
    reserved: NONE,
  };
  const chosen = (a: Candidate, b: Candidate) => {
    const decision = schedule(request({ cpuMillis: 2000, memoryBytes: 500, applicationId: "app" }), [a, b], {
      strategy: "best-fit",
    });
    return decision.placed && decision.candidateId;
  };
  const applications = new Set(["app"]);
  assert.equal(chosen(cluster("a", unsure), cluster("b", sure)), "b");
  assert.equal(chosen(cluster("a", sure), cluster("b", sure, { applications })), "b");
  assert.equal(chosen(cluster("a", sure), cluster("b", unsure, { applications })), "a");
  const roomier = { ...sure, groups: [group([[4000, 1000]])] };
  const free = { cpuMillis: 4000, memoryBytes: 1000, gpus: 0 };
  assert.equal(
    chosen(cluster("a", sure, { free: { ...free, cpuMillis: 3000 } }), cluster("b", roomier, { free })),
    "b",
  );
});

test("replicas part, even when the other worker is nearly full; services of one application share a worker if all else is equal", () => {
  const has = candidate("a", { replicas: new Map([["web", 1]]), applications: new Set(["app"]) });
  const busy = candidate("b", { free: { cpuMillis: 1000, memoryBytes: 2 ** 27, gpus: 0 }, replicas: new Map() });
  const idle = candidate("0", { replicas: new Map() });
  const chosen = (serviceName: string, ...candidates: Candidate[]) => {
    const decision = schedule(request({ serviceName, applicationId: "app" }), candidates, { strategy: "best-fit" });
    return decision.placed && decision.candidateId;
  };
  assert.equal(chosen("web", has, busy), "b");
  assert.equal(chosen("web", has), "a");
  assert.equal(chosen("db", idle, has), "a");
});
