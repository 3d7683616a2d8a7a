import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { candidate, GB, request } from "./builders.fake.ts";
import type { Candidate } from "./candidate.ts";
import { describeVerdicts, schedule } from "./schedule.ts";

test("each rule refuses with what was needed and what there was", () => {
  const cases: [Partial<PlacementRequest>, Partial<Candidate>, string][] = [
    [{}, { active: false }, "active"],
    [{ memoryBytes: 5 * GB }, {}, "memory"],
    [{ cpuMillis: 5000 }, {}, "cpu"],
    [{ gpus: 1 }, {}, "gpu"],
    [{ virtualization: "unikernel" }, {}, "virtualization"],
    [{ architectures: ["arm64"] }, {}, "architecture"],
    [
      { ports: [{ hostPort: 80, containerPort: 80, protocol: "tcp" }] },
      { heldPorts: new Map([["80/tcp", "web"]]) },
      "host port",
    ],
    [{ ports: [{ hostPort: 50_105, containerPort: 80, protocol: "udp" }] }, {}, "host port"],
  ];
  for (const [need, have, rule] of cases) {
    const decision = schedule(request(need), [candidate("a", have)], { strategy: "best-fit" });
    assert.ok(!decision.placed);
    assert.equal(decision.verdicts[0]?.rule, rule);
    assert.match(describeVerdicts(decision.verdicts, "worker"), /^no worker fits: host-a: .* \(needs .+, has .+\)$/);
  }
});

test("pinning and exclusion are respected, and say so", () => {
  const both = [candidate("a"), candidate("b")];
  assert.deepEqual(schedule(request(), both, { strategy: "best-fit", pinnedTo: ["host-b"] }), {
    placed: true,
    candidateId: "b",
    ranking: ["b"],
  });
  const none = schedule(request(), both, {
    strategy: "best-fit",
    pinnedTo: ["host-b"],
    excluded: new Map([["b", "no room"]]),
  });
  assert.ok(!none.placed);
  assert.deepEqual(
    none.verdicts.map(({ rule }) => rule),
    ["pinned elsewhere", "declined before"],
  );
});

test("best fit takes the roomiest candidate, first fit the first", () => {
  const small = candidate("a", { free: { cpuMillis: 2000, memoryBytes: GB, gpus: 0 } });
  const large = candidate("b");
  const best = schedule(request(), [small, large], { strategy: "best-fit" });
  const first = schedule(request(), [small, large], { strategy: "first-fit" });
  assert.ok(best.placed && best.candidateId === "b");
  assert.ok(first.placed && first.candidateId === "a");
});

test("a placement is always on an active candidate with room, whatever the order of candidates", () => {
  const arbitrary = fc.record({
    id: fc.stringMatching(/^[a-f0-9]{6}$/),
    active: fc.boolean(),
    cpuMillis: fc.integer({ min: 0, max: 4000 }),
    memoryBytes: fc.integer({ min: 0, max: 4 * GB }),
  });
  fc.assert(
    fc.property(
      fc.uniqueArray(arbitrary, { selector: ({ id }) => id, maxLength: 20 }),
      fc.integer({ min: 0, max: 4000 }),
      (rows, cpuMillis) => {
        const candidates = rows.map((row) =>
          candidate(row.id, {
            active: row.active,
            free: { cpuMillis: row.cpuMillis, memoryBytes: row.memoryBytes, gpus: 0 },
          }),
        );
        const decision = schedule(request({ cpuMillis }), candidates, { strategy: "best-fit" });
        const reversed = schedule(request({ cpuMillis }), candidates.toReversed(), { strategy: "best-fit" });
        if (!decision.placed) return assert.ok(!reversed.placed);
        const chosen = candidates.find(({ id }) => id === decision.candidateId)!;
        assert.ok(chosen.active && chosen.free.cpuMillis >= cpuMillis && chosen.free.memoryBytes >= 100 * 2 ** 20);
        assert.ok(reversed.placed && reversed.candidateId === decision.candidateId);
      },
    ),
  );
});
