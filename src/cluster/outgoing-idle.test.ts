import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { aggregate } from "../hierarchy/capacity.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import { OutgoingState } from "./outgoing-state.ts";

function setUp() {
  const clock = new ManualClock();
  const load = { cpuPercent: 1 };
  const reports = new Map<string, InstanceReport>();
  const outgoing = new OutgoingState(
    {
      instanceIds: () => [...reports.keys()],
      report: (id) => reports.get(id),
      aggregate: () => ({ ...aggregate([]), ...load }),
      subnetsFree: () => 9,
      landmarks: () => [],
    },
    clock,
  );
  /** The seconds, of so many, in which something was sent, by the looks that the link's beat takes. */
  const sentWithin = async (seconds: number) => {
    const sent: number[] = [];
    for (let second = 3; second <= seconds; second += 3) {
      await clock.advance(3_000);
      load.cpuPercent += 1;
      if (outgoing.next()) sent.push(second);
    }
    return sent;
  };
  const change = (status: InstanceReport["status"]) => {
    reports.set("i", { instanceId: "i", generation: 1, status, detail: "", since: 1, restarts: 0 });
    outgoing.mark("i");
  };
  assert.equal(outgoing.next()?.full, true);
  return { outgoing, sentWithin, change };
}

test("the load of idle machines is told once a minute", async () => {
  const { sentWithin } = setUp();
  assert.deepEqual(await sentWithin(120), [60, 120]);
});

test("after news of an instance the aggregate follows within ten seconds, so that the root need not count on", async () => {
  const { outgoing, sentWithin, change } = setUp();
  await sentWithin(9);
  change("RUNNING");
  const news = outgoing.next();
  assert.equal(news?.instances.length, 1);
  assert.equal(news?.aggregate, undefined);
  assert.deepEqual(await sentWithin(60), [3]);
});
