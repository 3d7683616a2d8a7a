import assert from "node:assert/strict";
import { test } from "node:test";
import { ownAddress } from "./own-address.ts";

test("where there is no way to a host, its own address is not that of the unbound socket", async () => {
  // The kernel refuses a connection to it at once, as it does without a route.
  assert.notEqual(await ownAddress("255.255.255.255"), "0.0.0.0");
  assert.notEqual(await ownAddress("127.0.0.1"), "0.0.0.0");
});
