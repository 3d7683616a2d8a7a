import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { contains, formatAddress, parseAddress, parseSubnet } from "../addressing/subnet.ts";
import { type Known, lieIn } from "./claims.ts";
import type { Live } from "./live.ts";

const OVERLAY = ["10.30.0.0/16", "10.18.0.0/22"].map(parseSubnet);
const known: Known = {
  given: new Set(["10.18.0.0/26", "10.18.1.0/26"]),
  allowed: [parseSubnet("10.99.0.0/16")],
  isOverlay: (address) => OVERLAY.some((range) => contains(range, address)),
  holderOf: (address) => (address === "192.0.2.2" ? "other" : undefined),
};
const honest = { sandbox: "10.18.1.5", address: "192.0.2.1", subnets: ["10.18.0.0/26", "10.18.1.0/26"] };

function lie(change: Partial<typeof honest>, more: Partial<Known> = {}) {
  const { sandbox, address, subnets } = { ...honest, ...change };
  const live: Live = { sandbox, worker: { id: "w", address, subnets } };
  return lieIn(live, { ...known, ...more });
}

test("a worker is believed where it may be right, and else told which field, value and remedy", () => {
  const cases: readonly [string, Partial<typeof honest>, string | undefined, RegExp?][] = [
    ["all that it was given", {}, undefined],
    ["a part of it", { subnets: ["10.18.1.0/26"] }, undefined],
    ["one of its own, where that is allowed", { subnets: ["10.99.7.0/24"], sandbox: "10.99.7.9" }, undefined],
    ["a worker without an address for others", { address: "127.0.0.1" }, undefined],
    ["another worker's subnet", { subnets: ["10.18.0.64/26"], sandbox: "10.18.0.65" }, "subnet", /--allow-subnets/],
    ["a subnet within its own", { subnets: ["10.18.1.0/27"] }, "subnet"],
    ["the whole Internet besides", { subnets: ["10.18.1.0/26", "0.0.0.0/0"] }, "subnet"],
    ["more than is allowed", { subnets: ["10.98.0.0/15"], sandbox: "10.99.7.9" }, "subnet"],
    ["a range with host bits", { subnets: ["10.99.7.1/24"], sandbox: "10.99.7.9" }, "subnet"],
    ["another's sandbox", { sandbox: "10.18.0.66" }, "sandbox address", /none of the worker's subnets/],
    ["no subnet at all", { subnets: [] }, "sandbox address"],
    ["a service as its address", { address: "10.30.0.1" }, "address", /overlay's own/],
    ["everybody", { address: "255.255.255.255" }, "address", /no machine/],
    ["a group", { address: "224.0.0.1" }, "address", /no machine/],
    ["nobody", { address: "0.0.0.0" }, "address", /no machine/],
    ["a link of the overlay", { address: "169.254.18.1" }, "address", /no machine/],
    ["another worker's address", { address: "192.0.2.2" }, "address", /worker "other" has it/],
  ];
  for (const [what, change, field, reason] of cases) {
    const found = lie(change);
    assert.equal(found?.field, field, what);
    if (reason) assert.match(found!.reason, reason, what);
  }
  assert.match(lie({ subnets: ["10.99.7.0/24"] }, { allowed: [] })!.reason, /--allow-subnets 10\.99\.7\.0\/24/);
});

test("nothing that is believed lies outside what the worker was given, or may have of its own", () => {
  const address = fc.oneof(
    fc.integer({ min: 0, max: 0xffff_ffff }),
    fc.nat(1023).map((offset) => parseAddress("10.18.0.0")! + offset),
  );
  const subnet = fc.oneof(
    fc.constantFrom(...honest.subnets),
    fc.tuple(address, fc.integer({ min: 0, max: 32 })).map(([base, prefix]) => `${formatAddress(base)}/${prefix}`),
  );
  fc.assert(
    fc.property(address, fc.array(subnet, { maxLength: 3 }), (sandbox, subnets) => {
      if (lie({ sandbox: formatAddress(sandbox), subnets })) return;
      const mine = [...known.given].map(parseSubnet);
      assert.ok([...mine, ...known.allowed].some((range) => contains(range, sandbox)));
      for (const { base } of subnets.map(parseSubnet)) {
        assert.ok([...mine, ...known.allowed].some((range) => contains(range, base)));
      }
    }),
  );
});
