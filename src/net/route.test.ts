import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseRoute, routeRequest } from "./route.ts";

test("routeRequest() asks for the way from one address to another", () => {
  assert.equal(
    routeRequest(0xc0000201, 0xcb007103).toString("hex"),
    [
      ["2c000000", "1a00", "0100", "00000000", "00000000"],
      ["02", "20", "20", "00", "00000000", "00000000"],
      ["0800", "0100", "cb007103", "0800", "0200", "c0000201"],
    ]
      .flat()
      .join(""),
  );
});

test("parseRoute() reads the link, of ways to other machines only, and never throws", () => {
  const answer = (type: number) => {
    const bytes = Buffer.from(
      `24000000 1800 0000 00000000 00000000 02202000fe0000${hexByte(type)}00000000 0800 0400 07000000`.replaceAll(
        " ",
        "",
      ),
      "hex",
    );
    assert.equal(bytes.readUInt32LE(0), bytes.length);
    return bytes;
  };
  assert.equal(parseRoute(answer(1)), 7);
  assert.equal(parseRoute(answer(2)), undefined, "to this machine");
  assert.equal(parseRoute(answer(7)), undefined, "unreachable");
  for (let length = 0; length < 36; length++) assert.equal(parseRoute(answer(1).subarray(0, length)), undefined);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => void parseRoute(Buffer.from(bytes))));
});

const hexByte = (value: number) => value.toString(16).padStart(2, "0");
