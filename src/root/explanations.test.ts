import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.fake.ts";
import { History } from "../hierarchy/history.ts";
import type { RootMessage } from "../protocol/uplink.ts";
import { explainDocument } from "./api/explain-document.ts";
import { Explanations } from "./explanations.ts";
import type { Instance } from "./model.ts";

const YEAR_MS = 365 * 86_400_000;
const clock = new ManualClock();

const instance: Instance = {
  ...{ id: `${"0".repeat(24)}-0`, serviceId: "0".repeat(24), number: 0, address: "", generation: 1, clusterId: "c" },
  ...{ status: "RUNNING", detail: "", since: clock.now() },
};

/** @param offMs of the cluster's clock */
async function explained(offMs: number) {
  const history = new History("root");
  history.happened(instance.id, { at: clock.now() - 3_000, status: "REQUESTED", detail: "asked for" });
  history.happened(instance.id, { at: clock.now() - 2_000, status: "CLUSTER_SCHEDULED", detail: "handed over" });
  const explanations: Explanations = new Explanations({
    ...{ history, clock, store: { decision: async () => undefined } },
    link: () => ({
      send: (message: RootMessage) => {
        assert.equal(message.type, "explain.ask");
        const { question } = message as Extract<RootMessage, { type: "explain.ask" }>;
        const theirs = clock.now() + offMs;
        const timeline = [{ at: theirs - 1_000, status: "RUNNING", detail: "runs" }];
        queueMicrotask(() =>
          explanations.receive("c", { type: "explain.answer", question, timeline, decisions: [], clock: theirs }),
        );
      },
    }),
  });
  return explainDocument(instance, { jobName: "a" }, await explanations.explain(instance), { roles: ["Admin"] });
}

test("what a cluster with a wrong clock tells stands in its place, by the root's clock, and that is remarked", async () => {
  for (const offMs of [YEAR_MS, -YEAR_MS]) {
    const { timeline, remark } = await explained(offMs);
    assert.deepEqual(
      timeline.map(({ at, status }) => [at - clock.now(), status]),
      [
        [-3_000, "REQUESTED"],
        [-2_000, "CLUSTER_SCHEDULED"],
        [-1_000, "RUNNING"],
      ],
    );
    assert.match(remark!, /given by the root's clock, since its clock is 365 days (ahead|behind)/);
  }
});

test("what happened stays in its order when a clock was set in between", () => {
  const at = (ms: number, status: string) => ({ at: ms, status, detail: status });
  const root = { timeline: [at(YEAR_MS, "REQUESTED"), at(10, "CLUSTER_SCHEDULED")], decisions: [] };
  const cluster = { timeline: [at(20, "NODE_SCHEDULED"), at(30, "RUNNING")], decisions: [] };
  const { timeline } = explainDocument(instance, { jobName: "a" }, { root, cluster }, { roles: ["Admin"] });
  const order = timeline.map(({ status }) => status);
  for (const [before, after] of [
    ["REQUESTED", "CLUSTER_SCHEDULED"],
    ["NODE_SCHEDULED", "RUNNING"],
  ])
    assert.ok(order.indexOf(before!) < order.indexOf(after!), order.join(" "));
});

test("of clocks that nearly agree nothing is remarked", async () => {
  const { timeline, remark } = await explained(2_000);
  assert.equal(remark, undefined);
  assert.equal(timeline.at(-1)!.at, clock.now() + 1_000);
});
