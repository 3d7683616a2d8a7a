import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Assignment } from "../protocol/instance.ts";
import type { ServiceRoute } from "../protocol/route.ts";
import { liveInstances, type Trust } from "./live.ts";
import type { Instance } from "./model.ts";
import { mergeRoutes, ownRoute, type RouteContent } from "./route-merge.ts";

const SERVICE = "0123456789abcdef01234567";
const believed = () => true;

function instance(number: number, workerId: string | undefined, isLive = true): Instance {
  const network = { instanceAddress: `10.30.0.${number + 10}`, roundRobin: "10.30.0.1", closest: "10.30.0.2" };
  const instanceId = `${SERVICE}-${number}`;
  const assignment = { instanceId, serviceId: SERVICE, jobName: "a.b.c.d", instanceNumber: number, network };
  const worker = { id: "claimed", address: "192.0.2.1", subnets: ["10.18.0.0/26"] };
  const live = { sandbox: `10.18.0.${number + 2}`, worker };
  return {
    assignment: assignment as Assignment,
    ...(workerId === undefined ? {} : { placement: { workerId, number: 1 } }),
    ...(isLive ? { report: { instanceId, live } as Instance["report"] } : {}),
    seenAt: 0,
    since: 0,
    failures: 0,
    tried: new Map(),
  };
}

test("traffic goes to trusted workers' instances, to doubtful ones' if there are no others, to lost ones' never", () => {
  const cases: readonly [string, readonly Trust[], readonly number[]][] = [
    ["all well", ["trusted", "trusted"], [0, 1]],
    ["one said goodbye", ["trusted", "doubtful"], [0]],
    ["all said goodbye", ["doubtful", "doubtful"], [0, 1]],
    ["one lost", ["lost", "doubtful"], [1]],
    ["all lost", ["lost", "lost"], []],
  ];
  for (const [what, trusts, expected] of cases) {
    const instances = trusts.map((_, index) => instance(index, `w${index}`));
    const live = liveInstances(instances, (id) => trusts[Number(id.slice(1))]!, believed);
    assert.deepEqual(
      [...live.keys()],
      expected.map((number) => `${SERVICE}-${number}`),
      what,
    );
  }
  const live = liveInstances(
    [instance(0, "w0", false), instance(1, undefined), instance(2, "w2")],
    () => "trusted",
    believed,
  );
  assert.deepEqual([...live.keys()], [`${SERVICE}-2`], "only what is placed and says so");
  assert.equal(live.get(`${SERVICE}-2`)?.worker.id, "w2", "a worker speaks for itself only");
});

test("traffic goes to nobody whose word on where it is cannot be true, be it the only one", () => {
  const instances = [instance(0, "liar"), instance(1, "w1")];
  const live = liveInstances(
    instances,
    (id) => (id === "liar" ? "trusted" : "doubtful"),
    (id) => id !== "liar",
  );
  assert.deepEqual([...live.keys()], [`${SERVICE}-1`]);
});

test("a merged table has every instance once, ours as we know them, and exactly the workers of the live ones", () => {
  const entry = fc.record({
    number: fc.nat(6),
    worker: fc.constantFrom("w0", "w1", "far0", "far1"),
    live: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 6 }), fc.option(fc.array(entry, { maxLength: 6 })), (ours, theirs) => {
      const unique = [...new Map(ours.map((one) => [one.number, one])).values()];
      const instances = unique.map(({ number, worker, live }) => instance(number, worker.replace("far", "w"), live));
      const own = ownRoute(
        instances,
        liveInstances(instances, () => "trusted", believed),
      );
      const fromRoot = theirs ? rootTable(theirs) : undefined;
      const merged = mergeRoutes(fromRoot, own, (id) => id.startsWith("w"));
      if (!merged) return assert.ok(!fromRoot && instances.length === 0);
      const numbers = merged.instances.map(({ number }) => number);
      const known = [...unique, ...(theirs ?? [])].map(({ number }) => number);
      assert.deepEqual(numbers, [...new Set(known)].sort());
      for (const one of own?.instances ?? []) assert.ok(merged.instances.some((other) => isEqual(one, other)));
      for (const { number, live } of merged.instances) {
        const isOwn = unique.some((one) => one.number === number);
        if (!isOwn) assert.ok(!live?.workerId.startsWith("w"), "ours are not taken from the root");
      }
      const used = new Set(merged.instances.flatMap(({ live }) => live?.workerId ?? []));
      assert.deepEqual(merged.workers.map(({ id }) => id).sort(), [...used].sort());
    }),
  );
});

test("what another cluster is in charge of is where the root says, be it still at a worker of ours", () => {
  const own = ownRoute(
    [instance(0, "w0")],
    liveInstances([instance(0, "w0")], () => "trusted", believed),
  );
  const elsewhere = new Set([1]);
  const isRepeated = (id: string, number: number) => id.startsWith("w") && !elsewhere.has(number);
  const placesOf = (worker: string, mine: typeof own) => {
    const { instances, workers } = mergeRoutes(rootTable([{ number: 1, worker, live: true }]), mine, isRepeated)!;
    return [instances.map(({ number, live }) => [number, live?.workerId]), workers.map(({ id }) => id)];
  };
  assert.deepEqual(placesOf("far0", own), [
    [
      [0, "w0"],
      [1, "far0"],
    ],
    ["far0", "w0"],
  ]);
  assert.deepEqual(placesOf("w0", own), [
    [
      [0, "w0"],
      [1, "w0"],
    ],
    ["w0"],
  ]);
  assert.deepEqual(placesOf("w0", undefined), [[[1, "w0"]], ["w0"]]);
});

function rootTable(entries: readonly { number: number; worker: string; live: boolean }[]): RouteContent {
  const byNumber = new Map(entries.map((one) => [one.number, one]));
  const unique = [...byNumber.values()].sort((one, other) => one.number - other.number);
  const workers = [...new Set(unique.filter(({ live }) => live).map(({ worker }) => worker))];
  return {
    serviceId: SERVICE,
    applicationId: "",
    jobName: "a.b.c.d",
    roundRobin: "10.30.0.1",
    closest: "10.30.0.2",
    instances: unique.map(({ number, worker, live }): ServiceRoute["instances"][number] => ({
      number,
      address: `10.30.0.${number + 10}`,
      ...(live ? { live: { sandbox: "10.20.0.2", workerId: worker } } : {}),
    })),
    workers: workers.map((id) => ({ id, address: "192.0.2.9", subnets: [] })),
  };
}

const isEqual = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);
