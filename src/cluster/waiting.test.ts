import assert from "node:assert/strict";
import { test } from "node:test";
import { assignment, Bench, idOf } from "./builders.fake.ts";
import { type PlanInput, plan, WAIT_MS } from "./plan.ts";
import type { Measured } from "./whereabouts.ts";

const users = [{ measure: "latency" as const, threshold: 20, target: "192.0.2.7", kind: "host" as const }];

/** A cluster with one worker and one instance, which must be near to a host. */
class NearHost {
  readonly bench = new Bench();
  measured: Measured = { samples: [], tried: 0, pending: 0 };

  constructor() {
    this.bench.worker("w1");
    this.bench.want(assignment(1, { users }));
  }

  pass() {
    const input: PlanInput = { ...this.bench.input(), measuredOf: () => this.measured };
    const steps = plan(input);
    this.bench.state.applySteps(steps);
    return steps;
  }
}

test("while the host of users is being measured, the instance says for what it waits, and how long at most", () => {
  const it = new NearHost();
  const detail = "waiting for a measurement of 192.0.2.7, for at most 15 s";
  assert.deepEqual(it.pass(), [{ do: "wait", instanceId: idOf(1), detail }]);
  it.measured = { samples: [], tried: 1, pending: 2 };
  assert.deepEqual(it.pass(), [], "two have yet to answer");
});

test("once all workers that were asked have tried in vain, it is declined as unreachable, without waiting on", () => {
  const it = new NearHost();
  it.pass();
  it.measured = { samples: [], tried: 3, pending: 0 };
  const detail =
    "no worker fits: w1: latency to users at 192.0.2.7 (needs at most 20 ms, has unreachable: none of 3 workers got an answer)";
  assert.deepEqual(it.pass(), [{ do: "decline", instanceId: idOf(1), detail }]);
});

test("when nobody measures it in time, it is declined for want of a measurement", async () => {
  const it = new NearHost();
  it.pass();
  await it.bench.clock.advance(WAIT_MS);
  const [step] = it.pass();
  assert.equal(step?.do, "decline");
  assert.match(
    (step as { detail: string }).detail,
    /w1: latency to users at 192\.0\.2\.7 .*no worker has measured it yet/,
  );
});
