/** What every root store must keep to when it gives out addresses and blocks. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { addressPlan, DEFAULT_ADDRESSES } from "../../src/addressing/address-plan.ts";
import { contains, parseAddress, parseSubnet } from "../../src/addressing/subnet.ts";
import { ManualClock } from "../../src/base/clock.fake.ts";
import { AppError, hasCode } from "../../src/base/errors.ts";
import type { ApplicationDescriptor } from "../../src/protocol/descriptor.ts";
import type { RootStore } from "../../src/root/store/root-store.ts";
import { SqliteRootStore } from "../../src/root/store/sqlite-root-store.ts";

type Settings = typeof DEFAULT_ADDRESSES;

const IMPLEMENTATIONS: Readonly<Record<string, (folder: string, clock: ManualClock, settings: Settings) => RootStore>> =
  {
    SQLite: (folder, clock, settings) => new SqliteRootStore(join(folder, "root.db"), clock, addressPlan(settings)),
  };

for (const [name, open] of Object.entries(IMPLEMENTATIONS)) {
  describe(`addresses of a root store on ${name}`, () => {
    const withStore = async (
      change: Partial<Settings>,
      use: (store: RootStore, clock: ManualClock, reopen: (change: Partial<Settings>) => RootStore) => Promise<void>,
    ) => {
      const folder = mkdtempSync(join(tmpdir(), "oak-addresses-"));
      const clock = new ManualClock();
      let store = open(folder, clock, { ...DEFAULT_ADDRESSES, ...change });
      try {
        await use(store, clock, (other) => {
          store.close();
          store = open(folder, clock, { ...DEFAULT_ADDRESSES, ...other });
          return store;
        });
      } finally {
        store.close();
        rmSync(folder, { recursive: true });
      }
    };

    test("a service gets two addresses, an instance one, and all survive a restart", () =>
      withStore({}, async (store, clock, reopen) => {
        await store.addApplications("ann", [app("shop", {}, {})]);
        const services = await store.services();
        await store.addInstance(services[0]!.id, clock.now());
        assert.deepEqual(
          services.map(({ roundRobin, closest }) => [roundRobin, closest]),
          [
            ["10.30.0.1", "10.30.0.2"],
            ["10.30.0.3", "10.30.0.4"],
          ],
        );
        const again = reopen({});
        assert.deepEqual(await again.services(), await again.services({ owner: "ann" }));
        assert.equal((await again.instances())[0]?.address, "10.30.0.5");
        assert.equal((await again.addInstance(services[0]!.id, clock.now())).address, "10.30.0.6");
      }));

    test("wanted addresses are honoured, also when an earlier service of the request could have taken them", () =>
      withStore({}, async (store) => {
        await store.addApplications("ann", [app("a", {}, { rr_ip: "10.30.0.1", closest_ip: "" }), app("b", {})]);
        assert.deepEqual(
          (await store.services()).map(({ roundRobin, closest }) => [roundRobin, closest]),
          [
            ["10.30.0.2", "10.30.0.3"],
            ["10.30.0.1", "10.30.0.4"],
            ["10.30.0.5", "10.30.0.6"],
          ],
        );
      }));

    test("an address outside the range is refused naming the field, a taken one naming the holder; nothing is kept", () =>
      withStore({}, async (store, clock) => {
        await store.addApplications("ann", [app("shop", { rr_ip: "10.30.30.30" })]);
        const [shop] = await store.services();
        const { address } = await store.addInstance(shop!.id, clock.now());
        const cases: readonly [Record<string, string>, string, RegExp][] = [
          [
            { rr_ip: "10.31.0.1" },
            "INVALID_BODY",
            /addresses\.rr_ip: "10\.31\.0\.1" is not an address of 10\.30\.0\.0\/16/,
          ],
          [{ closest_ip: "10.30.7.255" }, "INVALID_BODY", /addresses\.closest_ip/],
          [{ closest_ip: "10.30.30.30" }, "ADDRESS_TAKEN", /taken by service "shop\.prod\.s0\.prod"/],
          [{ rr_ip: address }, "ADDRESS_TAKEN", /taken by service "shop\.prod\.s0\.prod"/],
          [{ rr_ip: "10.30.9.9", closest_ip: "10.30.9.9" }, "ADDRESS_TAKEN", /by service "new\.prod\.s1\.prod"/],
        ];
        for (const [addresses, expected, message] of cases) {
          await assert.rejects(store.addApplications("ann", [app("new", {}, addresses)]), (error) => {
            assert.ok(error instanceof AppError && error.code === expected, String(error));
            assert.match(error.message, message);
            return true;
          });
        }
        assert.equal((await store.applications()).length, 1);
        await store.addApplications("ann", [app("new", {})]);
        assert.equal((await store.services()).at(-1)?.roundRobin, "10.30.0.3", "a refused request used up nothing");
      }));

    test("a change of a service keeps, gives or refuses addresses", () =>
      withStore({}, async (store) => {
        await store.addApplications("ann", [app("a", {}), app("b", { rr_ip: "10.30.5.5" })]);
        const [a] = await store.services();
        const changed = await store.updateService(a!.id, service(0, { rr_ip: "10.30.4.4" }));
        assert.deepEqual([changed.roundRobin, changed.closest], ["10.30.4.4", a!.closest]);
        assert.equal(
          (await store.updateService(a!.id, service(0, {}))).roundRobin,
          "10.30.4.4",
          "not asked, not changed",
        );
        await assert.rejects(
          store.updateService(a!.id, service(0, { closest_ip: "10.30.5.5" })),
          code("ADDRESS_TAKEN"),
        );
        await store.updateService(a!.id, service(0, { rr_ip: a!.roundRobin }));
        assert.deepEqual(
          (await store.servicesOf(["address:10.30.4.4"])).get("address:10.30.4.4"),
          [],
          "what it replaced is free",
        );
      }));

    test("freed addresses rest, then the one that has rested for longest comes again; whoever names one gets it at once", () =>
      withStore({ serviceRange: "10.30.0.0/29", addressQuarantine: 60 }, async (store, clock) => {
        await store.addApplications("ann", [app("a", {}), app("b", {}), app("c", {})]);
        const [a, b, c] = await store.services();
        await store.addInstance(c!.id, clock.now());
        await store.removeService(b!.id);
        await clock.advance(1000);
        await store.removeService(a!.id);
        await assert.rejects(store.addApplications("ann", [app("d", {})]), code("NO_ADDRESS_LEFT"));
        await store.addApplications("ann", [app("e", { rr_ip: a!.roundRobin, closest_ip: a!.closest })]);
        await clock.advance(60_000);
        assert.equal((await store.addInstance(c!.id, clock.now())).address, b!.roundRobin);
        assert.equal((await store.addInstance(c!.id, clock.now())).address, b!.closest);
      }));

    test("addresses that were freed while the clock was a year ahead are not kept back when it is set right", () =>
      withStore({ serviceRange: "10.30.0.0/29", addressQuarantine: 10 }, async (store, clock) => {
        await store.addApplications("ann", [app("a", {}), app("b", {})]);
        const [a] = await store.services();
        await clock.advance(31_536_000_000);
        await store.removeApplication(a!.applicationId);
        await clock.advance(-31_536_000_000);
        await store.addApplications("ann", [app("c", {}), app("d", {})]);
        assert.equal((await store.services()).length, 3);
      }));

    test("another range takes effect for what is given out next", () =>
      withStore({}, async (store, _clock, reopen) => {
        await store.addApplications("ann", [app("a", {})]);
        const again = reopen({ serviceRange: "172.30.0.0/16" });
        await again.addApplications("ann", [app("b", {})]);
        assert.deepEqual(
          (await again.services()).map(({ roundRobin }) => roundRobin),
          ["10.30.0.1", "172.30.0.1"],
        );
      }));

    test("keys stand for the services that have the address, name or application", () =>
      withStore({}, async (store, clock) => {
        const [shop] = await store.addApplications("ann", [app("shop", {}, {})]);
        const [first, second] = await store.services();
        const { address } = await store.addInstance(second!.id, clock.now());
        const keys = [
          `address:${first!.closest}`,
          `address:${address}`,
          `name:${second!.jobName}`,
          "address:10.30.9.9",
        ];
        const found = await store.servicesOf([...keys, `application:${shop!.id}`]);
        assert.deepEqual([...found.values()], [[first!.id], [second!.id], [second!.id], [], [first!.id, second!.id]]);
        const routed = await store.routed([first!.id, "f".repeat(24), second!.id]);
        assert.deepEqual(
          routed.map(({ service: { id }, instances }) => [id, instances.length]),
          [
            [first!.id, 0],
            [second!.id, 1],
          ],
        );
      }));

    test("epochs grow, also across restarts", () =>
      withStore({}, async (store, _clock, reopen) => {
        assert.equal(await store.nextEpoch(), 1);
        assert.equal(await store.nextEpoch(), 2);
        assert.equal(await reopen({}).nextEpoch(), 3);
      }));

    test("a cluster gets blocks when it wants more, keeps them, and gives them back with itself", () =>
      withStore({ workerRange: ["10.18.0.0/21"], addressQuarantine: 60 }, async (store, clock, reopen) => {
        const [one, two] = [await joined(store, clock, "one"), await joined(store, clock, "two")];
        assert.deepEqual(await store.clusterNetwork(one, false), { serviceRange: "10.30.0.0/16", blocks: [] });
        assert.deepEqual((await store.clusterNetwork(one, true)).blocks, ["10.18.0.0/22"]);
        const again = reopen({ workerRange: ["10.18.0.0/21"], addressQuarantine: 60 });
        assert.deepEqual((await again.clusterNetwork(one, false)).blocks, ["10.18.0.0/22"]);
        assert.deepEqual((await again.clusterNetwork(two, true)).blocks, ["10.18.4.0/22"]);
        assert.deepEqual((await again.clusterNetwork(two, true)).blocks, ["10.18.4.0/22"], "all are given out");
        await again.removeCluster(one);
        assert.deepEqual((await again.clusterNetwork(one, true)).blocks, [], "it is gone");
        assert.deepEqual((await again.clusterNetwork(two, true)).blocks, ["10.18.4.0/22"], "the other one rests");
        await clock.advance(60_000);
        assert.deepEqual((await again.clusterNetwork(two, true)).blocks, ["10.18.0.0/22", "10.18.4.0/22"]);
      }));

    test("whatever happens, no address ever has two holders, and none comes back too early", () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ do: fc.constantFrom("app", "instance", "remove", "wait"), n: fc.nat(30) }), {
            maxLength: 60,
          }),
          (steps) =>
            withStore({ serviceRange: "10.30.0.0/27", addressQuarantine: 10 }, async (store, clock) => {
              const freedAt = new Map<string, number>();
              let before = new Set<string>();
              for (const [index, step] of steps.entries()) {
                const services = await store.services();
                const service = services[step.n % Math.max(1, services.length)];
                const wanted: Record<string, string> = step.n % 3 === 0 ? { rr_ip: `10.30.0.${step.n + 1}` } : {};
                const work = async () => {
                  if (step.do === "app") await store.addApplications("ann", [app(`a${index}`, wanted)]);
                  else if (step.do === "instance" && service) await store.addInstance(service.id, clock.now());
                  else if (step.do === "remove" && service) await store.removeApplication(service.applicationId);
                  else await clock.advance(step.n * 200);
                };
                await work().catch((error: unknown) => {
                  if (!hasCode(error, "NO_ADDRESS_LEFT") && !hasCode(error, "ADDRESS_TAKEN")) throw error;
                });
                const held = await heldAddresses(store);
                assert.equal(new Set(held).size, held.length, "two holders");
                for (const address of held) {
                  assert.ok(contains(parseSubnet("10.30.0.0/27"), parseAddress(address)!));
                  const isNamed = address === wanted.rr_ip;
                  if (before.has(address) || isNamed || !freedAt.has(address)) continue;
                  assert.ok(clock.now() - freedAt.get(address)! >= 10_000, `${address} came back too early`);
                }
                for (const address of before) if (!held.includes(address)) freedAt.set(address, clock.now());
                before = new Set(held);
              }
            }),
        ),
        { numRuns: 25 },
      ));
  });
}

async function heldAddresses(store: RootStore): Promise<string[]> {
  const services = await store.services();
  const instances = await store.instances();
  return [
    ...services.flatMap(({ roundRobin, closest }) => [roundRobin, closest]),
    ...instances.map(({ address }) => address),
  ];
}

async function joined(store: RootStore, clock: ManualClock, name: string): Promise<string> {
  await store.addJoinToken(name, clock.now() + 1);
  const hello = { name, location: "", ip: "192.0.2.1", keyDigest: name, joinTokenDigest: name, now: clock.now() };
  return (await store.admitCluster(hello)).id;
}

const code = (expected: string) => (error: unknown) => {
  assert.ok(hasCode(error, expected), `${expected} expected, got ${String(error)}`);
  return true;
};

const service = (index: number, addresses: Record<string, string>) => ({
  microservice_name: `s${index}`,
  microservice_namespace: "prod",
  virtualization: "container",
  code: "busybox",
  addresses,
});

const app = (name: string, ...addresses: Record<string, string>[]): ApplicationDescriptor => ({
  application_name: name,
  application_namespace: "prod",
  microservices: addresses.map((one, index) => service(index, one)),
});
