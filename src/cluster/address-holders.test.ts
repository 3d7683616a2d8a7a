import assert from "node:assert/strict";
import { test } from "node:test";
import { AddressHolders } from "./address-holders.ts";

/** @param from by worker, the address that it is connected from */
function holders(from: Map<string, string>) {
  return new AddressHolders({
    connectedFrom: (address) => new Set([...from].flatMap(([id, one]) => (one === address ? [id] : []))),
    isConnected: (id) => from.has(id),
  });
}

test("a worker that is away keeps the address that it shares with one that is there", () => {
  const from = new Map([
    ["host", "192.0.2.1"],
    ["vm", "192.0.2.1"],
  ]);
  const it = holders(from);
  assert.equal(it.otherThan("host", "192.0.2.1"), undefined);
  from.delete("host");
  assert.equal(it.otherThan("host", "192.0.2.1"), undefined);
});

test("nobody has another's address: not one that it was never seen at, nor, once connected from elsewhere, its former one", () => {
  const from = new Map([["liar", "192.0.2.1"]]);
  const it = holders(from);
  assert.equal(it.otherThan("liar", "192.0.2.1"), undefined);
  from.set("other", "192.0.2.2");
  assert.equal(it.otherThan("liar", "192.0.2.2"), "other");
  from.delete("liar");
  assert.equal(it.otherThan("liar", "192.0.2.2"), "other", "being away makes nothing true");
  from.set("liar", "192.0.2.3");
  from.set("other", "192.0.2.1");
  assert.equal(it.otherThan("liar", "192.0.2.1"), "other", "it has moved, and the address is another's now");
});

test("an address from which nobody is connected is nobody else's, and what a removed worker had is forgotten", () => {
  const from = new Map([["one", "192.0.2.1"]]);
  const it = holders(from);
  assert.equal(it.otherThan("one", "192.0.2.9"), undefined);
  assert.equal(it.otherThan("one", "192.0.2.1"), undefined);
  it.forget("one");
  from.clear();
  from.set("two", "192.0.2.1");
  assert.equal(it.otherThan("one", "192.0.2.1"), "two");
});
