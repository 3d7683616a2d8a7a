import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NftEvents } from "./nft-events.ts";

/** As the kernel sent them: `nft delete element ip oakestra …`, a new generation by nft, and one by this program. */
const DELETED_ELEMENT =
  "4c0000000e0a0000000000006c2b0000020000030d0001006f616b657374726100000000060002006d000000200003001c0001000c00010008000100010101010c0002000800010002020202";
const BY_NFT = "2c0000000f0a0000010000006c2b00000000000308000100000000030800020000002b6c080003006e667400";
const BY_US =
  "340000000f0a000001000000125d8b9b0000000208000100000000020800020000002b1d0f0003004d61696e5468726561640000";

const bytes = (...messages: string[]) => Buffer.from(messages.join(""), "hex");
const elsewhere = DELETED_ELEMENT.replace(
  Buffer.from("oakestra").toString("hex"),
  Buffer.from("somebody").toString("hex"),
);
const otherFamily = DELETED_ELEMENT.replace("02000003", "0a000003");

test("a change of our tables is told once, at the end of its transaction, with who made it", () => {
  const events = new NftEvents();
  const byNft = { port: 11_116, pid: 11_116, program: "nft" };
  assert.deepEqual(events.push(bytes(DELETED_ELEMENT)), []);
  assert.deepEqual(events.push(bytes(DELETED_ELEMENT, BY_NFT)), [byNft]);
  assert.deepEqual(events.push(bytes(BY_NFT)), [], "nothing of ours");
  assert.deepEqual(events.push(bytes(DELETED_ELEMENT, BY_US, DELETED_ELEMENT, BY_NFT)), [
    { port: 0x9b8b_5d12, pid: 11_037, program: "MainThread" },
    byNft,
  ]);
});

test("changes of other tables are passed over, also of one with our name in another family", () => {
  assert.deepEqual(new NftEvents().push(bytes(elsewhere, BY_NFT, otherFamily, BY_NFT)), []);
});

test("whatever bytes arrive, they are read to their end without an error", () => {
  const valid = bytes(DELETED_ELEMENT, BY_NFT);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 }), (changes) => {
      const damaged = Buffer.from(valid);
      for (const [offset, value] of changes) damaged[offset] = value;
      assert.ok(new NftEvents().push(damaged).length <= 2);
    }),
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (junk) => void new NftEvents().push(Buffer.from(junk))));
});
