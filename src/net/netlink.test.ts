import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { attribute, attributes, errorOf, NESTED } from "./netlink.ts";

test("attributes are read as they were written, whatever their lengths", () => {
  const list = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 100 }), fc.uint8Array({ maxLength: 20 })), {
    selector: ([type]) => type,
  });
  fc.assert(
    fc.property(list, fc.boolean(), (given, isNested) => {
      const flag = isNested ? NESTED : 0;
      const bytes = Buffer.concat(given.map(([type, content]) => attribute(flag | type, Buffer.from(content))));
      assert.equal(bytes.length % 4, 0);
      assert.deepEqual(
        [...attributes(bytes)],
        given.map(([type, content]) => [type, Buffer.from(content)]),
      );
    }),
  );
});

test("attributes() ends at what is cut off or has no length, and never throws", () => {
  const two = Buffer.concat([attribute(1, Buffer.from("first")), attribute(2, Buffer.from("second"))]);
  for (let length = 0; length < two.length - 2; length++) {
    assert.equal(attributes(two.subarray(0, length)).get(2), undefined);
  }
  assert.equal(attributes(Buffer.alloc(40)).size, 0);
  assert.equal(attributes(undefined).size, 0);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void attributes(Buffer.from(bytes))));
});

test("errorOf() tells done and refused from other answers", () => {
  const answer = Buffer.alloc(36);
  answer.writeUInt16LE(2, 4);
  assert.equal(errorOf(answer), 0);
  answer.writeInt32LE(-2, 16);
  assert.equal(errorOf(answer), -2);
  assert.equal(errorOf(answer.subarray(0, 19)), undefined);
  answer.writeUInt16LE(0x100, 4);
  assert.equal(errorOf(answer), undefined);
});
