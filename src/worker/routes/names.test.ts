import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../../base/clock.ts";
import { interestIn, type ServiceRoute } from "../../protocol/route.ts";
import { APPLICATION, serviceRoute } from "./builders.fake.ts";
import { createNameAnswers } from "./name-answers.ts";
import { type Resolution, resolveName } from "./names.ts";
import { RouteTable } from "./route-table.ts";

const signal = new AbortController().signal;
const isServiceAddress = (address: string) => address.startsWith("10.30.");
const asker = { applicationId: APPLICATION, jobName: "Shop.prod.web.test" };
const services = [
  serviceRoute(1, { jobName: "Shop.prod.db.prod" }),
  serviceRoute(2, { jobName: "Shop.prod.Web.prod" }),
  serviceRoute(3, { jobName: "Shop.prod.web.test" }),
  serviceRoute(4, { jobName: "Shop.prod.dev.prod" }),
];
const other = serviceRoute(5, { jobName: "videoAnalytics.org.ServiceB.default", applicationId: "b".repeat(24) });

function tableWith(...known: readonly ServiceRoute[]) {
  const table = new RouteTable({ clock: systemClock, onInterest: () => {}, onRoutes: () => {} });
  table.keepApplications([APPLICATION]);
  const own = known.filter(({ applicationId }) => applicationId === APPLICATION);
  const ids = (routes: readonly ServiceRoute[]) => routes.map(({ serviceId }) => serviceId);
  for (const { jobName } of known) table.want(interestIn.name(jobName));
  const byName = known.map((route) => ({ key: interestIn.name(route.jobName), serviceIds: ids([route]) }));
  const answers = [{ key: interestIn.application(APPLICATION), serviceIds: ids(own) }, ...byName];
  table.apply({ tables: [...known], answers, gone: [] });
  return table;
}
const table = tableWith(...services, other);
const resolve = (name: string, from: typeof asker | undefined = asker) =>
  resolveName({ name, asker: from, isServiceAddress }, table);
const address = (text: string): Resolution => ({ kind: "address", address: text });

test("names are resolved as the grammar says", () => {
  const none: Resolution = { kind: "none" };
  const foreign: Resolution = { kind: "foreign" };
  const expected: [string, Resolution][] = [
    ["any.closest.ServiceB.default.videoAnalytics.org", address("10.30.5.2")],
    ["ANY.RR.serviceb.default.videoanalytics.ORG.", address("10.30.5.1")],
    ["any.round-robin.ServiceB.default.videoAnalytics.org", address("10.30.5.1")],
    ["1.instance.ServiceB.default.videoAnalytics.org", address("10.30.5.101")],
    ["1.rr.ServiceB.default.videoAnalytics.org", address("10.30.5.101")],
    ["7.instance.ServiceB.default.videoAnalytics.org", none],
    ["any.instance.ServiceB.default.videoAnalytics.org", none],
    ["any.rr.nothing.default.videoAnalytics.org", { kind: "unknown", jobName: "videoanalytics.org.nothing.default" }],
    [`any.rr.${"s".repeat(31)}.default.videoAnalytics.org`, none],
    ["some.rr.ServiceB.default.videoAnalytics.org", foreign],
    ["any.best.ServiceB.default.videoAnalytics.org", foreign],
    ["any.constructor.ServiceB.default.videoAnalytics.org", foreign],
    ["db", address("10.30.1.1")],
    ["DB.", address("10.30.1.1")],
    ["db.rr", address("10.30.1.1")],
    ["db.closest", address("10.30.1.2")],
    ["1.db", address("10.30.1.101")],
    ["9.db", none],
    ["db.instance", none],
    ["nothing", none],
    ["ServiceB", none],
    ["nothing.closest", foreign],
    ["web", address("10.30.3.1")],
    ["1.dev", address("10.30.4.101")],
    ["web.dev", foreign],
    ["1.com", foreign],
    ["example.com", foreign],
    ["www.example.com", foreign],
    ["a.b.c.d.e.example.com", foreign],
    ["", foreign],
    ["100.1.30.10.in-addr.arpa", { kind: "pointer", name: "0.instance.db.prod.Shop.prod" }],
    ["2.5.30.10.IN-ADDR.ARPA.", { kind: "pointer", name: "any.closest.ServiceB.default.videoAnalytics.org" }],
    ["1.1.30.10.in-addr.arpa", { kind: "pointer", name: "any.rr.db.prod.Shop.prod" }],
    ["9.9.30.10.in-addr.arpa", { kind: "unknown", address: "10.30.9.9" }],
    ["1.1.1.1.in-addr.arpa", foreign],
  ];
  for (const [name, resolution] of expected) assert.deepEqual(resolve(name), resolution, name);
});

test("who is no instance of ours has no short names", () => {
  const noOne = { name: "db", asker: undefined, isServiceAddress };
  assert.deepEqual(resolveName(noOne, table), { kind: "none" });
  assert.deepEqual(resolveName({ ...noOne, name: "1.db" }, table), { kind: "foreign" });
  const elsewhere = { applicationId: "b".repeat(24), jobName: other.jobName };
  assert.deepEqual(resolveName({ ...noOne, asker: elsewhere }, table), { kind: "none" });
});

test("of two namesakes without one in the asker's namespace the first by name counts, always the same", () => {
  assert.deepEqual(resolve("web", { ...asker, jobName: "Shop.prod.db.prod" }), address("10.30.2.1"));
  assert.deepEqual(resolve("web", { ...asker, jobName: "Shop.prod.x.other" }), address("10.30.2.1"));
});

test("resolveName() never throws, and names of three to five labels are never ours", () => {
  const label = fc.oneof(fc.constantFrom("any", "1", "rr", "closest", "db", "web"), fc.string({ maxLength: 5 }));
  fc.assert(
    fc.property(fc.array(label, { minLength: 1, maxLength: 8 }), (labels) => {
      const { kind } = resolve(labels.join("."));
      const count = labels.join(".").replace(/\.$/, "").split(".").length;
      if (count >= 3 && count <= 5) assert.equal(kind, "foreign");
    }),
  );
});

test("a name that is not known yet is asked for, and answered when the answer comes", async () => {
  const routes = tableWith();
  const answers = createNameAnswers({ routes, askerAt: () => asker, isServiceAddress, timeoutMs: 50 });
  const ask = (name: string) => answers({ name, source: "10.18.0.2" }, signal);
  const pending = ask("any.rr.ServiceB.default.videoAnalytics.org");
  const key = interestIn.name(other.jobName);
  assert.ok(routes.takeChanges()?.add.includes(key));
  routes.apply({ tables: [other], answers: [{ key, serviceIds: [other.serviceId] }], gone: [] });
  assert.deepEqual(await pending, { kind: "address", address: "10.30.5.1" });
  const unknown = ask("any.rr.no.no.no.no");
  routes.apply({ tables: [], answers: [{ key: interestIn.name("no.no.no.no"), serviceIds: [] }], gone: [] });
  assert.deepEqual(await unknown, { kind: "none" });
  assert.deepEqual(await ask("any.rr.no.no.no.no"), { kind: "none" });
  assert.deepEqual(await ask("9.9.30.10.in-addr.arpa"), { kind: "failed" }, "nobody answers");
  assert.deepEqual(await ask("example.com"), { kind: "forward" });
  assert.deepEqual(await ask("db"), { kind: "none" });
});
