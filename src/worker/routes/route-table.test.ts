import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../../base/clock.fake.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { type InterestKey, interestIn, RouteUpdate, type ServiceRoute } from "../../protocol/route.ts";
import { StateFile } from "../state-file.ts";
import { APPLICATION, serviceRoute } from "./builders.fake.ts";
import { RouteTable } from "./route-table.ts";

function setUp() {
  const clock = new ManualClock();
  const seen = { interests: 0, routes: [] as string[][] };
  const table = new RouteTable({
    clock,
    onInterest: () => {
      seen.interests += 1;
    },
    onRoutes: (ids) => seen.routes.push([...ids]),
  });
  return { clock, seen, table };
}

const update = (change: Partial<RouteUpdate>): RouteUpdate => ({ tables: [], answers: [], gone: [], ...change });
const answer = (key: InterestKey, ...services: ServiceRoute[]) =>
  update({ tables: services, answers: [{ key, serviceIds: services.map(({ serviceId }) => serviceId) }] });
const web = serviceRoute(1);
const application = interestIn.application(APPLICATION);
const missed = interestIn.address(web.roundRobin);

test("everything of a desired application is at hand, by address, name and application", () => {
  const { seen, table } = setUp();
  table.keepApplications([APPLICATION]);
  assert.deepEqual(table.connected(), { full: true, add: [application], remove: [] });
  table.apply(answer(application, web, serviceRoute(2)));
  assert.deepEqual(seen.routes, [[web.serviceId, serviceRoute(2).serviceId]]);
  assert.equal(table.byAddress("10.30.1.1")?.policy, "round-robin");
  assert.equal(table.byAddress("10.30.1.2")?.policy, "closest");
  const target = table.byAddress("10.30.2.101");
  assert.ok(target?.policy === "instance" && target.instance.number === 1);
  assert.equal(table.byAddress("10.30.9.9"), undefined);
  assert.equal(table.byName("Shop.PROD.web1.prod")?.serviceId, web.serviceId);
  assert.equal(table.servicesOf(APPLICATION).length, 2);
  assert.equal(table.want(missed), "known");
  assert.equal(table.takeChanges(), undefined, "what is at hand needs no interest");
});

test("a missed address is asked for once, and whoever waits is woken when its table is there", async () => {
  const { table } = setUp();
  table.connected();
  assert.equal(table.want(missed), "asked");
  assert.equal(table.want(missed), "asked");
  assert.deepEqual(table.takeChanges(), { full: false, add: [missed], remove: [] });
  assert.equal(table.takeChanges(), undefined);
  const settled = table.settled(missed, new AbortController().signal);
  table.apply(update({ answers: [{ key: missed, serviceIds: [web.serviceId] }] }));
  assert.equal(table.want(missed), "asked", "the answer without its table is no use");
  table.apply(update({ tables: [web] }));
  await settled;
  assert.equal(table.want(missed), "known");
  const impatient = new AbortController();
  assert.equal(table.want("name:a.b.c.d"), "asked");
  const waiting = table.settled("name:a.b.c.d", impatient.signal);
  impatient.abort(new Error("too late"));
  await assert.rejects(waiting, { message: "too late" });
});

test("what stands for nothing is refused for 5 s, and its interest is withdrawn", async () => {
  const { clock, table } = setUp();
  table.connected();
  table.want(missed);
  table.takeChanges();
  const settled = table.settled(missed, new AbortController().signal);
  table.apply(answer(missed));
  await settled;
  assert.equal(table.want(missed), "refused");
  assert.deepEqual(table.takeChanges(), { full: false, add: [], remove: [missed] });
  assert.equal(table.want(missed), "refused");
  assert.ok(table.isRefused(missed));
  await clock.advance(5000);
  assert.equal(table.want(missed), "asked");
  assert.deepEqual(table.takeChanges()?.add, [missed]);
});

test("older generations are ignored; a new connection begins anew, whatever its generations", () => {
  const { seen, table } = setUp();
  table.keepApplications([APPLICATION]);
  table.connected();
  const generation = (n: number) => serviceRoute(1, { generation: n, instanceCount: n });
  table.apply(answer(application, generation(5)));
  table.apply(update({ tables: [generation(4)] }));
  table.apply(update({ tables: [generation(5)] }));
  assert.equal(table.tables.get(web.serviceId)?.generation, 5);
  assert.equal(seen.routes.length, 1);
  table.apply(update({ tables: [generation(6)] }));
  assert.equal(table.byAddress("10.30.1.105")?.policy, "instance");
  table.connected();
  table.apply(answer(application, generation(2)));
  assert.equal(table.tables.get(web.serviceId)?.generation, 2, "restored from a backup, maybe");
  assert.equal(table.byAddress("10.30.1.105"), undefined);
});

test("a service that is gone is forgotten, and its address may belong to the next", () => {
  const { seen, table } = setUp();
  table.keepApplications([APPLICATION]);
  table.connected();
  const heir = serviceRoute(2, { roundRobin: web.roundRobin, jobName: web.jobName });
  table.apply(answer(application, web));
  table.apply(answer(application, web, heir));
  table.apply(update({ gone: [web.serviceId] }));
  assert.deepEqual(seen.routes.at(-1), [web.serviceId]);
  assert.equal(table.byAddress(web.roundRobin)?.service.serviceId, heir.serviceId);
  assert.equal(table.byName(web.jobName)?.serviceId, heir.serviceId);
  assert.equal(table.byAddress(web.closest), undefined);
  assert.deepEqual(table.servicesOf(APPLICATION), [heir]);
});

test("an interest in use stays, by lookups or by flows; unused it goes after 5 min, and its table with it", async () => {
  const { clock, table } = setUp();
  table.connected();
  const named = interestIn.name(web.jobName);
  table.want(named);
  table.takeChanges();
  table.apply(answer(named, web));
  await clock.advance(4 * 60_000);
  table.used([web.closest, "10.30.200.200"]);
  table.expire();
  await clock.advance(4 * 60_000);
  table.expire();
  assert.equal(table.takeChanges(), undefined);
  await clock.advance(60_000);
  table.expire();
  assert.ok(table.byAddress(web.roundRobin), "routed until the cluster is told");
  assert.deepEqual(table.takeChanges(), { full: false, add: [], remove: [named] });
  assert.equal(table.tables.size, 0);
  table.apply(update({ tables: [web] }));
  assert.equal(table.tables.size, 0, "what was under way is not taken up again");
});

test("an application without instances here goes when it is unused; a new instance keeps it", async () => {
  const { clock, table } = setUp();
  table.keepApplications([APPLICATION]);
  table.connected();
  table.apply(answer(application, web));
  table.keepApplications([]);
  await clock.advance(5 * 60_000);
  table.expire();
  table.keepApplications([APPLICATION]);
  assert.equal(table.takeChanges(), undefined, "wanted again before the cluster heard otherwise");
  assert.ok(table.byAddress(web.roundRobin));
  table.keepApplications([]);
  await clock.advance(5 * 60_000);
  table.expire();
  assert.deepEqual(table.takeChanges()?.remove, [application]);
  assert.equal(table.tables.size, 0);
});

test("an application that came and went before the cluster was told is withdrawn: its assignment was an interest", async () => {
  const { clock, table } = setUp();
  table.connected();
  table.keepApplications([APPLICATION]);
  table.keepApplications([]);
  await clock.advance(400_000);
  table.expire();
  assert.deepEqual(table.takeChanges(), { full: false, add: [], remove: [application] });
});

test("a flood of unknown addresses asks no more than 256 questions, and they are given up after 10 s", async () => {
  const { clock, table } = setUp();
  table.connected();
  const outcomes = new Map<string, number>();
  for (let n = 0; n < 5000; n++) {
    const outcome = table.want(interestIn.address(`10.30.${n >> 8}.${n & 255}`));
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  assert.deepEqual(
    [...outcomes],
    [
      ["asked", 256],
      ["refused", 4744],
    ],
  );
  assert.equal(table.takeChanges()?.add.length, 256);
  table.keepApplications([APPLICATION]);
  assert.deepEqual(table.takeChanges()?.add, [application], "what must run here is asked for all the same");
  await clock.advance(10_000);
  table.expire();
  assert.equal(table.takeChanges()?.remove.length, 256);
  assert.equal(table.want(interestIn.address("10.30.255.1")), "asked");
});

test("questions of a sandbox that floods us give way to those of others, also while the cluster is away", async () => {
  const { table } = setUp();
  table.connected();
  const flood = (third: number) => {
    for (let n = 0; n < 300; n++) table.want(interestIn.address(`10.30.${third + (n >> 8)}.${n & 255}`), "10.18.0.2");
  };
  flood(10);
  const [first, second] = [interestIn.address("10.30.10.0"), interestIn.address("10.30.10.1")];
  const given = table.settled(first, new AbortController().signal);
  assert.equal(table.want(interestIn.name("a.b.c.d"), "10.18.0.3"), "asked");
  await given;
  assert.equal(table.takeChanges()?.add.includes(first), false, "the oldest question is not asked any more");
  assert.equal(table.want(interestIn.name("b.b.c.d"), "10.18.0.3"), "asked");
  assert.deepEqual(table.takeChanges(), { full: false, add: [interestIn.name("b.b.c.d")], remove: [second] });
  // Nobody takes the changes now.
  for (let n = 0; n < 100; n++) {
    for (const asker of ["10.18.0.4", "10.18.0.5"]) table.want(interestIn.name(`s${n}.${asker}.c.d`), asker);
    flood(20 + n);
  }
  assert.ok(table.connected().add.length <= 512, "what waits for the cluster is bounded");
});

test("whatever happens, the cluster is told exactly the keys that are wanted, and only covered tables are kept", () => {
  const keys = [missed, interestIn.name(serviceRoute(2).jobName), interestIn.address("10.30.3.1"), application];
  const event = fc.oneof(
    fc.constantFrom(...keys).map((key) => ({ do: "want" as const, key })),
    fc.record({ do: fc.constant("answer" as const), key: fc.constantFrom(...keys), services: fc.subarray([1, 2, 3]) }),
    fc.record({ do: fc.constant("applications" as const), any: fc.boolean() }),
    fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(6000, 400_000) }),
    fc.constantFrom({ do: "send" as const }, { do: "connect" as const }, { do: "gone" as const }),
  );
  return fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 40 }), async (events) => {
      const { clock, table } = setUp();
      const told = new Set<string>();
      const answers = new Map<string, string[]>();
      const tell = (interest: ReturnType<RouteTable["takeChanges"]>) => {
        if (interest?.full) told.clear();
        for (const key of interest?.add ?? []) told.add(key);
        for (const key of interest?.remove ?? []) {
          assert.ok(told.delete(key) || key === application, "only what was told, or assigned, is withdrawn");
          answers.delete(key);
        }
      };
      for (const step of events) {
        if (step.do === "want") table.want(step.key);
        else if (step.do === "applications") table.keepApplications(step.any ? [APPLICATION] : []);
        else if (step.do === "send") tell(table.takeChanges());
        else if (step.do === "connect") tell(table.connected());
        else if (step.do === "gone") table.apply(update({ gone: [web.serviceId] }));
        else if (step.do === "pass") {
          await clock.advance(step.ms);
          table.expire();
        } else table.apply(answer(step.key, ...step.services.map((n) => serviceRoute(n))));
      }
      tell(table.takeChanges());
      assert.equal(table.takeChanges(), undefined);
      const snapshot = table.snapshot();
      const covered = new Set(snapshot.answers.flatMap(({ serviceIds }) => serviceIds));
      for (const { key } of snapshot.answers) assert.ok(told.has(key));
      for (const serviceId of table.tables.keys()) assert.ok(covered.has(serviceId));
    }),
    { numRuns: 300 },
  );
});

test("routes.json brings everything back, and a broken one nothing", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "oak-routes-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "routes.json");
  const before = setUp().table;
  before.keepApplications([APPLICATION]);
  before.want(missed);
  before.apply(answer(application, web));
  before.apply(answer(missed, web));
  const options = {
    path,
    schema: RouteUpdate,
    snapshot: () => before.snapshot(),
    log: silentLogger,
    clock: systemClock,
  };
  assert.equal(await new StateFile(options).read(), undefined);
  const file = new StateFile(options);
  file.trigger();
  await file.run(AbortSignal.abort());
  const stored = await new StateFile(options).read();
  const { clock, table } = setUp();
  table.restore(stored!);
  assert.equal(table.byAddress(web.roundRobin)?.service.jobName, web.jobName);
  assert.deepEqual(table.servicesOf(APPLICATION), [web]);
  await table.settled(application, new AbortController().signal);
  assert.deepEqual(new Set(table.connected().add), new Set([application, missed]));
  await clock.advance(5 * 60_000);
  table.expire();
  assert.equal(table.takeChanges()?.remove.length, 2, "nobody used them since");
  for (const text of ["{", '{"tables":[{}]}']) {
    writeFileSync(path, text);
    assert.equal(await new StateFile(options).read(), undefined);
  }
});
