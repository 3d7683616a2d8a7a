import assert from "node:assert/strict";
import { test } from "node:test";
import { describeProblems, validate } from "../base/validation.ts";
import { type Constraint, Descriptor, type MicroserviceDescriptor } from "../protocol/descriptor.ts";
import { descriptor, microservice } from "./builders.fake.ts";
import { contradictions } from "./contradictions.ts";
import { linksOf, requiredLabels, searchBudgetMs, userLinks, withTargets } from "./links.ts";

type Services = readonly [Partial<MicroserviceDescriptor>, Partial<MicroserviceDescriptor>?];
const near = (target: string, threshold = 20, type: "latency" | "geo" = "latency") => ({
  connectivity: [{ target_microservice: target, con_constraints: [{ type, threshold }] }],
});
const geo = (location: string, threshold: number): Constraint => ({ type: "geo", location, threshold });
const MUNICH = "48.1374,11.5755";
const BERLIN = "52.52,13.405";

const REFUSED: readonly [string, Services, RegExp][] = [
  [
    "a cluster that is not allowed",
    [
      {
        constraints: [
          { type: "direct", cluster: "a" },
          { type: "clusters", allowed: ["b", "c"] },
        ],
      },
    ],
    /^applications\[0\].microservices\[0\].constraints\[0\].cluster: "a" is not among the allowed clusters: "b", "c"$/,
  ],
  [
    "lists of clusters with nothing in common",
    [
      {
        constraints: [
          { type: "clusters", allowed: ["a"] },
          { type: "clusters", allowed: ["b"] },
        ],
      },
    ],
    /constraints\[1\].allowed: names none of the clusters that another constraint allows: "a"$/,
  ],
  [
    "two clusters at once",
    [
      {
        constraints: [
          { type: "direct", cluster: "a" },
          { type: "direct", cluster: "b" },
        ],
      },
    ],
    /constraints\[1\].cluster: "b" contradicts/,
  ],
  [
    "two values of a label",
    [
      {
        constraints: [
          { type: "labels", labels: { disk: "ssd" } },
          { type: "labels", labels: { disk: "hdd" } },
        ],
      },
    ],
    /constraints\[1\].labels.disk: "hdd" contradicts "ssd"/,
  ],
  [
    "circles that do not meet",
    [{ constraints: [geo(MUNICH, 100), geo(BERLIN, 400)] }],
    /constraints\[1\].threshold: nothing is both within 400 km of 52.52,13.405 and within 100 km of 48.1374,11.5755: they are 504 km apart/,
  ],
  [
    "latency that light does not reach",
    [{ constraints: [geo(MUNICH, 100), { type: "latency", location: BERLIN, threshold: 4 }] }],
    /within 4 ms of 52.52,13.405/,
  ],
  ["no place", [{ constraints: [geo("91,0", 10)] }], /constraints\[0\].location: "91,0" is not a place/],
  ["itself", [near("web")], /microservices\[0\].connectivity\[0\].target_microservice: "web" is the service itself/],
  ["nobody", [near("dbx"), {}], /target_microservice: there is no service "dbx" in this application, only db.prod/],
  ["nobody, and alone", [near("dbx")], /only itself/],
  ["another namespace", [near("db.test"), {}], /there is no service "db.test"/],
  [
    "a link that the places forbid",
    [{ ...near("db", 50, "geo"), constraints: [geo(MUNICH, 100)] }, { constraints: [geo(BERLIN, 100)] }],
    /connectivity\[0\].con_constraints\[0\].threshold: cannot be: this service stays within 100 km of 48.1374,11.5755, db.prod within/,
  ],
];
const ACCEPTED: readonly [string, Services][] = [
  [
    "an allowed cluster",
    [
      {
        constraints: [
          { type: "direct", cluster: "a" },
          { type: "clusters", allowed: ["a", "b"] },
        ],
      },
    ],
  ],
  ["circles that meet", [{ constraints: [geo(MUNICH, 110), geo(BERLIN, 400)] }]],
  ["an area by its name", [{ constraints: [geo("munich-1", 10), geo(MUNICH, 1)] }]],
  [
    "a sibling, with and without namespace",
    [{ connectivity: [...near("db").connectivity, ...near("db.prod").connectivity] }, {}],
  ],
  [
    "an id, which only the root knows",
    [{ connectivity: [{ target_microservice_id: "0".repeat(24), con_constraints: [] }] }],
  ],
];
const problemsOf = ([web, db]: Services) => {
  const value = descriptor(microservice("web", web), ...(db ? [microservice("db", db)] : []));
  const parsed = validate(Descriptor, value);
  assert.ok(parsed.ok, parsed.ok ? "" : describeProblems(parsed.problems));
  return describeProblems(contradictions(parsed.value));
};

for (const [what, services, expected] of REFUSED) {
  test(`contradictions() refuses ${what}`, () => assert.match(problemsOf(services), expected));
}
for (const [what, services] of ACCEPTED) {
  test(`contradictions() accepts ${what}`, () => assert.equal(problemsOf(services), ""));
}

test("an ambiguous sibling is refused with the names to choose from", () => {
  const value = descriptor(
    microservice("web", near("db")),
    microservice("db"),
    microservice("db", { microservice_namespace: "test" }),
  );
  assert.match(describeProblems(contradictions(value)), /"db" is ambiguous: write db.prod or db.test/);
});

test("each wrong value of a constraint or a link is refused by a problem that names its field", () => {
  const wrong: [object, RegExp][] = [
    [{ constraints: [{ type: "latency", threshold: 5 }] }, /constraints\[0\].target: needs target or location or area/],
    [{ constraints: [{ type: "geo", threshold: 5, area: "" }] }, /constraints\[0\].location: needs location or area/],
    [
      { constraints: [{ type: "geo", threshold: 5, area: "a", location: "1,2" }] },
      /area: has location and area: write one/,
    ],
    [{ constraints: [{ type: "latency", area: "a", threshold: -1 }] }, /constraints\[0\].threshold/],
    [{ constraints: [{ type: "latency", area: "a", threshold: "5" }] }, /constraints\[0\].threshold/],
    [{ constraints: [{ type: "latency", area: "a", threshold: 5, rigidness: 2 }] }, /constraints\[0\].rigidness/],
    [
      { constraints: [{ type: "latency", target: "http://x", threshold: 5 }] },
      /target: "http:\/\/x" is not a host name/,
    ],
    [{ constraints: [{ type: "labels", labels: { a: 1 } }] }, /constraints\[0\].labels.a/],
    [
      { connectivity: [{ con_constraints: [] }] },
      /connectivity\[0\].target_microservice: needs target_microservice or/,
    ],
    [{ connectivity: [{ target_microservice: "a.b.c", con_constraints: [] }] }, /write name or name.namespace/],
    [{ connectivity: [{ target_microservice: "a" }] }, /connectivity\[0\].con_constraints/],
    [
      { connectivity: [{ target_microservice: "a", con_constraints: [{ type: "cost", threshold: 1 }] }] },
      /"cost" is not a constraint between services/,
    ],
    [
      { connectivity: [{ target_microservice: "a", con_constraints: [{ type: "latency" }] }] },
      /con_constraints\[0\].threshold/,
    ],
  ];
  for (const [change, expected] of wrong) {
    const parsed = validate(Descriptor, descriptor({ ...microservice("web"), ...change } as MicroserviceDescriptor));
    assert.match(parsed.ok ? "accepted" : describeProblems(parsed.problems), expected);
  }
  for (const target of ["192.0.2.7", "2001:db8::1", "::1", "users.example.org", "a"]) {
    assert.ok(
      validate(
        Descriptor,
        descriptor(microservice("web", { constraints: [{ type: "latency", target, threshold: 5 }] })),
      ).ok,
      target,
    );
  }
});

const sibling = (id: string, change: Partial<MicroserviceDescriptor> = {}) => ({
  id,
  jobName: `shop.prod.${id}.prod`,
  descriptor: microservice(id, change),
});

test("a link holds in both directions, the tighter one wins, and only who declares it waits", () => {
  const all = [sibling("web", near("db", 20)), sibling("db", near("web", 10)), sibling("log", near("db", 30))];
  assert.deepEqual(linksOf("web", all), [
    { measure: "latency", threshold: 10, service: "shop.prod.db.prod", waits: false },
  ]);
  assert.deepEqual(linksOf("db", all), [
    { measure: "latency", threshold: 10, service: "shop.prod.web.prod", waits: true },
    { measure: "latency", threshold: 30, service: "shop.prod.log.prod", waits: false },
  ]);
  assert.equal(linksOf("log", all)[0]!.waits, true);
});

test("in a circle of services one may always go first", () => {
  const all = [sibling("c", near("a")), sibling("a", near("b")), sibling("b", near("c"))];
  const placed = new Set<string>();
  for (let round = 0; round < 3; round++) {
    const next = all.find(
      ({ id, jobName }) =>
        !placed.has(jobName) && linksOf(id, all).every(({ waits, service }) => !waits || placed.has(service)),
    );
    assert.ok(next, `nobody may go after ${[...placed]}`);
    placed.add(next.jobName);
  }
});

test("constraints become links to users, labels and a time budget", () => {
  const links = userLinks([
    { type: "latency", target: "192.0.2.7", threshold: 20, rigidness: 0.9, convergence_time: 30 },
    { type: "latency", area: "munich-1", threshold: 20 },
    { type: "geo", location: "11.5755;48.1374", threshold: 120, convergence_time: 10 },
    { type: "direct", cluster: "a" },
  ]);
  assert.deepEqual(links, [
    { measure: "latency", threshold: 20, rigidness: 0.9, convergenceMs: 30_000, target: "192.0.2.7", kind: "host" },
    { measure: "latency", threshold: 20, target: "munich-1", kind: "area" },
    {
      measure: "geo",
      threshold: 120,
      convergenceMs: 10_000,
      target: "11.5755;48.1374",
      kind: "place",
      place: { latitude: 48.1374, longitude: 11.5755, radiusKm: 0 },
    },
  ]);
  const base = { memoryBytes: 0, cpuMillis: 0, gpus: 0, virtualization: "container", architectures: [], ports: [] };
  assert.equal(searchBudgetMs({ ...base, users: links }), 10_000);
  assert.equal(searchBudgetMs(base), undefined);
  assert.deepEqual(
    requiredLabels([
      { type: "labels", labels: { a: "1" } },
      { type: "labels", labels: { b: "2" } },
    ]),
    { a: "1", b: "2" },
  );
  assert.equal(requiredLabels([]), undefined);
  assert.equal(withTargets(base, new Map([["x", []]])), base);
});
