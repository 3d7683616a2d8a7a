/** The pure rules of the worker's part in the overlay. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeIntroduction, encodeIntroduction } from "../../net/introduction.ts";
import type { PathQuality } from "../../net/rtt.ts";
import { desiredInstance, desiredSet } from "../builders.fake.ts";
import type { InstanceRecord } from "../instances.ts";
import { serviceRoute } from "../routes/builders.fake.ts";
import { type OwnInstance, ownInstances } from "./own-instances.ts";
import { nextPath } from "./peer-paths.ts";
import { endpointOf, gatewayOf, type Place, settingsOf } from "./place.ts";
import { compileService, lostSandboxes, type RouteContext } from "./route-compiler.ts";

const SELF = "self";
const web = serviceRoute(1, { instanceCount: 3 });
const own = (change: Partial<OwnInstance> & Pick<OwnInstance, "number">): OwnInstance => ({
  ...{ serviceId: web.serviceId, address: `10.30.1.${100 + change.number}`, sandbox: undefined },
  ...change,
});
const compiled = (change: Partial<RouteContext> = {}, table = web, before = undefined as never) =>
  compileService(
    table,
    {
      selfId: SELF,
      own: [],
      isDesired: () => true,
      isUnsure: () => false,
      isReachable: () => true,
      rttMs: () => undefined,
      ...change,
    },
    before,
  );
const sandboxes = (routes: ReturnType<typeof compiled>) => routes.routes?.instances.map(({ sandbox }) => sandbox);

test("what a worker knows of its own instances goes before what the table says", () => {
  const ours = { ...web.instances[0]!, live: { sandbox: "10.18.9.2", workerId: SELF } };
  const table = { ...web, instances: [ours, ...web.instances.slice(1)] };
  const rows: [string, readonly OwnInstance[], (string | undefined)[]][] = [
    ["nothing found out yet", [], ["10.18.9.2", "10.18.1.3", "10.18.1.4"]],
    ["ends", [own({ number: 0 })], [undefined, "10.18.1.3", "10.18.1.4"]],
    ["has moved here", [own({ number: 1, sandbox: "10.18.9.3" })], ["10.18.9.2", "10.18.9.3", "10.18.1.4"]],
    ["is about to move here", [own({ number: 1 })], ["10.18.9.2", "10.18.1.3", "10.18.1.4"]],
    [
      "is on standby, until the table says that traffic comes here",
      [own({ number: 1, sandbox: "10.18.9.3", isStandby: true })],
      ["10.18.9.2", "10.18.1.3", "10.18.1.4"],
    ],
    [
      "is on standby, until the table says that traffic goes elsewhere",
      [own({ number: 0, sandbox: "10.18.9.2", isStandby: true })],
      ["10.18.9.2", "10.18.1.3", "10.18.1.4"],
    ],
    [
      "is on standby, and in no table",
      [own({ number: 3, sandbox: "10.18.9.4", isStandby: true })],
      ["10.18.9.2", "10.18.1.3", "10.18.1.4"],
    ],
    ["ends on standby", [own({ number: 1, isStandby: true })], ["10.18.9.2", "10.18.1.3", "10.18.1.4"]],
    ["is new", [own({ number: 3, sandbox: "10.18.9.4" })], ["10.18.9.2", "10.18.1.3", "10.18.1.4", "10.18.9.4"]],
    ["is new, and not ready", [own({ number: 3 })], ["10.18.9.2", "10.18.1.3", "10.18.1.4"]],
  ];
  const notDesired = compiled({ isDesired: (id) => id !== `${web.serviceId}-0` }, table);
  assert.deepEqual(sandboxes(notDesired), [undefined, "10.18.1.3", "10.18.1.4"], "an old table");
  for (const [what, instances, expected] of rows) {
    assert.deepEqual(sandboxes(compiled({ own: instances }, table)), expected, what);
  }
});

test("the closest is one's own, else the nearest, and stays where it is for little", () => {
  const instances = web.instances.map((one, index) => ({
    ...one,
    live: { sandbox: one.live!.sandbox, workerId: `w${index}` },
  }));
  const table = { ...web, instances };
  const rtts: Record<string, number> = { w0: 10, w1: 4, w2: 30 };
  const rttMs = (id: string) => rtts[id];
  const first = compiled({ rttMs }, table);
  assert.equal(first.routes?.closestTarget, "10.18.1.3");
  rtts.w0 = 3.5;
  const same = compiled({ rttMs }, table, first as never);
  assert.equal(same.routes, first.routes, "and then it is the same object");
  rtts.w0 = 1;
  assert.equal(compiled({ rttMs }, table, first as never).routes?.closestTarget, "10.18.1.2");
  const here = compiled({ rttMs, own: [own({ number: 2, sandbox: "10.18.9.9" })] }, table);
  assert.equal(here.routes?.closestTarget, "10.18.9.9");
  assert.equal(compiled({}, { ...table, instances: [] }).routes?.closestTarget, undefined);
});

test("an instance on a worker that does not know us yet gets no packets, and if there is no other they wait", () => {
  const { routes, isPartial } = compiled({ isReachable: () => false });
  assert.deepEqual([routes, isPartial], [undefined, true]);
  const mixed = compiled({ isReachable: () => false, own: [own({ number: 0, sandbox: "10.18.9.2" })] });
  assert.deepEqual([sandboxes(mixed), mixed.isPartial], [["10.18.9.2", undefined, undefined], true]);
  const idle = { ...web, instances: web.instances.map(({ live: _live, ...rest }) => rest) };
  assert.deepEqual(sandboxes(compiled({}, idle)), [undefined, undefined, undefined]);
  assert.equal(compiled({ isUnsure: () => true }, idle).routes, undefined, "nobody has looked yet");
  assert.deepEqual(sandboxes(compiled({ isUnsure: () => true })), sandboxes(compiled()));
});

test("an instance that moves to a worker that does not know us yet is reached where it was until then", () => {
  const [first, ...others] = web.instances;
  const next = { id: "next", address: "192.0.2.99", subnets: ["10.18.99.0/26"] };
  const live = { sandbox: "10.18.99.2", workerId: next.id };
  const table = { ...web, instances: [{ ...first!, live }, ...others], workers: [...web.workers, next] };
  const isReachable = (id: string) => id !== next.id;
  const before = compiled();
  const meanwhile = compiled({ isReachable }, table, before as never);
  assert.equal(meanwhile.routes, before.routes);
  assert.equal(meanwhile.isPartial, true);
  const alone = { ...table, instances: [{ ...first!, live }], workers: [next] };
  const from = compiled({}, { ...web, instances: [first!] });
  const still = compiled({ isReachable }, alone, from as never);
  assert.deepEqual(sandboxes(still), [first!.live!.sandbox]);
  assert.deepEqual(still.workers.map(({ id }) => id).sort(), [first!.live!.workerId, next.id].sort());
  assert.deepEqual(lostSandboxes(from, still), []);
  const then = compiled({}, alone, still as never);
  assert.deepEqual([sandboxes(then), then.workers], [[live.sandbox], [next]]);
  assert.deepEqual(lostSandboxes(still, then), [first!.live!.sandbox]);

  const here = own({ number: 0, sandbox: "10.18.9.2" });
  const standby = { ...here, isStandby: true };
  const mine = compiled({ own: [here] }, alone);
  assert.deepEqual(sandboxes(compiled({ own: [standby], isReachable }, alone, mine as never)), ["10.18.9.2"]);
  const ended = { ...standby, sandbox: undefined };
  assert.equal(compiled({ own: [ended], isReachable }, alone, mine as never).routes, undefined, "packets wait");
});

test("connections are forgotten with an instance that is gone or elsewhere, not with one that is not ready", () => {
  const before = compiled();
  const [zero, one, two] = web.instances;
  const { live: _live, ...unready } = zero!;
  const after = compiled(
    {},
    {
      ...web,
      instances: [unready, { ...one!, live: { sandbox: "10.18.7.7", workerId: "w7" } }],
    },
  );
  assert.deepEqual(lostSandboxes(before, after), [one!.live!.sandbox, two!.live!.sandbox]);
});

test("own instances take traffic when they run, are ready, and are not about to end", () => {
  const instance = desiredInstance();
  const { instanceId } = instance;
  const network = { instanceAddress: "10.30.0.9", roundRobin: "10.30.0.1", closest: "10.30.0.2" };
  const timing = { intervalMs: 1, timeoutMs: 1, retries: 1, startPeriodMs: 0 };
  const checked = desiredInstance({ workload: { healthcheck: { type: "tcp", port: 1, ...timing } } });
  const running = { status: "RUNNING", traffic: "on", isWithdrawn: false } as InstanceRecord;
  const sandboxOf = (record: Partial<InstanceRecord>, wanted = instance, state?: "ready" | "unready") => {
    const state_ = {
      desired: desiredSet([{ ...wanted, network }]),
      records: new Map([[instanceId, { ...running, ...record }]]),
      sandboxes: [{ instanceId, address: "10.18.0.2", namespacePath: "", resolvConf: "" }],
      readinessOf: () => state && { state, failures: 0, checks: 1 },
    };
    return ownInstances(state_).get(instanceId)?.sandbox;
  };
  assert.equal(sandboxOf({}), "10.18.0.2");
  for (const record of [
    { traffic: "ending" },
    { traffic: "off" },
    { status: "DEAD" },
    { isWithdrawn: true },
  ] as const) {
    assert.equal(sandboxOf(record), undefined, JSON.stringify(record));
  }
  assert.equal(sandboxOf({}, checked), undefined);
  assert.equal(sandboxOf({}, checked, "unready"), undefined);
  assert.equal(sandboxOf({}, checked, "ready"), "10.18.0.2");
});

test("the straight way is left when it lets nothing of ours pass, and tried again ever more seldom", () => {
  const quality = (missed: number): PathQuality => ({ rttMs: 1, loss: 0, missed });
  const straight = { path: "plain", retryAt: 0, failures: 0 } as const;
  assert.equal(nextPath(straight, { underlay: quality(0), overlay: quality(2) }, 0).path, "plain");
  assert.equal(nextPath(straight, { underlay: quality(3), overlay: quality(3) }, 0).path, "plain", "it is down anyway");
  assert.equal(nextPath(straight, { underlay: undefined, overlay: quality(3) }, 0).path, "plain");
  const closed = nextPath(straight, { underlay: quality(0), overlay: quality(3) }, 1000);
  assert.deepEqual(closed, { path: "vxlan", retryAt: 601_000, failures: 1 });
  assert.equal(nextPath(closed, { underlay: quality(0), overlay: quality(0) }, 600_000), closed);
  const again = nextPath(closed, { underlay: quality(0), overlay: quality(0) }, 601_000);
  assert.equal(again.path, "plain");
  const twice = nextPath(again, { underlay: quality(0), overlay: quality(3) }, 601_000);
  assert.equal(twice.retryAt, 601_000 + 1_200_000);
});

test("a subnet set by hand goes before those that the cluster gave", () => {
  const place: Place = {
    ...{ workerId: "w", mqttPort: 10003, clusterHosts: ["192.0.2.9"], callers: [], closed: [] },
    network: { serviceRange: "10.31.0.0/16", subnets: ["10.18.0.64/26"] },
  };
  const fixed = { subnet: undefined, joinPort: 10100, guardPorts: [10000] };
  assert.deepEqual(settingsOf(place, fixed), {
    ...{ subnets: ["10.18.0.64/26"], serviceRange: "10.31.0.0/16", address: undefined },
    nameServer: "10.18.0.65",
    ...{ guardedPorts: [10000, 10003, 10100], guardedHosts: ["192.0.2.9"] },
  });
  assert.deepEqual(settingsOf(place, { ...fixed, subnet: "10.20.0.0/24" }).subnets, ["10.20.0.0/24"]);
  assert.equal(endpointOf(undefined, { ...fixed, subnet: "10.20.0.0/24" }), undefined);
  assert.deepEqual(endpointOf({ ...place, address: "192.0.2.1" }, fixed), {
    ...{ id: "w", address: "192.0.2.1", subnets: ["10.18.0.64/26"] },
  });
  assert.equal(gatewayOf("10.18.0.64/26"), "10.18.0.65");
});

test("introductions are read only when they are signed with the key, and whole", () => {
  const endpoint = { id: "w", address: "192.0.2.1", subnets: ["10.18.0.0/26"] };
  const hello = { kind: "introduction", nonce: "0011223344556677", endpoint } as const;
  const bytes = encodeIntroduction(hello, "key")!;
  assert.deepEqual(decodeIntroduction(bytes, "key"), hello);
  assert.equal(decodeIntroduction(bytes, "other"), undefined);
  for (let length = 0; length < bytes.length; length++) {
    assert.equal(decodeIntroduction(bytes.subarray(0, length), "key"), undefined);
  }
  for (let at = 0; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at]! ^= 1;
    assert.equal(decodeIntroduction(damaged, "key"), undefined);
  }
  const welcome = { kind: "welcome", nonce: "0011223344556677" } as const;
  const answer = encodeIntroduction(welcome, "key")!;
  assert.deepEqual(decodeIntroduction(answer, "key"), welcome);
  assert.ok(answer.length < bytes.length, "an answer never amplifies");
  const challenge = { kind: "challenge", nonce: "0011223344556677", cookie: "8899aabbccddeeff" } as const;
  const asked = encodeIntroduction(challenge, "key")!;
  assert.deepEqual(decodeIntroduction(asked, "key"), challenge);
  assert.ok(asked.length < bytes.length, "an answer never amplifies");
  const proof = { ...challenge, kind: "proof", endpoint } as const;
  assert.deepEqual(decodeIntroduction(encodeIntroduction(proof, "key")!, "key"), proof);
  const wide = { ...endpoint, subnets: Array(100).fill("10.18.100.192/26") };
  assert.equal(encodeIntroduction({ ...hello, endpoint: wide }, "key"), undefined);
});
