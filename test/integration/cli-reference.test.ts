import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { path, withReference } from "../../scripts/cli-reference.ts";
import { accepted } from "../../src/cli/accepted.ts";
import { ROLES } from "../../src/cli/edge.ts";
import { settingsOf } from "../../src/start-role.ts";

test("docs/cli.md describes the commands as they are", async () => {
  const text = readFileSync(path, "utf8");
  assert.equal(text, await withReference(text), "run: sh scripts/with-node.sh node scripts/cli-reference.ts");
});

test("every number among the settings has a range, and every setting says what it accepts", async () => {
  for (const role of ROLES) {
    for (const [key, setting] of Object.entries(await settingsOf(role))) {
      const words = accepted(setting);
      if (typeof setting.default === "number") assert.match(words, /^\d+ to \d+$/, `${role} ${key}`);
      else assert.ok(words.length > 0, `${role} ${key}`);
    }
  }
});
