import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { validate } from "../base/validation.ts";
import { at, candidate, GB, link, request } from "./builders.fake.ts";
import type { Candidate, PluginVote, ScheduleOptions } from "./candidate.ts";
import { explain } from "./explain.ts";
import { askFunction, PLUGIN_CANDIDATES } from "./plugin.ts";
import { DecisionRecord, judgeAll, record, replay } from "./record.ts";
import { pluginQuestion, schedule } from "./schedule.ts";

const recorded = (ask: ReturnType<typeof request>, candidates: readonly Candidate[], options: ScheduleOptions) => {
  const decision = schedule(ask, candidates, options);
  const occasion = { at: 1, tier: "cluster", instanceId: "x-0", request: ask, candidates, options, decision } as const;
  const read = validate(DecisionRecord, JSON.parse(JSON.stringify(record(occasion))));
  assert.ok(read.ok);
  return { record: read.value, decision };
};
const arbitraryCandidate = fc
  .record({
    id: fc.stringMatching(/^[a-f0-9]{6}$/),
    active: fc.boolean(),
    cpuMillis: fc.integer({ min: 0, max: 4000 }),
    memoryBytes: fc.integer({ min: 0, max: 4 * GB }),
    x: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
    disk: fc.constantFrom("ssd", "hdd", undefined),
    port: fc.boolean(),
    replicas: fc.nat(2),
  })
  .map(({ id, active, cpuMillis, memoryBytes, x, disk, port, replicas }) =>
    candidate(id, {
      active,
      free: { cpuMillis, memoryBytes, gpus: 0 },
      labels: disk ? { disk } : {},
      heldPorts: new Map(port ? [["80/tcp", "web"]] : []),
      replicas: new Map([["svc", replicas]]),
      applications: new Set(["app"]),
      ...(x === undefined ? {} : { position: at(x) }),
    }),
  );
const arbitraryRequest = fc
  .record({
    cpuMillis: fc.integer({ min: 0, max: 4000 }),
    ssd: fc.boolean(),
    port: fc.boolean(),
    ms: fc.nat(100),
    near: fc.boolean(),
  })
  .map(({ cpuMillis, ssd, port, ms, near }) =>
    request({
      cpuMillis,
      serviceName: "svc",
      applicationId: "app",
      ...(ssd ? { labels: { disk: "ssd" } } : {}),
      ...(port ? { ports: [{ hostPort: 80, containerPort: 80, protocol: "tcp" as const }] } : {}),
      ...(near ? { links: [link({ threshold: ms, targets: [at(50)] })] } : {}),
    }),
  );
const arbitraryVote = fc.option(
  fc.oneof(
    fc
      .array(fc.stringMatching(/^[a-f0-9]{6}$/), { maxLength: 3 })
      .map((ranking): PluginVote => ({ answer: { ranking } })),
    fc.jsonValue().map((answer): PluginVote => ({ answer })),
    fc.constant<PluginVote>({ failed: "crashed" }),
  ),
  { nil: undefined },
);

test("never above capacity, never against a hard rule, whatever a plugin says; the same again from the record", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(arbitraryCandidate, { selector: ({ id }) => id, maxLength: 20 }),
      arbitraryRequest,
      fc.constantFrom("best-fit" as const, "first-fit" as const, "nearest" as const),
      arbitraryVote,
      (candidates, ask, strategy, plugin) => {
        const { record, decision } = recorded(ask, candidates, { strategy, plugin });
        if (decision.placed) {
          const chosen = candidates.find(({ id }) => id === decision.candidateId)!;
          assert.ok(
            chosen.active && chosen.free.cpuMillis >= ask.cpuMillis && chosen.free.memoryBytes >= ask.memoryBytes,
          );
          assert.ok(!ask.labels || chosen.labels!.disk === "ssd");
          assert.ok(ask.ports.length === 0 || !chosen.heldPorts.has("80/tcp"));
          const [near] = ask.links ?? [];
          assert.ok(!near || Math.abs(chosen.position!.network!.position[0] - 50) <= near.threshold);
        }
        assert.deepEqual(schedule(ask, candidates, { strategy, plugin }), decision);
        assert.deepEqual(replay(record).differences, []);
        assert.equal(judgeAll(record).filter(({ isChosen }) => isChosen).length, decision.placed ? 1 : 0);
      },
    ),
  );
});

test("a long list is recorded by its best and replays the same; so does a plugin's choice, and a refusal", () => {
  const many = Array.from({ length: 1000 }, (_, index) =>
    candidate(`c${index}`, { free: { cpuMillis: 1000 + ((index * 7919) % 3000), memoryBytes: GB, gpus: 0 } }),
  );
  const votes: (PluginVote | undefined)[] = [undefined, { answer: { ranking: ["c992", "c17"] } }, { failed: "hangs" }];
  for (const plugin of votes) {
    for (const cpuMillis of [1000, 9000]) {
      const { record } = recorded(request({ cpuMillis }), many, { strategy: "best-fit", plugin });
      assert.equal(record.omitted, 800);
      assert.ok(replay(record).same, replay(record).differences.join());
    }
  }
});

test("replay() tells what is different now", () => {
  const { record } = recorded(request(), [candidate("a"), candidate("b")], { strategy: "best-fit" });
  const changed = { ...record, decision: { ...record.decision, candidateId: "b" } };
  assert.deepEqual(replay(changed).differences, ['candidateId: was "b", is "a"']);
});

test("the search ends with its time budget, and the record of it replays without a clock", () => {
  let now = 0;
  const candidates = Array.from({ length: 2000 }, (_, index) => candidate(`c${index}`));
  const budget = { ms: 3, monotonic: () => now++ };
  const { decision, record } = recorded(request(), candidates, { strategy: "best-fit", budget });
  assert.ok(decision.placed && decision.examined! > 0 && decision.examined! < 2000 && decision.examined! % 256 === 0);
  assert.ok(replay(record).same);
  const none = schedule(request({ cpuMillis: 9000 }), candidates, {
    strategy: "best-fit",
    budget: { candidates: 100 },
  });
  assert.ok(!none.placed);
  assert.match(none.verdicts.at(-1)!.had, /over after 100 of 2000/);
});

test("explain() names the winner, those that fit, and of the others the rule, what was needed and what there was", () => {
  const candidates = [
    candidate("a", { position: at(5) }),
    candidate("b", { position: at(90) }),
    candidate("c", { free: { cpuMillis: 10, memoryBytes: GB, gpus: 0 }, position: at(5) }),
    candidate("d", { position: at(1), free: { cpuMillis: 1000, memoryBytes: GB, gpus: 0 } }),
  ];
  const ask = request({ links: [link({ targets: [at(0)] })], labels: {} });
  assert.deepEqual(explain(recorded(ask, candidates, { strategy: "best-fit" }).record), [
    "best-fit chose worker host-a of 4 workers",
    "needs container, 100 MB, 1 cores, within 20 ms of service shop.prod.web.prod",
    "→ host-a: fits, score 0.863",
    "  host-d: fits, score 0.113",
    "✗ host-b: latency to service shop.prod.web.prod: needed at most 20 ms, had 90.0 ms",
    "✗ host-c: cpu: needed 1 cores, had 0.01 cores",
  ]);
  const waiting = recorded(request({ links: [link()] }), [candidate("a")], { strategy: "best-fit" }).record;
  assert.deepEqual(explain(waiting).slice(0, 3), [
    "none of 1 workers can take it",
    "needs container, 100 MB, 1 cores, within 20 ms of service shop.prod.web.prod",
    "waits for an instance of service shop.prod.web.prod",
  ]);
});

test("a plugin sees only what fits, best first, and its order decides; nonsense leaves the choice to best-fit, with a warning", () => {
  const small = candidate("small", { free: { cpuMillis: 1000, memoryBytes: GB, gpus: 0 } });
  const candidates = [small, candidate("large"), candidate("away", { active: false })];
  const options = { strategy: "best-fit" } as const;
  const snapshot = pluginQuestion(request(), candidates, options)!;
  assert.deepEqual(
    snapshot.candidates.map(({ id }) => id),
    ["large", "small"],
  );
  assert.deepEqual(JSON.parse(JSON.stringify(snapshot)), snapshot);
  assert.equal(pluginQuestion(request({ cpuMillis: 1e6 }), candidates, options), undefined);
  const decide = (plugin: PluginVote) => schedule(request(), candidates, { ...options, plugin });
  const smallest = askFunction(({ candidates: all }) => ({ ranking: [all.at(-1)!.id] }), snapshot);
  const decision = decide(smallest);
  assert.ok(decision.placed && decision.candidateId === "small" && !decision.warnings);
  const refused = decide({ answer: { ranking: [], reason: "maintenance" } });
  assert.ok(!refused.placed && refused.verdicts[0]!.had === "maintenance");
  const nonsense: [PluginVote, RegExp][] = [
    [
      askFunction(() => {
        throw new Error("boom");
      }, snapshot),
      /boom/,
    ],
    [{ answer: undefined }, /not understood/],
    [{ answer: { ranking: "large" } }, /not understood: ranking/],
    [{ answer: { ranking: ["nobody"] } }, /"nobody", which is no candidate/],
    [{ answer: { ranking: ["away"] } }, /none of those that it chose fits/],
    [{ answer: { ranking: [] } }, /gave no reason/],
    [{ answer: { ranking: Array.from({ length: PLUGIN_CANDIDATES + 1 }, () => "large") } }, /not understood/],
    [{ failed: "no answer within 500 ms" }, /500 ms/],
  ];
  for (const [vote, expected] of nonsense) {
    const fallen = decide(vote);
    assert.ok(fallen.placed && fallen.candidateId === "large");
    assert.match(fallen.warnings![0]!, expected);
    assert.match(fallen.warnings![0]!, /best-fit decided instead/);
  }
});
