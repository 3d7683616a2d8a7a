import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Liveness } from "../hierarchy/children.ts";
import type { InstanceStatus } from "../protocol/instance.ts";
import { assignment, Bench, idOf, port80 } from "./builders.fake.ts";
import { candidates } from "./capacity.ts";
import { FAILURES_BEFORE_MOVE } from "./moves.ts";
import { type PlanInput, type Portion, plan, WAIT_MS } from "./plan.ts";

test("an instance is placed once, and a refused one is declined once, with the reason", () => {
  const bench = new Bench();
  bench.want(assignment(1), assignment(2, { memoryBytes: 2000 }));
  assert.match((bench.pass()[0] as { detail: string }).detail, /there is no worker yet/);
  const worker = bench.worker("w");
  // A declined instance is the root's again.
  assert.deepEqual(bench.pass(), []);
  bench.isAutonomous = true;
  assert.deepEqual(bench.pass(), [{ do: "place", instanceId: idOf(1), workerId: worker }]);
});

test("an assignment of a newer generation is placed anew, one of an older generation is ignored", () => {
  const bench = new Bench();
  bench.worker("w");
  bench.want(assignment(1));
  bench.pass();
  const first = bench.state.instance(idOf(1))!.placement!;
  bench.want({ ...assignment(1), generation: 3 });
  bench.pass();
  assert.ok(bench.state.instance(idOf(1))!.placement!.number > first.number);
  bench.want({ ...assignment(1), generation: 2 });
  assert.equal(bench.state.instance(idOf(1))!.assignment.generation, 3);
  assert.equal(bench.state.withdrawals.length, 1, "the old one keeps its room until it is gone");
});

test("where all is settled, nobody asks what the workers have left", () => {
  const bench = new Bench();
  bench.worker("w");
  bench.want(assignment(1), assignment(2));
  bench.pass();
  const input: PlanInput = {
    ...bench.input(),
    positionOf: () => assert.fail("asked for a position"),
    livenessOf: () => assert.fail("asked for a worker's state"),
  };
  assert.deepEqual(plan(input), []);
});

test("a mass move is decided in portions, which come round to everybody, and end where all at once would", () => {
  const bench = new Bench();
  const left = bench.worker("left");
  bench.want(...Array.from({ length: 10 }, (_, index) => assignment(index)));
  bench.pass();
  // The first two stay where they are: nobody else has room for them.
  bench.want(...[0, 1].map((number) => ({ ...assignment(number, { cpuMillis: 9_000 }) })));
  const right = bench.worker("right");
  bench.liveness.set(left, "lost");
  let after: Portion["after"];
  for (let passes = 0; passes < 5; passes++) {
    let last: Portion["after"];
    const steps = plan({ ...bench.input(), portion: { max: 3, after, onMore: (id) => (last = id) } });
    const moved = new Set(steps.map(({ instanceId }) => instanceId));
    assert.ok(moved.size <= 3, `${moved.size} at once`);
    bench.state.applySteps(steps);
    after = last;
  }
  assert.deepEqual(plan(bench.input()), []);
  assert.deepEqual(
    Array.from({ length: 10 }, (_, number) => bench.at(number)),
    [left, left, ...Array.from({ length: 8 }, () => right)],
  );
});

/** Six that should leave their worker, and cannot; told whom a pass of at most `max` looks at. */
async function crowded(max: number): Promise<{ bench: Bench; pass: () => Set<string> }> {
  const bench = new Bench();
  bench.worker("w");
  bench.want(...[1, 2, 3, 4, 5, 6].map((number) => assignment(number)));
  bench.pass();
  await bench.clock.advance(20_001);
  let after: Portion["after"];
  const pass = () => {
    const looked = new Set<string>();
    let last: Portion["after"];
    const portion = { max, after, onMore: (turn: Portion["after"]) => (last = turn) };
    const steps = plan({ ...bench.input(), portion, onDecision: ({ instanceId }) => looked.add(instanceId) });
    bench.state.applySteps(steps);
    after = last;
    assert.ok(looked.size <= max, `${looked.size} at once`);
    return looked;
  };
  return { bench, pass };
}

test("what has no place yet does not queue behind those that no other worker can take", async () => {
  const { bench, pass } = await crowded(3);
  pass();
  bench.want(assignment(7));
  pass();
  assert.ok(bench.at(7));
});

test("those that have no place and those that should leave theirs have their turns, however many either are", async () => {
  const { bench, pass } = await crowded(2);
  // These wait to hear from the worker that they want.
  bench.liveness.set(bench.worker("silent"), "suspect");
  const numbers = [7, 8, 9, 10];
  bench.want(...numbers.map((number) => assignment(number, { directWorkers: ["silent"] })));
  const looked = [...Array.from({ length: 6 }, () => [...pass()])].flat();
  for (const number of [1, 2, 3, 4, 5, 6]) assert.equal(looked.filter((id) => id === idOf(number)).length, 1);
  for (const number of numbers) assert.ok(looked.includes(idOf(number)), `${number} is passed over`);
  await bench.clock.advance(WAIT_MS);
  bench.want(assignment(11));
  for (let passes = 0; passes < 5; passes++) pass();
  assert.ok(bench.at(11), "what waits keeps nobody waiting");
});

test("direct constraints pin to workers by host name", () => {
  const bench = new Bench();
  bench.worker("a");
  const b = bench.worker("b", 100);
  bench.want(assignment(1, { directWorkers: ["b", "c"] }), assignment(2, { directWorkers: ["c"] }));
  assert.deepEqual(
    bench.pass().map((step) => step.do),
    ["place", "decline"],
  );
  assert.equal(bench.at(1), b);
});

test("what only a withdrawn instance keeps out waits for it, but not for ever", () => {
  const bench = new Bench();
  bench.worker("w");
  bench.want(assignment(1, { ports: port80 }));
  bench.pass();
  bench.unwant(1);
  bench.want(assignment(2, { ports: port80 }), assignment(3, { ports: port80 }));
  // Room for one only: the other has nothing to wait for.
  assert.deepEqual(
    bench.pass().map((step) => [step.do, step.instanceId]),
    [
      ["wait", idOf(2)],
      ["decline", idOf(3)],
    ],
  );
  bench.gone(1);
  assert.deepEqual(
    bench.pass().map((step) => step.do),
    ["place"],
  );
  bench.unwant(2);
  bench.want(assignment(4, { ports: port80 }));
  assert.equal(bench.pass()[0]?.do, "wait");
});

test("waiting ends with a refusal when the withdrawn instance stays too long", async () => {
  const bench = new Bench();
  bench.worker("w");
  bench.want(assignment(1, { memoryBytes: 1000 }));
  bench.pass();
  bench.unwant(1);
  bench.want(assignment(2, { memoryBytes: 1000 }));
  assert.equal(bench.pass()[0]?.do, "wait");
  await bench.clock.advance(WAIT_MS - 1);
  assert.deepEqual(bench.pass(), []);
  await bench.clock.advance(1);
  assert.match((bench.pass()[0] as { detail: string }).detail, /memory/);
});

test("while the only worker that fits is merely suspect, an instance waits to hear from it", async () => {
  const bench = new Bench();
  const worker = bench.worker("w");
  bench.liveness.set(worker, "suspect");
  bench.want(assignment(1), assignment(2, { memoryBytes: 2000 }));
  assert.deepEqual(
    bench.pass().map((step) => step.do),
    ["wait", "decline"],
  );
  assert.match(bench.state.instance(idOf(1))!.refusal!.detail, /to hear from worker "w"/);
  bench.liveness.set(worker, "active");
  assert.equal(bench.pass()[0]?.do, "place");
  bench.liveness.set(worker, "suspect");
  bench.want(assignment(3));
  bench.pass();
  await bench.clock.advance(WAIT_MS);
  assert.equal(bench.pass()[0]?.do, "decline");
});

test("a lost worker's instances move when possible, and stay when not", () => {
  const bench = new Bench();
  const a = bench.worker("a");
  bench.want(assignment(1, { memoryBytes: 600 }), assignment(2, { memoryBytes: 300 }));
  bench.pass();
  bench.says(1, "RUNNING");
  bench.liveness.set(a, "suspect");
  const b = bench.worker("b", 1000, 400);
  assert.deepEqual(bench.pass(), [], "a suspect keeps what it has");
  bench.liveness.set(a, "lost");
  assert.deepEqual(
    bench.pass().map((step) => [step.do, step.instanceId]),
    [
      ["withdraw", idOf(2)],
      ["place", idOf(2)],
    ],
  );
  assert.deepEqual([bench.at(1), bench.at(2)], [a, b]);
  bench.liveness.set(a, "active");
  assert.deepEqual(bench.pass(), [], "back again, it simply goes on");
  assert.equal(bench.state.instance(idOf(1))!.report?.status, "RUNNING");
  assert.equal(bench.state.withdrawals.length, 1, "until it says that the moved one is gone");
});

test("what a worker does not take up, or fails repeatedly, gets a try on each other worker", async () => {
  const bench = new Bench();
  const a = bench.worker("a", 3000, 3000);
  bench.want(assignment(1));
  bench.pass();
  await bench.clock.advance(20_001);
  assert.deepEqual(bench.pass(), [], "nobody else can take it");
  const b = bench.worker("b");
  bench.pass();
  assert.equal(bench.at(1), b);
  const c = bench.worker("c");
  for (let since = 1; since <= FAILURES_BEFORE_MOVE; since++) {
    assert.equal(bench.at(1), b);
    bench.says(1, "FAILED", since);
    bench.says(1, "FAILED", since);
    bench.pass();
  }
  assert.equal(bench.at(1), c);
  await bench.clock.advance(20_001);
  assert.deepEqual(bench.pass(), [], "a and b had their try");
  bench.says(1, "PULLING");
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.pass(), []);
  assert.equal(bench.at(1), c);
  bench.liveness.set(c, "lost");
  bench.pass();
  assert.ok([a, b].includes(bench.at(1)!), "better than a lost one");
});

test("a completed instance uses nothing, and never runs again", () => {
  const bench = new Bench();
  const a = bench.worker("a");
  bench.want(assignment(1, { memoryBytes: 1000 }));
  bench.pass();
  bench.says(1, "COMPLETED");
  bench.want(assignment(2, { memoryBytes: 1000 }));
  assert.deepEqual(
    bench.pass().map((step) => step.do),
    ["place"],
  );
  bench.worker("b");
  bench.liveness.set(a, "lost");
  bench.pass();
  assert.equal(bench.at(1), a);
  bench.state.removeWorker(a);
  bench.pass();
  assert.equal(bench.at(1), undefined);
});

test("whatever happens, no worker is overcommitted, no host port given twice, and a plan leaves nothing to do", async () => {
  const event = fc.oneof(
    fc.record({ do: fc.constant("want" as const), which: fc.nat(20), memory: fc.nat(500), port: fc.boolean() }),
    fc.record({ do: fc.constant("unwant" as const), which: fc.nat(20) }),
    fc.record({ do: fc.constant("settle" as const), which: fc.nat(20) }),
    fc.record({
      do: fc.constant("liveness" as const),
      which: fc.nat(2),
      is: fc.constantFrom<Liveness>("active", "suspect", "lost"),
    }),
    fc.record({
      do: fc.constant("says" as const),
      which: fc.nat(20),
      status: fc.constantFrom<InstanceStatus>("RUNNING", "FAILED", "COMPLETED"),
    }),
    fc.record({ do: fc.constant("later" as const), ms: fc.nat(20_000) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 40, size: "max" }), fc.boolean(), async (events, isAutonomous) => {
      const bench = new Bench();
      bench.isAutonomous = isAutonomous;
      const workers = ["a", "b", "c"].map((name) => bench.worker(name));
      let generation = 1;
      for (const one of events) {
        if (one.do === "want")
          bench.want({
            ...assignment(one.which, { memoryBytes: one.memory, ports: one.port ? port80 : [] }),
            generation: generation++,
          });
        else if (one.do === "unwant") bench.unwant(one.which);
        else if (one.do === "settle") bench.gone(one.which);
        else if (one.do === "liveness") bench.liveness.set(workers[one.which]!, one.is);
        else if (one.do === "says" && bench.at(one.which)) bench.says(one.which, one.status, generation++);
        else if (one.do === "later") await bench.clock.advance(one.ms);
        bench.pass();
        checkCapacity(bench);
      }
    }),
    { numRuns: 150 },
  );
});

function checkCapacity(bench: Bench): void {
  for (const { id, free } of candidates(bench.input())) {
    assert.ok(free.memoryBytes >= 0, "memory is never overcommitted");
    const held = [
      ...bench.state.instancesOn(id).filter(({ report }) => report?.status !== "COMPLETED"),
      ...bench.state.withdrawals.filter(({ workerId }) => workerId === id),
    ].filter((one) => ("assignment" in one ? one.assignment.request : one.request).ports.length > 0);
    assert.ok(held.length <= 1, "a host port has one holder");
  }
}
