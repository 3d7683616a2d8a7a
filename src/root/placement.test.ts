import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { MicroserviceDescriptor } from "../protocol/descriptor.ts";
import { aggregateOf, cluster, input, instance, MB, NOW, ROOMY, SMALL, service } from "./builders.fake.ts";
import { type ClusterView, isRoomier } from "./candidates.ts";
import { type Declines, RETRY_DECLINED_MS, updateDeclines } from "./declines.ts";
import { type PlacementInput, plan } from "./placement-plan.ts";
import type { Placement } from "./placement-words.ts";
import { CLUSTER_LIVENESS } from "./survey.ts";

const planPlacements = (of: PlacementInput) => plan(of).placements;

const direct = (name: string): Partial<MicroserviceDescriptor> => ({
  constraints: [{ type: "direct", cluster: name }],
});

const CASES: readonly {
  readonly what: string;
  readonly descriptor?: Partial<MicroserviceDescriptor>;
  readonly clusters: readonly ClusterView[];
  readonly expected: Pick<Placement, "clusterId" | "status">;
  readonly detail: RegExp;
}[] = [
  {
    what: "the roomier cluster is chosen",
    clusters: [
      cluster("a", [{ cpuMillis: 8000, memoryMb: 4096 }]),
      cluster("b", [{ cpuMillis: 2000, memoryMb: 4096 }]),
    ],
    expected: { clusterId: "id-a", status: "CLUSTER_SCHEDULED" },
    detail: /handed to cluster "a"/,
  },
  {
    what: "no cluster at all",
    clusters: [],
    expected: { clusterId: undefined, status: "NoActiveClusterWithCapacity" },
    detail: /no cluster yet/,
  },
  {
    what: "every refusal is named",
    clusters: [cluster("a", SMALL), cluster("b", ROOMY, { connected: false })],
    expected: { clusterId: undefined, status: "NoActiveClusterWithCapacity" },
    detail: /a: memory \(needs 100 MB, has 50 MB\); b: active/,
  },
  {
    what: "a cluster without workers is said to have none",
    clusters: [cluster("a", [])],
    expected: { clusterId: undefined, status: "NoActiveClusterWithCapacity" },
    detail: /a: workers \(needs an active one, has none\)/,
  },
  {
    what: "a silent cluster gets nothing new",
    clusters: [cluster("a", ROOMY, { heardAt: NOW - CLUSTER_LIVENESS.suspectAfterMs })],
    expected: { clusterId: undefined, status: "NoActiveClusterWithCapacity" },
    detail: /a: active/,
  },
  {
    what: "pinned to one that exists",
    descriptor: direct("b"),
    clusters: [cluster("a", ROOMY), cluster("b", ROOMY)],
    expected: { clusterId: "id-b", status: "CLUSTER_SCHEDULED" },
    detail: /"b"/,
  },
  {
    what: "pinned to one that does not",
    descriptor: direct("c"),
    clusters: [cluster("a", ROOMY)],
    expected: { clusterId: undefined, status: "TargetClusterNotFound" },
    detail: /there is no cluster "c"/,
  },
  {
    what: "pinned to one that is away",
    descriptor: direct("b"),
    clusters: [cluster("a", ROOMY), cluster("b", ROOMY, { connected: false })],
    expected: { clusterId: undefined, status: "TargetClusterNotActive" },
    detail: /^no cluster fits: b: active[^;]*$/,
  },
  {
    what: "pinned to one without room",
    descriptor: direct("b"),
    clusters: [cluster("a", ROOMY), cluster("b", SMALL)],
    expected: { clusterId: undefined, status: "TargetClusterNoCapacity" },
    detail: /b: memory/,
  },
  {
    what: "constraints that exclude each other",
    descriptor: {
      constraints: [
        { type: "direct", cluster: "a" },
        { type: "clusters", allowed: ["b"] },
      ],
    },
    clusters: [cluster("a", ROOMY), cluster("b", ROOMY)],
    expected: { clusterId: undefined, status: "TargetClusterNotFound" },
    detail: /exclude each other/,
  },
  {
    what: "only workers of the wanted architecture count",
    descriptor: { arch: ["arm64"] },
    clusters: [
      cluster("a", [...ROOMY, { cpuMillis: 500, memoryMb: 4096, architecture: "arm64" }]),
      cluster("b", ROOMY),
    ],
    expected: { clusterId: undefined, status: "NoActiveClusterWithCapacity" },
    detail: /a: cpu \(needs 1 cores, has 0.5 cores\); b: architecture/,
  },
  {
    what: "docker, which clients say, is container",
    descriptor: { virtualization: "docker" },
    clusters: [cluster("a", ROOMY)],
    expected: { clusterId: "id-a", status: "CLUSTER_SCHEDULED" },
    detail: /"a"/,
  },
];

for (const { what, descriptor, clusters, expected, detail } of CASES) {
  test(`planPlacements(): ${what}`, () => {
    const [placement, ...more] = planPlacements(input({ services: [service("s", descriptor)], clusters }));
    assert.ok(placement);
    assert.deepEqual({ clusterId: placement.clusterId, status: placement.status }, expected);
    assert.match(placement.detail, detail);
    assert.deepEqual(more, []);
  });
}

test("a declined instance goes to the next cluster at once, and to none when all have declined", () => {
  const clusters = [
    cluster("a", ROOMY),
    cluster(
      "b",
      SMALL.map((one) => ({ ...one, memoryMb: 4096 })),
    ),
  ];
  const services = [service("s")];
  const declined = (clusterId: string, generation: number) =>
    instance("s", 0, { clusterId, generation, status: "NO_WORKER_CAPACITY", detail: "port 80 is held" });
  let instances = [declined("id-a", 1)];
  let declines = updateDeclines(new Map(), instances, clusters, NOW);
  const [toB] = planPlacements(input({ services, instances, clusters, declines }));
  assert.equal(toB?.clusterId, "id-b");
  instances = [declined("id-b", 2)];
  declines = updateDeclines(declines, instances, clusters, NOW);
  const [nowhere] = planPlacements(input({ services, instances, clusters, declines }));
  assert.equal(nowhere?.status, "NoActiveClusterWithCapacity");
  assert.match(nowhere?.detail ?? "", /a declined: .*port 80 is held.*b declined: /);
  instances = [{ ...instances[0]!, ...nowhere, clusterId: undefined }];
  declines = updateDeclines(declines, instances, clusters, NOW);
  assert.deepEqual(planPlacements(input({ services, instances, clusters, declines })), []);
  const later = updateDeclines(declines, instances, clusters, NOW + RETRY_DECLINED_MS);
  assert.equal(later.size, 0);
});

test("a decline is forgotten when its cluster has more room, not when it has less or is busier", () => {
  const before = cluster("a", ROOMY);
  const declines: Declines = new Map([
    ["s-0", new Map([["id-a", { reason: "full", at: NOW, aggregate: before.aggregate }]])],
  ]);
  const after = (change: Partial<ClusterView>) =>
    updateDeclines(declines, [instance("s", 0)], [{ ...before, ...change }], NOW + 1).has("s-0");
  assert.equal(after({}), true);
  assert.equal(after({ aggregate: aggregateOf([{ cpuMillis: 3000, memoryMb: 4096 }]) }), true);
  assert.equal(after({ aggregate: { ...before.aggregate!, cpuPercent: 90 } }), true);
  assert.equal(after({ aggregate: aggregateOf([...ROOMY, ...ROOMY]) }), false);
  assert.equal(isRoomier(undefined, before.aggregate), false);
});

test("instances of a lost cluster move if another can take them, and stay otherwise", () => {
  const away = cluster("a", ROOMY, { connected: false, heardAt: NOW - CLUSTER_LIVENESS.lostAfterMs });
  const instances = [
    instance("s", 0, { clusterId: "id-a", generation: 1, status: "RUNNING" }),
    instance("s", 1, { clusterId: "id-a", generation: 1, status: "COMPLETED" }),
  ];
  const plan = (other: ClusterView) =>
    planPlacements(input({ services: [service("s")], instances, clusters: [away, other] })).map(({ id, clusterId }) => [
      id,
      clusterId,
    ]);
  assert.deepEqual(plan(cluster("b", ROOMY)), [["s-0", "id-b"]]);
  assert.deepEqual(plan(cluster("b", SMALL)), []);
  const suspect = { ...away, heardAt: NOW - CLUSTER_LIVENESS.lostAfterMs + 1 };
  assert.deepEqual(
    planPlacements(input({ services: [service("s")], instances, clusters: [suspect, cluster("b", ROOMY)] })),
    [],
  );
});

test("an instance that its cluster never answered for moves after the deadline", () => {
  const instances = [instance("s", 0, { clusterId: "id-a", generation: 1, status: "CLUSTER_SCHEDULED" })];
  const clusters = [cluster("a", ROOMY), cluster("b", ROOMY)];
  const plan = (now: number) =>
    planPlacements(
      input({ services: [service("s")], instances, clusters: clusters.map((one) => ({ ...one, heardAt: now })), now }),
    );
  assert.deepEqual(plan(NOW + 14_999), []);
  assert.equal(plan(NOW + 15_000)[0]?.clusterId, "id-b");
});

const machine = fc.record({
  cpuMillis: fc.integer({ min: 0, max: 16_000 }),
  memoryMb: fc.integer({ min: 0, max: 32_768 }),
  architecture: fc.constantFrom("amd64", "arm64"),
});
const world = fc.record({
  clusters: fc.array(fc.array(machine, { maxLength: 4 }), { minLength: 1, maxLength: 4 }),
  services: fc.array(
    fc.record({
      memory: fc.integer({ min: 0, max: 8192 }),
      cpu_millis: fc.integer({ min: 0, max: 6000 }),
      arch: fc.constantFrom<string[]>([], ["amd64"], ["arm64"]),
      count: fc.integer({ min: 1, max: 8 }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
});

test("a burst never exceeds what a cluster said it has, and an applied plan leaves nothing to do", () => {
  fc.assert(
    fc.property(world, (drawn) => {
      const clusters = drawn.clusters.map((machines, index) => cluster(`c${index}`, machines));
      const services = drawn.services.map(({ count: _, ...rest }, index) => service(`s${index}`, rest));
      const before = drawn.services.flatMap(({ count }, index) =>
        Array.from({ length: count }, (_, number) => instance(`s${index}`, number)),
      );
      const placements = planPlacements(input({ services, instances: before, clusters }));
      assert.equal(placements.length, before.length);
      const byId = new Map(placements.map((one) => [one.id, one]));
      const after = before.map((one) => ({ ...one, ...byId.get(one.id)!, generation: 1 }));
      for (const { id, aggregate: one } of clusters) {
        const here = after
          .filter(({ clusterId }) => clusterId === id)
          .map(({ serviceId }) => services.find((other) => other.id === serviceId)!.descriptor);
        const cpu = here.reduce((sum, { cpu_millis = 0 }) => sum + cpu_millis, 0);
        const memory = here.reduce((sum, { memory: mb = 0 }) => sum + mb * MB, 0);
        assert.ok(cpu <= one!.all.cpuMillisFree.sum && memory <= one!.all.memoryBytesFree.sum);
      }
      const settled = planPlacements(input({ services, instances: after, clusters }));
      // Where it was refused the details may count less room than a moment ago, but nobody is placed any more.
      assert.deepEqual(
        settled.filter(({ clusterId }) => clusterId !== undefined),
        [],
      );
      const byIdAgain = new Map(settled.map((one) => [one.id, one]));
      const still = after.map((one) => ({ ...one, ...byIdAgain.get(one.id) }));
      assert.deepEqual(planPlacements(input({ services, instances: still, clusters })), []);
    }),
    { numRuns: 200 },
  );
});
