/** Our tables in a real kernel while nft fails, before the kernel took a change or after: in the end they are what they should be. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { parseAddress, parseSubnet } from "../../src/addressing/subnet.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { initialState, type KernelState, withIdentity, withSandbox } from "../../src/net/kernel-state.ts";
import { openLibnftables } from "../../src/net/libnftables.ts";
import { nftFailed } from "../../src/net/network-errors.ts";
import type { Nft } from "../../src/net/nft.ts";
import { NftTable } from "../../src/net/nft-table.ts";
import type { ServiceRoutes } from "../../src/net/overlay.ts";
import { ip, isInside } from "./network-namespaces.ts";

if (isInside(import.meta.filename)) defineTests();

/** What the next calls of `run` do: work, fail before the kernel hears of them, or fail after it has taken them. */
type Fault = "none" | "before" | "after";

function defineTests(): void {
  const SANDBOX = parseAddress("10.18.0.2")!;
  const db: ServiceRoutes = service(1, ["10.18.0.2", "10.18.0.3"]);
  const web: ServiceRoutes = service(2, ["10.18.0.2"]);
  const faults: Fault[] = [];
  let kernel: Nft;
  let faulty: Nft;
  let table: NftTable;

  before(async () => {
    // What rules name, of whatever kind.
    await ip("link add oakvx type veth peer name oaktun");
    kernel = await openLibnftables();
    faulty = {
      run: async (text) => {
        const fault = faults.shift() ?? "none";
        if (fault !== "before") await kernel.run(text);
        if (fault !== "none") throw nftFailed("no memory");
      },
      list: (command) => kernel.list(command),
      close: () => {},
    };
  });
  after(() => kernel.close());

  beforeEach(async () => {
    faults.length = 0;
    table = newTable();
    await table.open(faulty);
    await table.setServices([db]);
  });

  function newTable(state = start()): NftTable {
    return new NftTable({ state, log: silentLogger, clock: systemClock });
  }

  /** Everything in our tables, without what differs between two that are alike. */
  async function contents(): Promise<unknown> {
    const listed = await Promise.all(["ip", "netdev"].map((family) => kernel.list(`list table ${family} oakestra`)));
    return JSON.parse(JSON.stringify(listed), (key, value) => {
      if (key === "handle" || key === "expires") return undefined;
      // The kernel gives elements in no particular order.
      return key === "elem" && Array.isArray(value)
        ? value.map((element: unknown) => JSON.stringify(element)).sort()
        : value;
    });
  }

  /** What a table is that never saw a failure. */
  async function assertAsIfNothingHadFailed(state: KernelState, services: readonly ServiceRoutes[]): Promise<void> {
    const found = await contents();
    const fresh = newTable(state);
    await fresh.setServices(services);
    await fresh.open(kernel);
    assert.deepEqual(found, await contents());
  }

  const change = () =>
    table.change((state) => withIdentity(withSandbox(state, SANDBOX), SANDBOX, parseAddress("10.30.0.9")));
  const changed = withIdentity(withSandbox(start(), SANDBOX), SANDBOX, parseAddress("10.30.0.9"));
  const reframe = () => table.change((state) => ({ ...state, frame: { ...state.frame, guardedPorts: [10_003] } }));
  const reframed = { ...start(), frame: { ...start().frame, guardedPorts: [10_003] } };

  for (const [name, act, state, services] of [
    ["a change of elements", change, changed, [db]],
    ["a change of rules", reframe, reframed, [db]],
    ["a change of services", () => table.setServices([db, web]), start(), [db, web]],
    ["the end of a service", () => table.setServices([]), start(), []],
  ] as const) {
    for (const pattern of [
      ["before"],
      ["after"],
      ["before", "before"],
      ["after", "after"],
      ["after", "before"],
      ["before", "after", "before", "after"],
    ] as const) {
      test(`${name} is in the tables after failures ${pattern.join(", ")}, once it is asked for until it succeeds`, async () => {
        faults.push(...pattern);
        let failures = 0;
        for (; await failed(act()); failures++) assert.ok(failures <= pattern.length, "it succeeds in the end");
        // One lost change of elements is made good by the whole state at once, and nobody needs to know.
        assert.equal(failures, pattern.length - (act === reframe ? 0 : 1));
        await assertAsIfNothingHadFailed(state, services);
      });
    }
  }

  test("without another call, the next check finds what failures have left, and loses no service", async () => {
    faults.push("after", "before");
    await assert.rejects(table.setServices([db, web]), { code: "NFT_FAILED" });
    assert.equal(await table.check(), true);
    await assertAsIfNothingHadFailed(start(), [db, web]);
  });

  test("a change that was refused to its caller is not in the tables after the next check, even if the kernel had taken it", async () => {
    faults.push("after", "after");
    await assert.rejects(change(), { code: "NFT_FAILED" });
    assert.equal(await table.check(), true);
    await assertAsIfNothingHadFailed(start(), [db]);
  });

  test("a check that fails is repeated by the next one", async () => {
    await kernel.run("delete table ip oakestra\n");
    faults.push("before");
    await assert.rejects(table.check(), { code: "NFT_FAILED" });
    assert.equal(await table.check(), true);
    assert.equal(await table.check(), false);
    await assertAsIfNothingHadFailed(start(), [db]);
  });
}

function start(): KernelState {
  return initialState({
    serviceRange: parseSubnet("10.30.0.0/16"),
    ranges: [{ first: parseAddress("10.18.0.0")!, last: parseAddress("10.30.255.255")! }],
    gateway: parseAddress("10.18.0.1"),
    guardedPorts: [],
    hasFastPath: false,
  });
}

function service(number: number, sandboxes: readonly string[]): ServiceRoutes {
  const instances = sandboxes.map((sandbox, index) => ({ address: `10.30.${number}.${3 + index}`, sandbox }));
  return { id: `service-${number}`, roundRobin: `10.30.${number}.1`, closest: `10.30.${number}.2`, instances };
}

async function failed(attempt: Promise<void>): Promise<boolean> {
  try {
    await attempt;
    return false;
  } catch (error) {
    assert.equal((error as { code?: string }).code, "NFT_FAILED");
    return true;
  }
}
