import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Handover,
  type Holder,
  isReady,
  LINGER_MS,
  mayRetire,
  READY_MS,
  SETTLE_MS,
  whyAbandoned,
  whyReturned,
} from "./handover.ts";

const serving: Holder = { reach: "active", status: "RUNNING", detail: "said", takesTraffic: true, forMs: SETTLE_MS };

function between(
  inCharge: Partial<Holder>,
  other: Partial<Holder>,
  change: Partial<Pick<Handover, "isChecked" | "startPeriodMs">> = {},
): Handover {
  const sides = { inCharge: { ...serving, ...inCharge }, other: { ...serving, ...other } };
  return { kind: "cluster", ...sides, isChecked: false, startPeriodMs: 0, ...change };
}

test("the new one takes over when it serves as the old one does", () => {
  const deaf = { takesTraffic: false };
  const cases: readonly [string, Handover, boolean][] = [
    ["both serve", between({}, {}), true],
    ["it may not listen yet", between({}, { forMs: SETTLE_MS - 1 }), false],
    ["its healthcheck says that it does", between({}, { forMs: 0 }, { isChecked: true }), true],
    ["its healthcheck says nothing yet", between(deaf, deaf, { isChecked: true }), false],
    ["the old one takes traffic, it does not", between({}, deaf), false],
    ["neither has a part in the overlay", between(deaf, deaf), true],
    ["the old one is down", between({ status: "DEAD", takesTraffic: false }, { forMs: 0 }), true],
    ["its last word is an old one", between({}, { reach: "silent" }), false],
    ["it does not run", between({}, { status: "PULLING" }), false],
  ];
  for (const [what, handover, expected] of cases) assert.equal(isReady(handover), expected, what);
});

test("the new one is given up when it will not serve", () => {
  const cases: readonly [Handover, RegExp | undefined][] = [
    [between({}, {}), undefined],
    [between({}, { reach: "silent", status: "PULLING" }), undefined],
    [between({ status: "COMPLETED" }, {}), /it has completed/],
    [between({}, { reach: "gone" }), /the cluster is gone/],
    [between({}, { reach: "lost" }), /the cluster has not been heard from for too long/],
    [between({}, { status: "NO_WORKER_CAPACITY" }), /NO_WORKER_CAPACITY there: said/],
    [between({}, { status: "DEAD" }), /DEAD there: said/],
    [between({}, { status: "CREATING", forMs: 60_001 }), /CREATING for more than 60 s/],
    [between({}, { forMs: READY_MS + 1 }), /not ready for more than 120 s/],
    [between({}, { forMs: READY_MS + 1 }, { startPeriodMs: 5_000 }), undefined],
    [between({ reach: "silent" }, { forMs: READY_MS + 1 }), undefined],
  ];
  for (const [handover, expected] of cases) {
    const why = whyAbandoned(handover);
    if (expected) assert.match(why ?? "", expected);
    else assert.equal(why, undefined);
  }
});

test("after the switch the old one is in charge again only if it serves and the new one is known not to", () => {
  const cases: readonly [Handover, RegExp | undefined][] = [
    [between({}, {}), undefined],
    [between({ status: "DEAD" }, {}), /DEAD there: said/],
    [between({ reach: "lost" }, {}), /has not been heard from for too long/],
    [between({ takesTraffic: false }, {}), /not ready there: said/],
    [between({ status: "DEAD" }, { status: "DEAD" }), undefined],
    [between({ status: "DEAD" }, { reach: "silent" }), undefined],
    [between({ status: "DEAD", reach: "silent" }, {}), undefined],
  ];
  for (const [handover, expected] of cases) {
    const why = whyReturned(handover);
    if (expected) assert.match(why ?? "", expected);
    else assert.equal(why, undefined);
  }
});

test("the old one ends when others have heard of the new one, unless it is what serves once it is back", () => {
  const old = { forMs: LINGER_MS };
  const cases: readonly [string, Handover, boolean][] = [
    ["all is well", between({}, old), true],
    ["others may not have heard", between({}, { forMs: LINGER_MS - 1 }), false],
    [
      "it is silent, and the new one does not run yet",
      between({ status: "PULLING" }, { ...old, reach: "silent" }),
      false,
    ],
    ["the new one is silent, and does not run yet", between({ status: "PULLING", reach: "silent" }, old), false],
    ["the new one is silent", between({ reach: "silent" }, old), false],
    ["both are silent", between({ reach: "silent" }, { ...old, reach: "silent", status: "PULLING" }), false],
    ["it is lost", between({ status: "PULLING" }, { ...old, reach: "lost" }), true],
    ["it does not run either", between({ status: "PULLING" }, { ...old, status: "DEAD" }), true],
  ];
  for (const [what, handover, expected] of cases) assert.equal(mayRetire(handover), expected, what);
});
