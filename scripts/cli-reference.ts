/** Writes the second half of docs/cli.md, the reference of all commands. A test compares it. */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeCommand } from "../src/cli/command-tree.ts";
import { fakeEdge } from "../src/cli/edge.fake.ts";
import { createFullProgram } from "../src/cli/program.ts";
import { commandReference } from "../src/cli/reference.ts";
import { COMMON_SETTINGS } from "../src/cli/role-settings.ts";
import { settingsOf } from "../src/start-role.ts";

export const path = join(dirname(dirname(fileURLToPath(import.meta.url))), "docs/cli.md");
const MARK = "<!-- From here on: node scripts/cli-reference.ts -->\n";

export async function withReference(text: string): Promise<string> {
  const edge = fakeEdge({ roleSettings: async (role) => ({ ...(await settingsOf(role)), ...COMMON_SETTINGS }) });
  const [introduction] = text.split(MARK);
  return `${introduction}${MARK}\n${commandReference(describeCommand(await createFullProgram(edge)))}`;
}

if (import.meta.main) writeFileSync(path, await withReference(readFileSync(path, "utf8")));
