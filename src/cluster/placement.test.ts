import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger } from "../base/log.ts";
import { MAX_PLANNED } from "../protocol/uplink.ts";
import { assignment, Bench } from "./builders.fake.ts";
import { PlacementLoop } from "./placement.ts";

const unused = () => assert.fail("a question changes nothing");

function loopOf(bench: Bench): PlacementLoop {
  const { livenessOf, lost, strategy, isBelieved } = bench.input();
  return new PlacementLoop({
    state: bench.state,
    workers: { changes: unused, livenessOf, lost: () => lost, trustChanges: unused },
    desired: { sync: unused },
    subnets: { sync: unused },
    measuring: { sync: unused, measuredOf: () => ({ samples: [], tried: 0, pending: 0 }), last: () => undefined },
    history: { decided: unused, retain: unused },
    positionOf: () => ({}),
    isBelieved: isBelieved!,
    isAutonomous: () => false,
    ...{ onLiveness: unused, onTrust: unused, strategy, log: silentLogger, clock: bench.clock },
  });
}

test("asked where instances would go, a large cluster looks at no more than in one pass, however much is open besides", () => {
  const bench = new Bench();
  for (let number = 0; number < 2_000; number++) bench.worker(`w${number}`);
  bench.want(...Array.from({ length: 2_000 }, (_, number) => assignment(1_000 + number)));
  const asked = Array.from({ length: MAX_PLANNED }, (_, number) => {
    const { instanceId, jobName, instanceNumber, request } = assignment(number);
    return { instanceId, jobName, instanceNumber, request: { ...request, cpuMillis: 5_000 } };
  });
  const answers = loopOf(bench).forecast({ instances: asked, leaving: [], namesWorkers: false });
  assert.equal(answers.length, 250);
  assert.ok(
    answers.every(({ instanceId, outcome }, at) => instanceId === asked[at]!.instanceId && outcome === "declined"),
  );
  assert.ok(bench.state.instances.every(({ placement, refusal }) => !placement && !refusal));
});
