import assert from "node:assert/strict";
import { test } from "node:test";
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import type { Application, Instance, Service } from "../model.ts";
import { changesOf } from "./plan-diff.ts";
import { compare, type Present, planDocument } from "./plan-document.ts";

const descriptor = (name: string, change: Partial<MicroserviceDescriptor> = {}): MicroserviceDescriptor => ({
  microservice_name: name,
  microservice_namespace: "prod",
  virtualization: "container",
  code: "nginx",
  memory: 10,
  ...change,
});

const application = (...microservices: MicroserviceDescriptor[]): ApplicationDescriptor => ({
  application_name: "shop",
  application_namespace: "prod",
  microservices,
});

const service = (id: string, told: MicroserviceDescriptor): Service => ({
  ...{ id, applicationId: "app", owner: "ann", jobName: `shop.prod.${told.microservice_name}.prod`, descriptor: told },
  ...{ roundRobin: "", closest: "", nextInstanceNumber: 9, createdAt: 0 },
});

const instance = (serviceId: string, number: number, status: Instance["status"] = "RUNNING"): Instance => ({
  ...{ id: `${serviceId}-${number}`, serviceId, number, address: "", generation: 3, clusterId: "c" },
  ...{ status, detail: "", since: 0 },
});

const shop: Application = {
  ...{ id: "app", owner: "ann", name: "shop", namespace: "prod" },
  ...{ description: "", extra: {}, createdAt: 0 },
};

const present = (change: Partial<Present> = {}): Present => ({
  applications: [shop],
  services: [],
  instances: [],
  maySee: () => true,
  ...change,
});

let made = 0;
const options = { owner: "ann", instances: 2, now: 5, id: () => `new${made++}` };

test("an application that is there is compared: what is new, changed, kept, and not in the descriptor any more", () => {
  const { applications, draft } = compare(
    [application(descriptor("web", { memory: 20 }), descriptor("db"), descriptor("api"))],
    present({
      services: [service("s1", descriptor("web")), service("s2", descriptor("db")), service("s3", descriptor("old"))],
      instances: [
        instance("s1", 0),
        instance("s1", 4),
        instance("s1", 5, "UNDEPLOYED"),
        instance("s2", 1),
        instance("s3", 2),
      ],
    }),
    options,
  );
  const none = { add: [], replace: [], keep: [], remove: [] };
  assert.deepEqual(applications, [
    {
      name: "shop.prod",
      action: "change",
      services: [
        {
          name: "shop.prod.web.prod",
          action: "change",
          changes: [{ field: "memory", is: 10, would_be: 20 }],
          instances: { ...none, replace: [0, 4] },
        },
        { name: "shop.prod.db.prod", action: "same", changes: [], instances: { ...none, keep: [1] } },
        { name: "shop.prod.api.prod", action: "create", changes: [], instances: { ...none, add: [0, 1] } },
        { name: "shop.prod.old.prod", action: "remove", changes: [], instances: { ...none, remove: [2] } },
      ],
    },
  ]);
  assert.deepEqual([...draft.leaving], ["s1-0", "s1-4", "s3-2"]);
  assert.deepEqual([...draft.removedServices], ["s3"]);
  assert.deepEqual(
    draft.instances.map(({ serviceId, number, clusterId, status }) => [
      serviceId.slice(0, 3),
      number,
      clusterId,
      status,
    ]),
    [
      ["s1", 0, undefined, "REQUESTED"],
      ["s1", 4, undefined, "REQUESTED"],
      ["new", 0, undefined, "REQUESTED"],
      ["new", 1, undefined, "REQUESTED"],
    ],
  );
  assert.ok(draft.services.some(({ id, descriptor: { memory } }) => id === "s1" && memory === 20));
});

test("a descriptor that says what is there already changes nothing, and is fine", () => {
  const comparison = compare(
    [application(descriptor("web"))],
    present({ services: [service("s1", descriptor("web"))], instances: [instance("s1", 0)] }),
    options,
  );
  assert.equal(comparison.applications[0]!.action, "same");
  const document = planDocument(comparison, [], { clusterName: (id) => id, warnings: [] });
  assert.deepEqual([document.ok, document.placements], [true, []]);
});

test("of another user's application of that name nothing is told", () => {
  const comparison = compare(
    [application(descriptor("web"))],
    present({ services: [service("s1", descriptor("secret"))], maySee: () => false }),
    options,
  );
  assert.deepEqual(comparison.applications, [{ name: "shop.prod", action: "taken", services: [] }]);
  assert.equal(planDocument(comparison, [], { clusterName: (id) => id, warnings: [] }).ok, false);
});

test("an instance that nobody decided about is not placed", () => {
  const comparison = compare([application(descriptor("web"))], present({ applications: [] }), options);
  const document = planDocument(comparison, [], { clusterName: (id) => id, warnings: [] });
  assert.equal(document.ok, false);
  assert.equal(document.placements.length, 2);
});

test("changes show no value of the environment, nor of a key that the descriptor does not know", () => {
  const is = descriptor("web", { environment: ["A=one", "TOKEN=hunter2", "GONE=x"], vendor_key: "hunter2" });
  const wouldBe = descriptor("web", { environment: ["A=one", "TOKEN=hunter3", "NEW=y=z"], vendor_key: "hunter3" });
  const changes = changesOf(is, wouldBe);
  assert.deepEqual(changes, [
    { field: "vendor_key", is: "[set]", would_be: "[changed]" },
    { field: "environment TOKEN", is: "[set]", would_be: "[changed]" },
    { field: "environment GONE", is: "[set]", would_be: null },
    { field: "environment NEW", is: null, would_be: "[set]" },
  ]);
});

test("the order of keys and what is said to be nothing are no change", () => {
  const is = descriptor("web", {
    constraints: [{ type: "direct", cluster: "a", node: "b" }],
    cmd: [],
    one_shot: false,
  });
  const wouldBe = descriptor("web", { constraints: [{ node: "b", cluster: "a", type: "direct" }], port: "" });
  assert.deepEqual(changesOf(is, wouldBe), []);
});
