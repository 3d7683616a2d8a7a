import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Liveness } from "../hierarchy/children.ts";
import { LINGER_MS, READY_MS, SETTLE_MS } from "../hierarchy/handover.ts";
import type { Assignment, InstanceReport, InstanceStatus } from "../protocol/instance.ts";
import { at, link } from "../scheduler/builders.fake.ts";
import { assignment, Bench, idOf, port80 } from "./builders.fake.ts";
import { candidates } from "./capacity.ts";
import { isStandby, type Placement, placementsOf } from "./model.ts";
import { FAILURES_BEFORE_MOVE } from "./moves.ts";

const LIVE: InstanceReport["live"] = {
  sandbox: "10.18.0.2",
  worker: { id: "f".repeat(24), address: "192.0.2.7", subnets: [] },
};
const healthcheck = { type: "tcp", port: 80, intervalMs: 1, timeoutMs: 1, retries: 1, startPeriodMs: 5_000 } as const;
const checked: Assignment = { ...assignment(1), workload: { ...assignment(1).workload, healthcheck } };

/** One instance that runs on `a`, and is to move; `b` can take it. */
function running(wanted = assignment(1)): { bench: Bench; a: string; b: string } {
  const bench = new Bench();
  const a = bench.worker("a");
  bench.want(wanted);
  bench.pass();
  bench.says(1, "RUNNING", 1, { live: LIVE });
  const b = bench.worker("b");
  return { bench, a, b };
}

/** Its move to `b` has begun. */
function moving(wanted = assignment(1)): { bench: Bench; a: string; b: string } {
  const it = running(wanted);
  it.bench.broken.set(1, "too far");
  assert.deepEqual(it.bench.pass(), [{ do: "prepare", instanceId: idOf(1), workerId: it.b, reason: "too far" }]);
  return it;
}

const kinds = (steps: readonly { readonly do: string }[]) => steps.map((step) => step.do);

test("a move starts the new one, switches when that serves, and ends the old one when all have heard of it", async () => {
  const { bench, a, b } = moving();
  const before = bench.instance(1);
  assert.equal(before.placement?.workerId, a);
  assert.equal(before.report?.status, "RUNNING", "the old one speaks for the instance");
  for (const status of ["PULLING", "CREATING"] as const) {
    bench.successorSays(1, status);
    assert.deepEqual(bench.pass(), []);
    assert.equal(bench.instance(1).report?.status, "RUNNING");
  }
  bench.successorSays(1, "RUNNING", { live: LIVE });
  await bench.clock.advance(SETTLE_MS - 1);
  assert.deepEqual(bench.pass(), [], "it may not listen yet");
  await bench.clock.advance(1);
  assert.deepEqual(bench.pass(), [{ do: "switch", instanceId: idOf(1), workerId: b, reason: "too far" }]);
  const after = bench.instance(1);
  assert.deepEqual([after.placement?.workerId, after.report?.status], [b, "RUNNING"]);
  assert.equal(after.moveNote, 'moved from worker "a": too far');
  assert.equal(after.predecessor?.placement.workerId, a, "it is still there, on standby");
  assert.deepEqual(bench.state.withdrawals, []);
  await bench.clock.advance(LINGER_MS - 1);
  assert.deepEqual(bench.pass(), []);
  await bench.clock.advance(1);
  assert.deepEqual(bench.pass(), [{ do: "retire", instanceId: idOf(1), workerId: a }]);
  assert.deepEqual(
    bench.state.withdrawals.map(({ workerId, number }) => [workerId, number]),
    [[a, before.placement!.number]],
  );
  assert.deepEqual(placementsOf(bench.instance(1)), [after.placement]);
  bench.gone(1);
  assert.deepEqual(bench.pass(), []);
});

test("with a healthcheck the new one takes over as soon as it is ready, and not before", async () => {
  const { bench, b } = moving(checked);
  bench.successorSays(1, "RUNNING");
  await bench.clock.advance(SETTLE_MS * 2);
  assert.deepEqual(bench.pass(), []);
  bench.successorSays(1, "RUNNING", { live: LIVE });
  assert.deepEqual(kinds(bench.pass()), ["switch"]);
  assert.equal(bench.at(1), b);
});

test("a new one whose worker does not tell the truth about where it is relieves nobody", async () => {
  const { bench, b } = moving(checked);
  bench.liars.add(b);
  bench.successorSays(1, "RUNNING", { live: LIVE });
  assert.deepEqual(bench.pass(), []);
  await bench.clock.advance(READY_MS + 5_001);
  assert.deepEqual(kinds(bench.pass()), ["abandon"]);
});

test("a new one that takes no traffic does not relieve one that does", async () => {
  const { bench } = moving();
  bench.successorSays(1, "RUNNING");
  await bench.clock.advance(SETTLE_MS * 2);
  assert.deepEqual(bench.pass(), []);
  bench.says(1, "RUNNING", 1);
  assert.deepEqual(kinds(bench.pass()), ["switch"], "workers without a network have none to take");
});

test("a new one that fails goes, the old one stays, and that worker has had its try", async () => {
  const late = (ms: number) => async (bench: Bench) => bench.clock.advance(ms);
  const cases: readonly [string, (bench: Bench, b: string) => void | Promise<void>, RegExp][] = [
    ["fails", (bench) => bench.successorSays(1, "FAILED", { detail: "no such image" }), /FAILED there: no such image/],
    ["ends", (bench) => bench.successorSays(1, "DEAD", { detail: "exit code 1" }), /DEAD there: exit code 1/],
    ["does not begin", late(20_001), /NODE_SCHEDULED for more than 20 s/],
    ["is on a lost worker", (bench, b) => void bench.liveness.set(b, "lost"), /not been heard from/],
    [
      "is never ready",
      async (bench) => {
        bench.successorSays(1, "RUNNING");
        await bench.clock.advance(READY_MS + 5_001);
      },
      /not ready for more than 125 s/,
    ],
  ];
  for (const [what, happens, reason] of cases) {
    const { bench, a, b } = moving(checked);
    await happens(bench, b);
    const [step, ...others] = bench.pass();
    assert.deepEqual([step?.do, others], ["abandon", []], what);
    assert.match((step as { reason: string }).reason, reason);
    const after = bench.instance(1);
    assert.deepEqual([after.placement?.workerId, after.report?.status, after.successor], [a, "RUNNING", undefined]);
    assert.match(after.moveNote!, /^not moved to worker "b": /);
    assert.deepEqual(
      bench.state.withdrawals.map(({ workerId }) => workerId),
      [b],
    );
    bench.gone(1);
    bench.liveness.set(b, "active");
    bench.broken.set(1, "still too far");
    assert.deepEqual(bench.pass(), [], "not there again so soon");
    const c = bench.worker("c");
    bench.broken.set(1, "still too far");
    assert.deepEqual(bench.pass(), [{ do: "prepare", instanceId: idOf(1), workerId: c, reason: "still too far" }]);
  }
});

test("a worker that could not take over rests, each time twice as long, and is tried again then", async () => {
  const { bench, b } = moving();
  for (const restMs of [60_000, 120_000, 240_000]) {
    bench.liveness.set(b, "lost");
    assert.deepEqual(kinds(bench.pass()), ["abandon"]);
    bench.gone(1);
    bench.liveness.set(b, "active");
    await bench.clock.advance(restMs - 1);
    bench.broken.set(1, "still too far");
    assert.deepEqual(bench.pass(), []);
    await bench.clock.advance(1);
    bench.broken.set(1, "still too far");
    assert.deepEqual(bench.pass(), [{ do: "prepare", instanceId: idOf(1), workerId: b, reason: "still too far" }]);
  }
});

test("a worker that fell silent in an earlier life of the instance is moved to like any other", () => {
  const { bench, a, b } = running();
  bench.liveness.set(a, "lost");
  assert.deepEqual(kinds(bench.pass()), ["withdraw", "place"]);
  bench.gone(1);
  bench.says(1, "RUNNING", 2, { live: LIVE });
  bench.liveness.set(a, "active");
  bench.broken.set(1, "too far");
  assert.deepEqual(bench.pass(), [{ do: "prepare", instanceId: idOf(1), workerId: a, reason: "too far" }]);
  assert.equal(bench.at(1), b);
});

test("a worker that could not take over gets its try all the same when the old one fails again and again", () => {
  const { bench, b } = moving();
  bench.successorSays(1, "FAILED");
  assert.deepEqual(kinds(bench.pass()), ["abandon"]);
  bench.gone(1);
  for (let since = 2; since < 2 + FAILURES_BEFORE_MOVE; since++) bench.says(1, "FAILED", since);
  assert.deepEqual(kinds(bench.pass()), ["withdraw", "place"]);
  assert.equal(bench.at(1), b);
});

test("a place that has become as bad in the meantime is not moved to", async () => {
  const bench = new Bench();
  const [a, b, db] = ["a", "b", "db"].map((name) => bench.worker(name)) as [string, string, string];
  const stands = (...all: [string, number][]) => {
    for (const [id, x] of all) bench.positions.set(id, at(x));
  };
  stands([a, 0], [b, 60], [db, 10]);
  bench.want(assignment(2, { directWorkers: ["db"] }));
  bench.pass();
  bench.want(assignment(1, { directWorkers: ["a", "b"], links: [link({ service: "a.n.s2.n" })] }));
  bench.pass();
  assert.equal(bench.at(1), a);
  bench.says(1, "RUNNING");
  stands([db, 70]);
  bench.broken.set(1, "too far");
  assert.deepEqual(bench.pass(), [{ do: "prepare", instanceId: idOf(1), workerId: b, reason: "too far" }]);
  bench.successorSays(1, "RUNNING");
  stands([b, 500]);
  assert.deepEqual(bench.pass(), [], "it may be near again when it is to take over");
  await bench.clock.advance(SETTLE_MS);
  const reason = "latency to service a.n.s2.n is 430.0 ms there, too: at most 20 ms was promised";
  assert.deepEqual(bench.pass(), [{ do: "abandon", instanceId: idOf(1), workerId: b, reason }]);
});

test("an old one that has to go is relieved by the new one at once, however far that is", async () => {
  const cases: readonly [string, (bench: Bench, a: string) => void | Promise<void>][] = [
    ["its worker is lost", (bench, a) => void bench.liveness.set(a, "lost")],
    [
      "it fails again and again",
      (bench) => {
        for (let since = 2; since < 2 + FAILURES_BEFORE_MOVE; since++) bench.says(1, "FAILED", since);
      },
    ],
  ];
  for (const [what, happens] of cases) {
    const { bench, a, b } = moving();
    bench.successorSays(1, "PULLING");
    await happens(bench, a);
    assert.deepEqual(kinds(bench.pass()), ["switch"], what);
    assert.deepEqual([bench.at(1), bench.instance(1).report?.status], [b, "PULLING"]);
    await bench.clock.advance(LINGER_MS);
    assert.deepEqual(kinds(bench.pass()), ["retire"]);
  }
});

test("a new one that fails right after the switch gives way to the old one, which still runs", async () => {
  const cases: readonly [string, (bench: Bench, b: string) => void, RegExp][] = [
    ["ends", (bench) => bench.says(1, "DEAD", 9, { detail: "exit code 3" }), /^back from worker "b": DEAD there: exit/],
    ["is not ready any more", (bench) => bench.says(1, "RUNNING", 9), /not ready there/],
    ["is lost", (bench, b) => void bench.liveness.set(b, "lost"), /not been heard from/],
  ];
  for (const [what, happens, note] of cases) {
    const { bench, a, b } = moving(checked);
    bench.successorSays(1, "RUNNING", { live: LIVE });
    assert.deepEqual(kinds(bench.pass()), ["switch"]);
    happens(bench, b);
    assert.deepEqual(kinds(bench.pass()), ["return"], what);
    const after = bench.instance(1);
    assert.deepEqual([after.placement?.workerId, after.report?.status], [a, "RUNNING"]);
    assert.match(after.moveNote!, note);
    assert.deepEqual([...after.failedMoves!.keys()], [b]);
    assert.deepEqual(
      bench.state.withdrawals.map(({ workerId }) => workerId),
      [b],
    );
  }
  const silent = moving(checked);
  silent.bench.successorSays(1, "RUNNING", { live: LIVE });
  silent.bench.pass();
  silent.bench.says(1, "RUNNING", 9);
  silent.bench.liveness.set(silent.b, "suspect");
  assert.deepEqual(silent.bench.pass(), [], "what it said last may be old: it is asked first");
  silent.bench.liveness.set(silent.b, "active");
  assert.deepEqual(kinds(silent.bench.pass()), ["return"]);

  const both = moving();
  both.bench.says(1, "DEAD", 2);
  both.bench.successorSays(1, "RUNNING");
  assert.deepEqual(kinds(both.bench.pass()), ["switch"]);
  both.bench.says(1, "DEAD", 3);
  assert.deepEqual(both.bench.pass(), [], "an old one that does not run is no better");
  both.bench.predecessorSays(1, "RUNNING");
  assert.deepEqual(kinds(both.bench.pass()), ["return"]);
});

test("an old one that has died is relieved as soon as the new one runs, and not before", () => {
  const { bench, a, b } = moving();
  bench.says(1, "DEAD", 2);
  assert.deepEqual(bench.pass(), [], "it is started again, which may be sooner");
  assert.equal(bench.at(1), a);
  bench.successorSays(1, "RUNNING", { live: LIVE });
  assert.deepEqual(kinds(bench.pass()), ["switch"]);
  assert.equal(bench.at(1), b);
});

test("a worker that is removed takes its part of the move with it", () => {
  const first = moving();
  first.bench.state.removeWorker(first.a);
  assert.deepEqual([first.bench.at(1), first.bench.pass()], [first.b, []]);
  const second = moving();
  second.bench.state.removeWorker(second.b);
  assert.deepEqual([second.bench.at(1), second.bench.instance(1).successor], [second.a, undefined]);
  assert.deepEqual(second.bench.pass(), []);
});

test("if the new one's worker is removed right after the switch, the old one, which still runs, takes over again", () => {
  const { bench, a, b } = moving(checked);
  bench.successorSays(1, "RUNNING", { live: LIVE });
  assert.deepEqual(kinds(bench.pass()), ["switch"]);
  const { placement } = bench.instance(1).predecessor!;
  const { manifestRevision } = bench.state.worker(a)!;
  bench.state.removeWorker(b);
  const after = bench.instance(1);
  assert.deepEqual([after.placement, after.report?.status, after.predecessor], [placement, "RUNNING", undefined]);
  assert.equal(after.moveNote, "back from a worker that was removed");
  assert.deepEqual([bench.state.withdrawals, bench.pass()], [[], []], "nothing is stopped, nothing started");
  assert.ok(bench.state.worker(a)!.manifestRevision > manifestRevision, "it is told that the traffic is its own");

  const dead = moving(checked);
  dead.bench.successorSays(1, "RUNNING", { live: LIVE });
  dead.bench.pass();
  dead.bench.predecessorSays(1, "DEAD");
  dead.bench.state.removeWorker(dead.b);
  assert.deepEqual(kinds(dead.bench.pass()), ["place"], "one that does not run is made anew");
});

test("what the root takes back or makes anew leaves both workers", () => {
  for (const change of [
    (bench: Bench) => bench.unwant(1),
    (bench: Bench) => bench.want({ ...assignment(1), generation: 2 }),
  ]) {
    const { bench, a, b } = moving();
    change(bench);
    assert.deepEqual(bench.state.withdrawals.map(({ workerId }) => workerId).sort(), [a, b].sort());
    assert.equal(bench.state.instance(idOf(1))?.successor, undefined);
  }
});

test("both keep their room and host ports until they are gone", async () => {
  const { bench, a, b } = moving(assignment(1, { ports: port80, memoryBytes: 600 }));
  const free = () => new Map(candidates(bench.input()).map(({ id, free }) => [id, free.memoryBytes]));
  assert.deepEqual([free().get(a), free().get(b)], [400, 400]);
  bench.want(assignment(2, { ports: port80 }));
  assert.deepEqual(kinds(bench.pass()), ["decline"], "each of them has the port");
  bench.successorSays(1, "RUNNING", { live: LIVE });
  await bench.clock.advance(SETTLE_MS);
  assert.deepEqual(kinds(bench.pass()), ["switch"]);
  assert.deepEqual([free().get(a), free().get(b)], [400, 400]);
  await bench.clock.advance(LINGER_MS);
  bench.pass();
  assert.deepEqual([free().get(a), free().get(b)], [400, 400]);
  bench.gone(1);
  assert.deepEqual([free().get(a), free().get(b)], [1000, 400]);
});

test("a move goes on after a restart of the cluster, whenever that is", async () => {
  const { bench, a, b } = moving();
  bench.restart();
  assert.equal(bench.instance(1).successor?.reason, "too far");
  bench.says(1, "RUNNING", 1, { live: LIVE });
  bench.successorSays(1, "RUNNING", { live: LIVE });
  bench.restart();
  bench.says(1, "RUNNING", 1, { live: LIVE });
  bench.successorSays(1, "RUNNING", { live: LIVE });
  await bench.clock.advance(SETTLE_MS);
  assert.deepEqual(kinds(bench.pass()), ["switch"]);
  bench.restart();
  assert.deepEqual([bench.at(1), bench.instance(1).predecessor?.placement.workerId], [b, a]);
  assert.equal(bench.instance(1).moveNote, 'moved from worker "a": too far');
  await bench.clock.advance(LINGER_MS);
  assert.deepEqual(kinds(bench.pass()), ["retire"]);
  bench.restart();
  assert.deepEqual(placementsOf(bench.instance(1)).length, 1);
});

test("while it moves, another reason to move starts nothing; and what runs once is not run twice", () => {
  const { bench, b } = moving();
  bench.worker("c", 4000, 4000);
  bench.broken.set(1, "even further");
  assert.deepEqual(bench.pass(), []);
  assert.equal(bench.instance(1).successor?.placement.workerId, b);

  const once = assignment(1);
  const other = running({ ...once, workload: { ...once.workload, oneShot: true } });
  other.bench.broken.set(1, "too far");
  assert.deepEqual(kinds(other.bench.pass()), ["withdraw", "place"]);
});

test("each worker of a move is told whether the traffic is its own", () => {
  const { bench, a, b } = moving();
  const standby = (workerId: string) =>
    bench.state.placedOn(workerId).map(({ instance, placement }) => isStandby(instance, placement));
  assert.deepEqual([standby(a), standby(b)], [[false], [true]]);
  bench.says(1, "DEAD", 2);
  bench.successorSays(1, "RUNNING", { live: LIVE });
  const revisions = () => [a, b].map((id) => bench.state.worker(id)!.manifestRevision);
  const before = revisions();
  bench.pass();
  assert.deepEqual([standby(a), standby(b)], [[true], [false]]);
  assert.deepEqual(
    revisions(),
    before.map((revision) => revision + 1),
  );
});

type Event =
  | {
      readonly do: "says" | "successorSays" | "predecessorSays";
      readonly status: InstanceStatus;
      readonly isLive: boolean;
    }
  | { readonly do: "liveness"; readonly which: number; readonly is: Liveness }
  | { readonly do: "broken" | "restart" | "gone" }
  | { readonly do: "later"; readonly ms: number };

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    arbitrary: fc.record({
      do: fc.constantFrom("says" as const, "successorSays" as const, "predecessorSays" as const),
      status: fc.constantFrom<InstanceStatus>("PULLING", "CREATING", "RUNNING", "RUNNING", "RUNNING", "DEAD", "FAILED"),
      isLive: fc.boolean(),
    }),
    weight: 5,
  },
  {
    arbitrary: fc.record({
      do: fc.constant("liveness" as const),
      which: fc.nat(2),
      is: fc.constantFrom<Liveness>("active", "active", "suspect", "lost"),
    }),
    weight: 2,
  },
  { arbitrary: fc.record({ do: fc.constantFrom("broken" as const, "restart" as const, "gone" as const) }), weight: 3 },
  { arbitrary: fc.record({ do: fc.constant("later" as const), ms: fc.nat(8_000) }), weight: 3 },
);

/** Where an instance runs, as far as its workers have said: what the test itself keeps, past any restart of the cluster. */
class Truth {
  readonly running = new Map<string, Partial<InstanceReport>>();
  readonly #bench: Bench;

  constructor(bench: Bench) {
    this.#bench = bench;
  }

  apply(one: Event, workers: readonly string[]): Promise<void> | void {
    const bench = this.#bench;
    switch (one.do) {
      case "says":
      case "successorSays":
      case "predecessorSays": {
        const about = this.#speakers()[one.do];
        if (!about) return;
        const change = one.isLive && one.status === "RUNNING" ? { live: LIVE } : {};
        if (one.status === "RUNNING") this.running.set(keyOf(about), change);
        else this.running.delete(keyOf(about));
        if (one.do === "says") bench.says(1, one.status, bench.clock.monotonic(), change);
        else bench[one.do](1, one.status, change);
        return;
      }
      case "liveness":
        bench.liveness.set(workers[one.which]!, one.is);
        return;
      case "broken":
        // Only what runs is watched, and only where it can be measured.
        if (bench.instance(1).report?.status !== "RUNNING" || bench.instance(1).predecessor) return;
        if (bench.liveness.get(bench.at(1)!) === "active") bench.broken.set(1, "too far");
        return;
      case "restart":
        this.#restart();
        return;
      case "gone":
        bench.gone(1);
        return;
      case "later":
        return bench.clock.advance(one.ms);
    }
  }

  #speakers() {
    const { placement, successor, predecessor } = this.#bench.instance(1);
    return { says: placement, successorSays: successor?.placement, predecessorSays: predecessor?.placement };
  }

  /** Nobody has been heard from then, until each worker has told everything again. */
  #restart(): void {
    const bench = this.#bench;
    const before = new Map(bench.liveness);
    bench.restart();
    for (const [id, is] of before) if (is === "active") bench.liveness.set(id, "suspect");
    bench.pass();
    for (const [id, is] of before) bench.liveness.set(id, is);
    for (const kind of ["says", "successorSays", "predecessorSays"] as const) {
      const about = this.#speakers()[kind];
      if (!about || before.get(about.workerId) !== "active") continue;
      const running = this.running.get(keyOf(about));
      const [status, change] = running ? (["RUNNING", running] as const) : (["CREATING", {}] as const);
      if (kind === "says") bench.says(1, status, 0, change);
      else bench[kind](1, status, change);
    }
  }

  /** Placements on workers that are there, which run. */
  serving(): string[] {
    const { state, liveness } = this.#bench;
    return placementsOf(state.instance(idOf(1))!)
      .filter(({ workerId }) => liveness.get(workerId) !== "lost")
      .map(keyOf)
      .filter((key) => this.running.has(key));
  }
}

const keyOf = ({ workerId, number }: Placement) => `${workerId}#${number}`;

test("whatever happens during a move, it never leaves an instance that ran without a place where it runs", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 60, size: "max" }), async (events) => {
      const bench = new Bench();
      const workers = ["a", "b", "c"].map((name) => bench.worker(name));
      bench.want(assignment(1));
      bench.pass();
      const truth = new Truth(bench);
      for (const one of events) {
        await truth.apply(one, workers);
        const before = truth.serving();
        const steps = bench.pass();
        const isMove = steps.length > 0 && steps.every((step) => step.do !== "withdraw" && step.do !== "place");
        if (isMove && before.length > 0) {
          assert.ok(truth.serving().length > 0, `after ${JSON.stringify(steps)} nothing runs`);
        }
        const placements = placementsOf(bench.instance(1));
        assert.equal(new Set(placements.map(({ workerId }) => workerId)).size, placements.length, "each elsewhere");
        for (const { free } of candidates(bench.input())) assert.ok(free.memoryBytes >= 0);
      }
      await settle(bench, workers);
    }),
    { numRuns: 300 },
  );
});

/** Everybody is there again and does as told: the move ends, and one placement is left. */
async function settle(bench: Bench, workers: readonly string[]): Promise<void> {
  for (const id of workers) bench.liveness.set(id, "active");
  bench.broken.clear();
  for (let round = 0; round < 10; round++) {
    const { placement, successor } = bench.instance(1);
    if (placement) bench.says(1, "RUNNING", bench.clock.monotonic(), { live: LIVE });
    if (successor) bench.successorSays(1, "RUNNING", { live: LIVE });
    bench.pass();
    bench.gone(1);
    await bench.clock.advance(4_000);
  }
  assert.deepEqual(bench.pass(), []);
  assert.equal(placementsOf(bench.instance(1)).length, 1);
  assert.deepEqual(bench.state.withdrawals, []);
}
