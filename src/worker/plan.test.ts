import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import type { DesiredInstance } from "../protocol/mqtt.ts";
import type { Container } from "../runtime/container-runtime.ts";
import { containerOf, desiredInstance, desiredSet } from "./builders.fake.ts";
import type { DesiredSet } from "./desired.ts";
import { type Change, type InstanceRecord, Instances } from "./instances.ts";
import { describe, isObsolete, nextDue, type Observed, plan, type Step } from "./plan.ts";

const web = desiredInstance();
const withPorts = desiredInstance({
  workload: { ports: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] },
});
const oneShot = desiredInstance({ workload: { oneShot: true } });
const SUCCESSOR = "5f0c1a2b3c4d5e6f70819999";

interface Situation {
  readonly desired?: readonly DesiredInstance[];
  readonly containers?: readonly Container[];
  readonly sandboxes?: readonly string[];
  readonly busy?: readonly Step[];
  readonly record?: Partial<InstanceRecord>;
  readonly now?: number;
  readonly addresses?: Observed["addresses"];
}

function planOf({
  desired = [],
  containers = [],
  sandboxes = [],
  busy = [],
  record,
  now = 1000,
  addresses,
}: Situation): string[] {
  const set = desiredSet(desired);
  const instances = new Instances({ log: silentLogger, clock: new ManualClock(0), onChange: () => {} });
  instances.sync(set, {}, [...containers.map(({ instanceId }) => instanceId), ...sandboxes]);
  for (const { instanceId } of [...instances.records.values()]) {
    if (record) instances.update(instanceId, undefined, record);
  }
  const observed: Observed = {
    ...{ containers, sandboxes: new Set(sandboxes), records: instances.records },
    busy: new Map(busy.map((step) => [step.instanceId, step])),
    addresses,
  };
  return plan(set, observed, now).map(describe);
}

const id = web.instanceId;
const exited = { state: "exited", exitCode: 1, exitedAt: 5 } as const;

const TABLE: [fact: string, situation: Situation, steps: string[]][] = [
  ["the image is looked for first", { desired: [web] }, [`find docker.io/library/web:latest for ${id}`]],
  [
    "and fetched if need be",
    { desired: [web], record: { hasImage: false } },
    [`pull docker.io/library/web:latest for ${id}`],
  ],
  ["then the sandbox", { desired: [web], record: { hasImage: true } }, [`attach ${id} (generation 1)`]],
  [
    "which waits for an address",
    { desired: [web], record: { hasImage: true }, addresses: { free: 0, whyNone: "none yet" } },
    [`wait ${id}: none yet`],
  ],
  [
    "then the host ports, so that a busy one is known before anything runs",
    { desired: [withPorts], record: { hasImage: true }, sandboxes: [id] },
    [`publish ${id} (generation 1)`],
  ],
  [
    "then the container",
    { desired: [withPorts], record: { hasImage: true, ports: 1 }, sandboxes: [id] },
    [`start ${id} (generation 1)`],
  ],
  [
    "a running container of the same generation is adopted",
    { desired: [web], containers: [containerOf(web)], sandboxes: [id] },
    [`adopt ${id} (generation 1)`],
  ],
  [
    "an adopted one gets its ports first",
    { desired: [withPorts], containers: [containerOf(withPorts)] },
    [`publish ${id} (generation 1)`],
  ],
  [
    "what runs is left alone",
    { desired: [web], containers: [containerOf(web)], record: { status: "RUNNING", traffic: "on" } },
    [],
  ],
  [
    "a container newer than the set is left alone",
    { desired: [web], containers: [containerOf(web, { generation: 2 })], record: { status: "RUNNING", traffic: "on" } },
    [],
  ],
  [
    "an older generation loses its traffic before it is stopped",
    { desired: [{ ...web, generation: 2 }], containers: [containerOf(web)], record: { ports: 1 } },
    [`drain ${id} (generation 1)`],
  ],
  [
    "then it is stopped",
    { desired: [{ ...web, generation: 2 }], containers: [containerOf(web)], record: { traffic: "off" } },
    [`stop ${id} (generation 1)`],
  ],
  [
    "and removed",
    { desired: [{ ...web, generation: 2 }], containers: [containerOf(web, exited)], record: { ports: "none" } },
    [`remove ${id} (generation 1)`],
  ],
  ["an end is noted", { desired: [web], containers: [containerOf(web, exited)] }, [`bury ${id} (generation 1)`]],
  [
    "during the back-off nothing happens",
    { desired: [web], containers: [containerOf(web, exited)], record: { endNotedAt: 5, notBefore: 1001 } },
    [],
  ],
  [
    "after it the container starts in the sandbox it had",
    {
      ...{ desired: [web], containers: [containerOf(web, exited)], sandboxes: [id] },
      record: { endNotedAt: 5, notBefore: 1000, hasImage: true },
    },
    [`start ${id} (generation 1)`],
  ],
  [
    "a one-shot that ended well is complete",
    { desired: [oneShot], containers: [containerOf(oneShot, { ...exited, exitCode: 0 })] },
    [`complete ${id} (generation 1)`],
  ],
  [
    "a one-shot that failed is started again",
    { desired: [oneShot], containers: [containerOf(oneShot, exited)] },
    [`bury ${id} (generation 1)`],
  ],
  [
    "a complete one keeps no container",
    {
      desired: [oneShot],
      containers: [containerOf(oneShot, exited)],
      record: { status: "COMPLETED" },
      sandboxes: [id],
    },
    [`remove ${id} (generation 1)`],
  ],
  ["nor a sandbox", { desired: [oneShot], record: { status: "COMPLETED" }, sandboxes: [id] }, [`detach ${id}`]],
  ["and never runs again", { desired: [oneShot], record: { status: "COMPLETED" } }, []],
  [
    "what an interrupted start left is removed",
    { desired: [web], containers: [containerOf(web, { state: "created" })] },
    [`remove ${id} (generation 1)`],
  ],
  [
    "one whose state cannot be told is not touched",
    { desired: [web], containers: [containerOf(web, { state: "unknown" })] },
    [`wait ${id}: the runtime cannot tell the state of its container`],
  ],
  [
    "when it can be told again, nothing is left of the doubt",
    {
      desired: [web],
      containers: [containerOf(web)],
      record: { status: "RUNNING", detail: "the runtime cannot tell the state of its container" },
    },
    [`adopt ${id} (generation 1)`],
  ],
  [
    "ports of an older generation are taken back although its container is gone",
    { desired: [{ ...web, generation: 2 }], record: { ports: 1, hasImage: true } },
    [`unpublish ${id}`],
  ],
  [
    "the unwanted lose their traffic first",
    { containers: [containerOf(web)], sandboxes: [id] },
    [`drain ${id} (generation 1)`],
  ],
  [
    "then are stopped",
    { containers: [containerOf(web)], sandboxes: [id], record: { traffic: "off" } },
    [`stop ${id} (generation 1)`],
  ],
  ["then removed", { containers: [containerOf(web, exited)], sandboxes: [id] }, [`remove ${id} (generation 1)`]],
  ["then lose their sandbox", { sandboxes: [id] }, [`detach ${id}`]],
  [
    "a failed removal waits for its back-off as well",
    { containers: [containerOf(web)], record: { notBefore: 1001 } },
    [],
  ],
  ["an instance at work is left alone", { desired: [web], busy: [{ do: "pull", instanceId: id, instance: web }] }, []],
];

for (const [fact, situation, steps] of TABLE) {
  test(`plan(): ${fact}`, () => assert.deepEqual(planOf(situation), steps));
}

test("plan() stops a withdrawn instance before starting its successor with the same container id", () => {
  const successor = desiredInstance({ serviceId: SUCCESSOR });
  const situation = {
    desired: [successor],
    containers: [containerOf(web)],
    record: { traffic: "off", hasImage: true },
  };
  assert.deepEqual(planOf(situation as Situation), [
    `stop ${web.instanceId} (generation 1)`,
    `wait ${successor.instanceId}: waiting until "${web.instanceId}", which had the same name, is removed`,
  ]);
});

test("plan() fetches an image once, and starts a few containers at a time", () => {
  const many = Array.from({ length: 10 }, (_, instanceNumber) => desiredInstance({ instanceNumber }));
  assert.equal(planOf({ desired: many, record: { hasImage: false } }).length, 1);
  const sandboxes = many.map(({ instanceId }) => instanceId);
  assert.equal(planOf({ desired: many, sandboxes, record: { hasImage: true } }).length, 3);
});

test("plan() lets an instance whose image is present pass a queue of downloads", () => {
  const image = (instanceNumber: number) => ({
    workload: { ...web.workload, image: `registry.test/${instanceNumber}` },
  });
  const slow = Array.from({ length: 9 }, (_, number) => desiredInstance({ instanceNumber: number, ...image(number) }));
  const busy = slow.slice(0, 8).map((instance): Step => ({ do: "pull", instanceId: instance.instanceId, instance }));
  const local = desiredInstance({ instanceNumber: 9 });
  const desired = [...slow, local];
  assert.deepEqual(planOf({ desired, busy, record: { hasImage: false } }), [], "no more downloads at once");
  const looks = planOf({ desired, busy });
  assert.ok(looks.includes(`find docker.io/library/web:latest for ${local.instanceId}`), looks.join());
});

test("nextDue() is the end of the shortest back-off; a download for a withdrawn instance is obsolete", () => {
  const records = [5, 30, 20].map((notBefore) => ({ notBefore }) as InstanceRecord);
  assert.equal(nextDue(records, 10), 20);
  assert.equal(nextDue(records, 30), undefined);
  const step: Step = { do: "pull", instanceId: id, instance: web };
  assert.equal(isObsolete(step, desiredSet([web])), false);
  assert.equal(isObsolete(step, desiredSet([{ ...web, generation: 2 }])), true);
  assert.equal(isObsolete(step, desiredSet([])), true);
});

/** A worker in memory on which steps do what they say; asserts what must never happen. */
class Model {
  readonly containers = new Map<string, Container>();
  readonly sandboxes = new Set<string>();
  readonly instances = new Instances({ log: silentLogger, clock: new ManualClock(0), onChange: () => {} });
  readonly #desired: DesiredSet;
  now = 0;

  constructor(desired: DesiredSet) {
    this.#desired = desired;
  }

  next(): Step[] {
    const containers = [...this.containers.values()];
    this.instances.sync(this.#desired, {}, [...containers.map(({ instanceId }) => instanceId), ...this.sandboxes]);
    const observed = { containers, sandboxes: this.sandboxes, records: this.instances.records, busy: new Map() };
    return plan(this.#desired, observed, this.now);
  }

  apply(step: Step): void {
    const change = this.#do(step);
    if (change) this.instances.update(step.instanceId, undefined, change);
  }

  #do(step: Step): Change | undefined {
    const { instanceId } = step;
    switch (step.do) {
      case "find":
        return { hasImage: this.now % 2 === 0 };
      case "pull":
        return { hasImage: true };
      case "attach":
        this.sandboxes.add(instanceId);
        return undefined;
      case "publish":
        return { ports: step.instance.generation };
      case "start":
        this.#start(step.instance);
        return { status: "RUNNING", traffic: "on" };
      case "adopt":
        return { status: "RUNNING", traffic: "on" };
      case "drain":
        return { traffic: "off", ports: "none" };
      case "bury":
        return { traffic: "off", status: "DEAD", endNotedAt: step.container.exitedAt ?? 0, notBefore: this.now + 10 };
      case "complete":
        return { status: "COMPLETED" };
      case "unpublish":
        return { ports: "none" };
      case "stop":
        this.#stop(step.container);
        return undefined;
      case "remove":
        this.containers.delete(step.container.containerId);
        return undefined;
      case "detach":
        this.sandboxes.delete(instanceId);
        return { ports: "none" };
      case "forget":
        this.instances.forget(instanceId);
        return undefined;
      case "wait":
        return { detail: step.reason };
    }
  }

  #start(instance: DesiredInstance): void {
    const container = containerOf(instance);
    const holder = this.containers.get(container.containerId);
    assert.equal(instance, this.#desired.instances.get(instance.instanceId), "started what is not desired");
    assert.ok(!holder || (holder.instanceId === instance.instanceId && holder.state === "exited"), "name in use");
    this.containers.set(container.containerId, container);
  }

  #stop(container: Container): void {
    assert.equal(this.instances.records.get(container.instanceId)?.traffic, "off", "stopped while it takes traffic");
    const wanted = this.#desired.instances.get(container.instanceId);
    assert.ok(!wanted || container.generation < wanted.generation, "stopped what is desired");
    this.containers.set(container.containerId, { ...container, state: "exited" });
  }
}

const anyInstance = fc
  .record({
    service: fc.constantFrom("5f0c1a2b3c4d5e6f70819203", SUCCESSOR),
    number: fc.nat(3),
    generation: fc.integer({ min: 1, max: 3 }),
    isOneShot: fc.boolean(),
    hasPorts: fc.boolean(),
  })
  .map(({ service, number, generation, isOneShot, hasPorts }) =>
    desiredInstance({
      ...{ serviceId: service, instanceNumber: number, generation },
      workload: {
        oneShot: isOneShot,
        ports: hasPorts ? [{ hostPort: 8000 + number, containerPort: 80, protocol: "tcp" }] : [],
      },
    }),
  );
const anyContainer = fc
  .tuple(anyInstance, fc.constantFrom("running", "exited", "created"), fc.nat(1))
  .map(([instance, state, exitCode]) =>
    containerOf(instance, state === "exited" ? { ...exited, exitCode } : { state }),
  );
const byName = { selector: ({ containerId }: Container) => containerId };
/** Of one name only one can be desired at a time, as the root sees to. */
const byNumber = { selector: ({ instanceNumber }: DesiredInstance) => instanceNumber };

test("property: steps in any order lead to exactly what is desired, stopping nothing that is, and then the plan is empty", () => {
  const start = fc.tuple(
    fc.uniqueArray(anyInstance, byNumber),
    fc.uniqueArray(anyContainer, byName),
    fc.array(anyInstance, { maxLength: 4 }),
  );
  fc.assert(
    fc.property(start, fc.infiniteStream(fc.nat(1000)), ([desired, containers, attached], choices) => {
      const set = desiredSet(desired);
      const model = new Model(set);
      for (const container of containers) model.containers.set(container.containerId, container);
      for (const { instanceId } of attached) model.sandboxes.add(instanceId);
      for (let round = 0; round < 500; round++) {
        const steps = model.next();
        const due = nextDue(model.instances.records.values(), model.now);
        if (steps.length === 0 && due === undefined) break;
        if (steps.length === 0) model.now = due!;
        else model.apply(steps[Number(choices.next().value) % steps.length]!);
      }
      assert.deepEqual(model.next().map(describe), []);
      const running = [...model.containers.values()].map(({ instanceId }) => instanceId).sort();
      const complete = [...model.instances.records.values()].filter(({ status }) => status === "COMPLETED");
      const isComplete = new Set(complete.map(({ instanceId }) => instanceId));
      assert.deepEqual(running, [...set.instances.keys()].filter((key) => !isComplete.has(key)).sort());
      assert.ok([...model.containers.values()].every(({ state }) => state === "running"));
      assert.ok([...model.sandboxes].every((instanceId) => set.instances.has(instanceId)));
    }),
    { numRuns: 300 },
  );
});
