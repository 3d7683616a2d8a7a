import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FreeAddresses } from "./free-addresses.ts";
import { rangeFinder } from "./range-finder.ts";
import { contains, formatAddress, formatSubnet, overlaps, parseAddress, parseSubnet, sizeOf } from "./subnet.ts";

const address = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const subnet = fc.tuple(address, fc.integer({ min: 0, max: 32 })).map(([base, prefix]) => {
  const size = 2 ** (32 - prefix);
  return { base: Math.floor(base / size) * size, prefix };
});

test("addresses and subnets read back as they were printed", () => {
  fc.assert(fc.property(address, (number) => assert.equal(parseAddress(formatAddress(number)), number)));
  fc.assert(fc.property(subnet, (value) => assert.deepEqual(parseSubnet(formatSubnet(value)), value)));
});

test("what is not an address is none", () => {
  for (const text of ["", "10.0.0", "10.0.0.256", "10.0.0.1.2", " 10.0.0.1", "10.0.0.1\n", "a.b.c.d", "1e1.0.0.1"]) {
    assert.equal(parseAddress(text), undefined, text);
  }
});

test("parseSubnet() refuses nonsense, and says which subnet was meant when host bits are set", () => {
  for (const text of ["", "10.18.0.0", "10.18.0.0/", "10.18.0.0/33", "10.18.0.0/2 2", "10.18.0.0/22/1", "x/8"]) {
    assert.throws(() => parseSubnet(text), { code: "SUBNET_INVALID" }, text);
  }
  assert.throws(() => parseSubnet("10.18.0.1/22"), { code: "SUBNET_INVALID", message: /10\.18\.0\.0\/22/ });
});

test("overlaps() is symmetric, and true exactly when an address is in both", () => {
  fc.assert(
    fc.property(subnet, subnet, (left, right) => {
      const expected = contains(left, right.base) || contains(right, left.base);
      assert.equal(overlaps(left, right), expected);
      assert.equal(overlaps(right, left), expected);
    }),
  );
});

test("contains() is true for the first and the last address, and for neither neighbour", () => {
  fc.assert(
    fc.property(subnet, (value) => {
      const last = value.base + sizeOf(value) - 1;
      assert.ok(contains(value, value.base) && contains(value, last));
      assert.ok(!contains(value, value.base - 1) && !contains(value, last + 1));
    }),
  );
});

test("FreeAddresses gives every address of the subnet once, never its ends, the gateway or a taken one", () => {
  fc.assert(
    fc.property(fc.integer({ min: 20, max: 30 }), fc.array(fc.nat(4096)), (prefix, offsets) => {
      const range = { base: 0x0a120000, prefix };
      const taken = offsets.map((offset) => range.base + offset);
      const free = new FreeAddresses(range, taken);
      const given = Array.from({ length: free.count }, () => free.take()!);
      assert.equal(free.take(), undefined);
      const usable = Array.from({ length: sizeOf(range) - 3 }, (_, index) => range.base + 2 + index);
      assert.deepEqual(
        given.toSorted((left, right) => left - right),
        usable.filter((one) => !taken.includes(one)),
      );
    }),
  );
});

test("FreeAddresses gives the address that has been free for longest, and after a start those beyond the newest first", () => {
  const range = parseSubnet("10.18.0.0/29");
  const free = new FreeAddresses(range, [range.base + 3]);
  assert.deepEqual([free.take(), free.take()], [range.base + 4, range.base + 5]);
  free.release(range.base + 4);
  assert.deepEqual([free.take(), free.take(), free.take()], [range.base + 6, range.base + 2, range.base + 4]);
});

test("an address is found in the same range among many as one by one", () => {
  const range = fc.tuple(fc.nat({ max: 0xffff }), fc.integer({ min: 18, max: 30 })).map(([number, prefix]) => ({
    base: 10 * 2 ** 24 + Math.floor(number / 2 ** (32 - prefix)) * 2 ** (32 - prefix),
    prefix,
  }));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 20 }), fc.integer({ min: -5, max: 0x1_0005 }), (ranges, offset) => {
      const address = 10 * 2 ** 24 + offset;
      const [widest] = ranges.filter((one) => contains(one, address)).sort((one, other) => one.prefix - other.prefix);
      assert.deepEqual(rangeFinder(ranges)(address), widest);
    }),
  );
});
