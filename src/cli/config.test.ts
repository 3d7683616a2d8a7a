import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import * as z from "zod/mini";
import { type Settings, Switch } from "../base/settings.ts";
import { accepted } from "./accepted.ts";
import { fakeEdge } from "./edge.fake.ts";
import { endOf } from "./exit-code.ts";
import { createProgram } from "./program.ts";
import { COMMON_SETTINGS } from "./role-settings.ts";

const folder = mkdtempSync(join(tmpdir(), "oak-config-"));
after(() => rmSync(folder, { recursive: true }));

const TABLE = {
  port: {
    schema: z.coerce.number().check(z.int(), z.minimum(0), z.maximum(65_535)),
    help: "TCP port.",
    default: 10_000,
  },
  stateDir: { schema: z.string().check(z.minLength(1)), help: "Folder.", default: "/var/lib/x" },
  root: { schema: z.url({ protocol: /^https?$/ }), help: "Address of the root.", default: "http://127.0.0.1:1" },
  open: { schema: Switch, help: "Lets everybody in.", default: false },
  password: { schema: z.optional(z.string().check(z.minLength(8))), help: "A secret.", secret: true },
  ...COMMON_SETTINGS,
} as const satisfies Settings;

async function oak(args: string[], environment: Record<string, string> = {}) {
  const asked: string[] = [];
  const edge = fakeEdge({
    environment,
    roleSettings: async (role) => {
      asked.push(role);
      return TABLE;
    },
  });
  try {
    await createProgram(edge).parseAsync(["node", "oak", "config", "explain", ...args]);
    return { exitCode: 0, stdout: edge.stdout, stderr: edge.stderr, asked };
  } catch (error) {
    const { exitCode, message } = endOf(error, false);
    return { exitCode, stdout: edge.stdout, stderr: edge.stderr + (message ?? ""), asked };
  }
}

const rowOf = (stdout: string, setting: string) =>
  stdout
    .split("\n")
    .find((line) => line.startsWith(`${setting} `))
    ?.split(/ {2,}/);

test("each setting has its value, where that comes from, what it accepts and what it means", async () => {
  const config = join(folder, "root.yaml");
  writeFileSync(config, "stateDir: /srv/oak\nopen: yes\nport: 1\n");
  const { exitCode, stdout } = await oak(["root", "--port", "5", "--config", config], {
    OAK_OPEN: "on",
    OAK_PORT: "7",
  });
  assert.equal(exitCode, 0);
  assert.deepEqual(rowOf(stdout, "port"), ["port", "5", "--port", "0 to 65535", "TCP port."]);
  assert.deepEqual(rowOf(stdout, "stateDir"), ["stateDir", "/srv/oak", `"stateDir" in ${config}`, "text", "Folder."]);
  assert.deepEqual(rowOf(stdout, "open"), ["open", "true", "OAK_OPEN", "on or off", "Lets everybody in."]);
  assert.deepEqual(rowOf(stdout, "root")?.slice(1, 4), ["http://127.0.0.1:1", "default", "a URL"]);
  assert.deepEqual(rowOf(stdout, "logFormat")?.slice(1, 4), ["auto", "default", "auto, text or json"]);
  assert.equal(rowOf((await oak(["root"], { OAK_CONFIG: config })).stdout, "port")?.[1], "1");
});

test("without a role it explains up; a word that is none ends with 2", async () => {
  assert.deepEqual((await oak([])).asked, ["up"]);
  const flagsOnly = await oak(["--port", "5"]);
  assert.deepEqual([flagsOnly.exitCode, flagsOnly.asked, rowOf(flagsOnly.stdout, "port")?.[1]], [0, ["up"], "5"]);
  const { exitCode, stderr } = await oak(["node"]);
  assert.equal(exitCode, 2);
  assert.match(stderr, /"node" is not a role: write up, root, cluster, worker/);
});

test("secrets are masked, as values, in URLs and where they are wrong", async () => {
  const right = await oak(["root", "--root", "http://ann:hunter2@host"], { OAK_PASSWORD: "hunter2hunter2" });
  assert.deepEqual(rowOf(right.stdout, "password")?.slice(1, 3), ["[set]", "OAK_PASSWORD"]);
  assert.equal(rowOf(right.stdout, "root")?.[1], "http://ann:[hidden]@host");
  const wrong = await oak(["root", "--root", "ftp://ann:hunter2@host"], { OAK_PASSWORD: "hunter2" });
  assert.equal(wrong.exitCode, 2);
  assert.ok(!/hunter2/.test(right.stdout + wrong.stdout + wrong.stderr), wrong.stderr);
  const token = await oak(["worker"], { OAK_JOIN_TOKEN: "hunter2" });
  assert.match(token.stderr, /OAK_JOIN_TOKEN is set/);
  assert.ok(!/hunter2/.test(token.stdout + token.stderr));
});

test("every wrong value is shown with what is wrong with it, and what is no setting too; that ends with 2", async () => {
  const config = join(folder, "wrong.yaml");
  writeFileSync(config, "stateDri: /srv\nlogLevel: loud\n");
  const { exitCode, stdout, stderr } = await oak(["root", "--port", "99999", "--config", config]);
  assert.equal(exitCode, 2);
  assert.deepEqual(rowOf(stdout, "port")?.slice(1, 3), ["✗ 99999", "--port"]);
  assert.match(stderr, /"stateDri" in .*wrong.yaml is not a setting; did you mean "stateDir"\?/);
  assert.match(stderr, /oak: --port does not accept "99999"/);
  assert.match(stderr, /oak: "logLevel" in .* does not accept "loud"/);
  assert.equal((await oak(["root", "--prot", "1"])).exitCode, 2);
  assert.equal((await oak(["root", "--config", join(folder, "none")])).exitCode, 2);
});

test("as JSON it is one document, with the option before or after the role", async () => {
  for (const args of [
    ["-o", "json", "root", "--port", "99999"],
    ["root", "--port", "99999", "-o", "json"],
  ]) {
    const { exitCode, stdout } = await oak(args);
    assert.equal(exitCode, 2);
    const { role, config, settings, problems } = JSON.parse(stdout);
    assert.deepEqual([role, config, problems.length], ["root", null, 1]);
    const { problem, ...port } = settings.find(({ setting }: { setting: string }) => setting === "port");
    assert.match(problem, /does not accept/);
    assert.deepEqual(port, {
      ...{ setting: "port", value: "99999", origin: "flag", source: "--port", accepts: "0 to 65535" },
      ...{ meaning: "TCP port.", flag: "--port", environment: "OAK_PORT" },
    });
  }
});

test("accepted() has words for each kind of schema", () => {
  const of = (schema: z.ZodMiniType, value?: unknown) => accepted({ schema, help: "", default: value });
  assert.equal(of(z.optional(z.string())), "text");
  assert.equal(of(z.number()), "a number");
  assert.equal(of(z.record(z.string(), z.string()), {}), "key=value, …");
  assert.equal(of(z.array(z.string())), "a list");
  assert.equal(of(Switch, true), "on or off");
  assert.equal(of(z.enum(["a"])), "a");
});
