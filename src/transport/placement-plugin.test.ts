import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ManualClock } from "../base/clock.fake.ts";
import { silentLogger } from "../base/log.ts";
import { openPlacementPlugin, type PlacementPluginPort, PluginProgram } from "./placement-plugin.ts";

const example = fileURLToPath(new URL("../../examples/placement-plugin-python/", import.meta.url));
const options = (timeoutMs = 5_000, clock = new ManualClock()) => ({ timeoutMs, log: silentLogger, clock });
/** A program whose only line of code is given. */
const script = (code: string) => [process.execPath, "-e", code] as const;
const ECHO = `require("readline").createInterface({input: process.stdin}).on("line", (line) =>`;

async function using<T>(plugin: PlacementPluginPort, work: (plugin: PlacementPluginPort) => Promise<T>): Promise<T> {
  try {
    return await work(plugin);
  } finally {
    plugin.close();
  }
}

test("the Python example answers question after question in one process", async () => {
  const question: unknown = JSON.parse(readFileSync(`${example}question.json`, "utf8"));
  await using(openPlacementPlugin(`python3 ${example}plugin.py`, options()), async (plugin) => {
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await plugin.ask(question), { answer: { ranking: ["roof-1", "roof-2", "cellar"] } });
    }
  });
});

test("questions asked at once are answered each with its own", async () => {
  await using(new PluginProgram(script(`${ECHO} console.log(line))`), options()), async (plugin) => {
    const answers = await Promise.all([1, 2, 3, 4].map((number) => plugin.ask({ number })));
    assert.deepEqual(
      answers,
      [1, 2, 3, 4].map((number) => ({ answer: { number } })),
    );
  });
});

const FAILURES: readonly [string, readonly [string, ...string[]], number, RegExp][] = [
  ["hangs", script("setInterval(() => {}, 1000)"), 200, /no answer within 200 ms/],
  ["crashes", script(`console.error("boom"); process.exit(3)`), 5_000, /it ended \(exit 3\): boom/],
  ["answers nonsense", script(`${ECHO} console.log("yes"))`), 5_000, /not JSON: "yes"/],
  ["answers twice", script(`${ECHO} process.stdout.write("1\\n2\\n"))`), 5_000, /more than a line/],
  [
    "never ends its line",
    script(`process.stdout.write("x".repeat(2e6)); setInterval(() => {}, 1000)`),
    5_000,
    /too long/,
  ],
  ["does not exist", ["/no/such/program"], 5_000, /cannot run "\/no\/such\/program"/],
  ["has no name", [""], 5_000, /./],
];
for (const [what, command, timeoutMs, expected] of FAILURES) {
  test(`a program that ${what} fails, and is left alone for a while`, async () => {
    const clock = new ManualClock();
    await using(new PluginProgram(command, options(timeoutMs, clock)), async (plugin) => {
      const reply = await plugin.ask({});
      assert.match("failed" in reply ? reply.failed : "answered", expected);
      const again = await plugin.ask({});
      assert.match("failed" in again ? again.failed : "answered", /not asked for 1 s more/);
    });
  });
}

test("after the pause it is started anew; each failure in a row doubles the pause", async () => {
  const clock = new ManualClock();
  const code = `${ECHO} JSON.parse(line).die ? process.exit(1) : console.log(line))`;
  await using(new PluginProgram(script(code), options(5_000, clock)), async (plugin) => {
    assert.ok("failed" in (await plugin.ask({ die: true })));
    await clock.advance(1_000);
    assert.ok("failed" in (await plugin.ask({ die: true })));
    await clock.advance(1_000);
    const early = await plugin.ask({});
    assert.match("failed" in early ? early.failed : "answered", /for 1 s more/);
    await clock.advance(1_000);
    assert.deepEqual(await plugin.ask({ fine: 1 }), { answer: { fine: 1 } });
  });
});

test("a late second line is not taken for the answer of the next question", async () => {
  const code = `${ECHO} { console.log(line); setTimeout(() => console.log('{"late":true}'), 50); })`;
  await using(new PluginProgram(script(code), options()), async (plugin) => {
    assert.deepEqual(await plugin.ask({ number: 1 }), { answer: { number: 1 } });
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.deepEqual(await plugin.ask({ number: 2 }), { answer: { number: 2 } });
  });
});

test("a service is asked by POST; any other status than 200, and silence, are failures", async () => {
  const server = createServer((request, response) => {
    if (request.url === "/hang") return;
    response.statusCode = request.url === "/rank" && request.method === "POST" ? 200 : 500;
    request.setEncoding("utf8").on("data", (text: string) => response.end(text));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ask = (path: string) => using(openPlacementPlugin(base + path, options(300)), (plugin) => plugin.ask({ a: 1 }));
  try {
    assert.deepEqual(await ask("/rank"), { answer: { a: 1 } });
    assert.deepEqual(await ask("/other"), { failed: "it answered with status 500" });
    const hung = await ask("/hang");
    assert.match("failed" in hung ? hung.failed : "answered", /No answer from/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
