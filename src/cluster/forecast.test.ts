import assert from "node:assert/strict";
import { test } from "node:test";
import { validate } from "../base/validation.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { ClusterMessage, PLAN_VERSION } from "../protocol/uplink.ts";
import { type Forecast, forecast } from "./forecast.ts";
import type { Instance, Worker } from "./model.ts";
import type { PlanInput } from "./plan.ts";

const id = (number: number) => `${number.toString(16).padStart(24, "0")}-0`;

const request = (change: Partial<PlacementRequest> = {}): PlacementRequest => ({
  ...{ memoryBytes: 0, cpuMillis: 600, gpus: 0, virtualization: "container", architectures: [], ports: [] },
  ...change,
});

const worker = (hostname: string, cpuMillis: number): Worker => ({
  ...{ id: `id-${hostname}`, hostname, keyDigest: hostname, manifestRevision: 0 },
  info: {
    ...{ hostname, architecture: "amd64", cpuMillis, memoryBytes: 1000, gpus: 0, virtualization: ["container"] },
    ...{ publicIp: "", runtime: "", version: "", labels: {} },
  },
});

const ask = (...numbers: number[]): Forecast["instances"] =>
  numbers.map((number) => ({
    instanceId: id(number),
    jobName: `a.n.s${number}.n`,
    instanceNumber: 0,
    request: request(),
  }));

const question = (change: Partial<Forecast>): Forecast => ({
  instances: [],
  leaving: [],
  namesWorkers: true,
  ...change,
});

const running = (number: number, workerId: string): Instance => ({
  assignment: {
    ...{ instanceId: id(number), generation: 1, serviceId: "s", applicationId: "a", jobName: "a.n.r.n" },
    ...{ instanceNumber: 0, request: request() },
    workload: {
      ...{ image: "", command: [], environment: [], ports: [], oneShot: false, fuse: false },
      ...{ stopGraceMs: 0, memoryBytes: 0, cpuMillis: 0 },
    },
  },
  placement: { workerId, number: 1 },
  ...{ seenAt: 0, since: 0, failures: 0, tried: new Map() },
});

const observed = (change: Partial<PlanInput> = {}): PlanInput => ({
  ...{ now: 0, workers: [worker("big", 1000), worker("small", 700)], instances: [], withdrawals: [] },
  ...{ livenessOf: () => "active", lost: new Set(), strategy: "best-fit", isAutonomous: false },
  ...change,
});

test("a cluster says on which worker each would be, with reservations, and declines in the usual words", () => {
  const answers = forecast(observed(), question({ instances: ask(1, 2, 3) }));
  assert.deepEqual(
    answers.map(({ outcome, worker: name }) => [outcome, name]),
    [
      ["placed", "big"],
      ["placed", "small"],
      ["declined", undefined],
    ],
  );
  assert.match(answers[2]!.detail, /^no worker fits: big: cpu \(needs 0.6 cores, has 0.4 cores\); small: cpu/);
  assert.ok(answers[2]!.lines.some((line) => line.startsWith("✗ big: cpu: needed 0.6 cores")));
  const message = { type: "plan.answer", version: PLAN_VERSION, question: "q", instances: answers };
  assert.ok(validate(ClusterMessage, message).ok);
});

test("whoever may not see workers is told of none that would be chosen", () => {
  const [answer] = forecast(observed(), question({ instances: ask(1), namesWorkers: false }));
  assert.deepEqual([answer!.outcome, answer!.worker], ["placed", undefined]);
  assert.ok(!JSON.stringify(answer).includes("big"), JSON.stringify(answer));
});

test("who leaves makes room, and what stays keeps its own", () => {
  const full = observed({ workers: [worker("big", 1000)], instances: [running(9, "id-big")] });
  assert.equal(forecast(full, question({ instances: ask(1) }))[0]!.outcome, "declined");
  const answers = forecast(full, question({ instances: ask(9), leaving: [id(9)] }));
  assert.deepEqual([answers[0]!.outcome, answers[0]!.worker], ["placed", "big"]);
  assert.equal(full.instances.length, 1);
});

test("what would wait says for what", () => {
  const users = [{ measure: "latency" as const, threshold: 20, target: "192.0.2.7", kind: "host" as const }];
  const [one] = ask(1);
  const [answer] = forecast(observed(), question({ instances: [{ ...one!, request: request({ users }) }] }));
  assert.deepEqual(
    [answer!.outcome, answer!.detail],
    ["waits", "waiting for a measurement of 192.0.2.7, for at most 15 s"],
  );
});

test("only what is asked about is decided: what is open already takes nothing from it", () => {
  const open: Instance = { ...running(7, ""), placement: undefined };
  const lost = running(8, "id-gone");
  const answers = forecast(
    observed({
      workers: [worker("big", 1000), worker("gone", 600)],
      instances: [lost, open],
      livenessOf: (id) => (id === "id-gone" ? "lost" : "active"),
      lost: new Set(["id-gone"]),
    }),
    question({ instances: ask(1, 2) }),
  );
  assert.deepEqual(
    answers.map(({ instanceId, outcome, worker: name }) => [instanceId, outcome, name]),
    [
      [id(1), "placed", "big"],
      [id(2), "declined", undefined],
    ],
  );
});

test("of too many the first are decided, and of the others nothing is said", () => {
  const answers = forecast(observed(), question({ instances: ask(1, 2, 3) }), 2);
  assert.deepEqual(
    answers.map(({ instanceId }) => instanceId),
    [id(1), id(2)],
  );
});
