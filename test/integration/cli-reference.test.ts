import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { path, withReference } from "../../scripts/cli-reference.ts";

test("docs/cli.md describes the commands as they are", async () => {
  const text = readFileSync(path, "utf8");
  assert.equal(text, await withReference(text), "run: sh scripts/with-node.sh node scripts/cli-reference.ts");
});
