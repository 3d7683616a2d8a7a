import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { InterestKey, RouteUpdate, ServiceRoute } from "../protocol/route.ts";
import { RouteFanout } from "./route-fanout.ts";

const KEYS: readonly InterestKey[] = [
  "address:10.30.0.1",
  "address:10.30.0.2",
  `application:${"a".repeat(24)}`,
  "name:x.y",
];
const SERVICES = ["s1", "s2", "s3"];

function tableOf(serviceId: string, generation: number): ServiceRoute {
  return {
    serviceId,
    applicationId: "a".repeat(24),
    jobName: serviceId,
    generation,
    roundRobin: "10.30.0.1",
    closest: "10.30.0.2",
    instances: [],
    workers: [],
  };
}

/** The directory as the tests change it. */
class World {
  readonly services = new Map<string, number>();
  readonly meaning = new Map<InterestKey, string[]>();
  resolve(key: InterestKey): readonly string[] | undefined {
    return this.meaning.get(key)?.filter((id) => this.services.has(id));
  }
  table(serviceId: string): ServiceRoute | undefined {
    const generation = this.services.get(serviceId);
    return generation === undefined ? undefined : tableOf(serviceId, generation);
  }
}

/** What a child makes of what it is told. */
class Child {
  readonly keys = new Set<InterestKey>();
  readonly answers = new Map<InterestKey, string[]>();
  readonly tables = new Map<string, number>();
  receive(update: RouteUpdate | undefined): void {
    for (const { serviceId, generation } of update?.tables ?? []) this.tables.set(serviceId, generation);
    for (const { key, serviceIds } of update?.answers ?? []) this.answers.set(key, serviceIds);
    for (const serviceId of update?.gone ?? []) this.tables.delete(serviceId);
    this.prune();
  }
  prune(): void {
    const covered = new Set([...this.answers].filter(([key]) => this.keys.has(key)).flatMap(([, ids]) => ids));
    for (const serviceId of this.tables.keys()) if (!covered.has(serviceId)) this.tables.delete(serviceId);
  }
}

test("a child is told what its keys stand for, then only what changes", () => {
  const world = new World();
  world.services.set("s1", 1);
  world.meaning.set("address:10.30.0.1", ["s1"]);
  const fanout = new RouteFanout(world);
  const told = fanout.interest("w1", { full: true, add: ["address:10.30.0.1", "name:x.y"], remove: [] });
  assert.deepEqual(told.gained, ["address:10.30.0.1", "name:x.y"]);
  assert.deepEqual(
    fanout.take("w1")?.tables.map(({ serviceId }) => serviceId),
    ["s1"],
  );
  assert.equal(fanout.take("w1"), undefined, "nothing changed; the name is not known yet");
  world.services.set("s1", 2);
  fanout.serviceChanged("s1");
  assert.deepEqual(fanout.pending(), ["w1"]);
  assert.deepEqual(fanout.take("w1"), { tables: [tableOf("s1", 2)], answers: [], gone: [] });
  world.meaning.set("name:x.y", []);
  fanout.keyChanged("name:x.y");
  assert.deepEqual(fanout.take("w1")?.answers, [{ key: "name:x.y", serviceIds: [] }]);
});

test("a key is lost when its last child has gone, and a child that starts anew is told everything again", () => {
  const world = new World();
  world.services.set("s1", 1);
  world.meaning.set("address:10.30.0.1", ["s1"]);
  const fanout = new RouteFanout(world);
  const add: InterestKey[] = ["address:10.30.0.1"];
  fanout.interest("w1", { full: true, add, remove: [] });
  fanout.interest("w2", { full: true, add, remove: [] });
  fanout.take("w1");
  assert.deepEqual(fanout.leave("w2"), []);
  assert.deepEqual(fanout.interest("w1", { full: true, add, remove: [] }), { gained: [], lost: [] });
  assert.equal(fanout.take("w1")?.tables.length, 1);
  assert.deepEqual(fanout.leave("w1"), add);
  assert.deepEqual([...fanout.keys()], []);
});

test("whatever happens in whatever order, each child ends with exactly the tables of its interest", () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant("ask" as const), child: fc.nat(2), key: fc.constantFrom(...KEYS), on: fc.boolean() }),
    fc.record({ do: fc.constant("restart" as const), child: fc.nat(2) }),
    fc.record({ do: fc.constant("change" as const), service: fc.constantFrom(...SERVICES), there: fc.boolean() }),
    fc.record({ do: fc.constant("mean" as const), key: fc.constantFrom(...KEYS), ids: fc.subarray(SERVICES) }),
    fc.record({ do: fc.constant("send" as const), child: fc.nat(2) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const world = new World();
      const fanout = new RouteFanout(world);
      const children = [new Child(), new Child(), new Child()];
      let generation = 0;
      for (const step of actions) {
        if (step.do === "ask") {
          const child = children[step.child]!;
          if (step.on) child.keys.add(step.key);
          else child.keys.delete(step.key);
          const [add, remove] = step.on ? [[step.key], []] : [[], [step.key]];
          fanout.interest(`w${step.child}`, { full: false, add, remove });
          if (!step.on) child.answers.delete(step.key);
          child.prune();
        } else if (step.do === "restart") {
          const { keys } = children[step.child]!;
          children[step.child] = Object.assign(new Child(), { keys });
          fanout.interest(`w${step.child}`, { full: true, add: [...keys], remove: [] });
        } else if (step.do === "change") {
          if (step.there) world.services.set(step.service, ++generation);
          else world.services.delete(step.service);
          fanout.serviceChanged(step.service);
          for (const key of KEYS) fanout.keyChanged(key);
        } else if (step.do === "mean") {
          world.meaning.set(step.key, step.ids);
          fanout.keyChanged(step.key);
        } else children[step.child]!.receive(fanout.take(`w${step.child}`));
      }
      children.forEach((child, index) => {
        child.receive(fanout.take(`w${index}`));
        const wanted = new Set([...child.keys].flatMap((key) => world.resolve(key) ?? []));
        assert.deepEqual([...child.tables].sort(), [...wanted].map((id) => [id, world.services.get(id)]).sort());
      });
      const wanted = new Set(children.flatMap(({ keys }) => [...keys]));
      assert.deepEqual([...fanout.keys()].sort(), [...wanted].sort());
    }),
  );
});
