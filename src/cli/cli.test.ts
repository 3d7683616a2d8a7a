import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { deadline } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";
import { lockFolder } from "../base/folder-lock.ts";
import { startInBackground } from "./background.ts";
import { describeCommand } from "./command-tree.ts";
import { completionScript } from "./completion.ts";
import { readCredentials, writeCredentials } from "./credentials.ts";
import type { ServiceDocument } from "./documents.ts";
import { fakeEdge } from "./edge.fake.ts";
import { endOf } from "./exit-code.ts";
import { parseInstance, resolve } from "./names.ts";
import { printable, renderTable, toneOf } from "./output.ts";
import { readPidFile, writePidFile } from "./pid-file.ts";
import { createFullProgram } from "./program.ts";
import { judge, observe, type Sights, STABLE_MS, surplus } from "./progress.ts";

const folder = mkdtempSync(join(tmpdir(), "oak-cli-"));
after(() => rmSync(folder, { recursive: true }));

test("resolve() takes ids and names, and lists what there is when it finds none or several", () => {
  const things = [
    { id: "1", names: ["a.x.web.x", "a.web", "web"] },
    { id: "2", names: ["b.x.web.x", "b.web", "web"] },
  ];
  assert.equal(resolve("service", "2", things).id, "2");
  assert.equal(resolve("service", "a.web", things).id, "1");
  assert.throws(
    () => resolve("service", "web", things),
    (error) => hasCode(error, "NAME_AMBIGUOUS") && /a\.x\.web\.x.*b\.x\.web\.x/.test(String(error)),
  );
  assert.throws(
    () => resolve("service", "c", things),
    (error) => hasCode(error, "NAME_UNKNOWN"),
  );
});

test("parseInstance() knows every spelling of an instance", () => {
  const id = "0123456789abcdef01234567";
  assert.deepEqual(parseInstance("web/2"), { service: "web", number: 2 });
  assert.deepEqual(parseInstance("web"), { service: "web" });
  assert.deepEqual(parseInstance(`${id}-12`), { service: id, number: 12 });
  assert.deepEqual(parseInstance("a.b.c.d.instance.3"), { service: "a.b.c.d", number: 3 });
  for (const text of ["web/", "web/x", "/1x", "a/b/c"]) assert.throws(() => parseInstance(text), AppError);
});

test("a table aligns its columns, and foreign control characters never reach the terminal", () => {
  const columns = [
    { title: "NAME", value: (row: { name: string; n?: number }) => row.name },
    { title: "N", value: (row: { name: string; n?: number }) => row.n },
  ];
  assert.equal(
    renderTable([{ name: "a", n: 1 }, { name: "long name" }], columns, false),
    "NAME       N\na          1\nlong name  -\n",
  );
  assert.equal(printable("\u001b[2Jx\ny"), "\ufffd[2Jx y");
  assert.equal(toneOf("RUNNING"), "good");
  assert.equal(toneOf("whatever"), "plain");
});

const service = (...instances: [number, string][]): ServiceDocument => ({
  microserviceID: "1",
  applicationID: "2",
  microservice_name: "web",
  microservice_namespace: "x",
  warnings: [],
  instance_list: instances.map(([instance_number, status]) => ({ instance_number, status })),
});

test("judge() waits for calm, fails for what will not get better, and never for a single death", () => {
  const after = (statuses: readonly string[], { oneShot = false, waitMs = 0 } = {}) => {
    let sights: Sights = new Map();
    for (const status of statuses) sights = observe(sights, { service: service([0, status]), watched: [0], now: 0 });
    return judge(sights, { oneShot, now: waitMs }).kind;
  };
  assert.equal(after(["REQUESTED"]), "waiting");
  assert.equal(after(["PULLING"], { waitMs: 600_000 }), "waiting");
  assert.equal(after(["RUNNING"]), "waiting");
  assert.equal(after(["RUNNING"], { waitMs: STABLE_MS }), "done");
  assert.equal(after(["RUNNING"], { waitMs: STABLE_MS, oneShot: true }), "waiting");
  assert.equal(after(["COMPLETED"], { oneShot: true }), "done");
  assert.equal(after(["FAILED"]), "failed");
  assert.equal(after(["UNDEPLOYED"]), "failed");
  assert.equal(after(["DEAD", "RUNNING", "DEAD"], { waitMs: 9999 }), "waiting");
  assert.equal(after(["DEAD", "RUNNING", "DEAD", "RUNNING", "DEAD"]), "failed");
  assert.equal(after(["DEAD"], { oneShot: true }), "failed");
  assert.equal(after(["NoActiveClusterWithCapacity"]), "waiting");
  assert.equal(after(["NoActiveClusterWithCapacity"], { waitMs: 10_000 }), "failed");
});

test("an instance that vanished from its service counts as removed", () => {
  const sights = observe(new Map(), { service: service([1, "RUNNING"]), watched: [0, 1], now: 0 });
  assert.deepEqual(judge(sights, { oneShot: false, now: 0 }), {
    kind: "failed",
    instance: 0,
    reason: "it was removed while we waited",
  });
});

test("surplus() leaves as many as wanted, and takes a running one only when no other is left", () => {
  const status = fc.constantFrom("RUNNING", "DEAD", "REQUESTED");
  fc.assert(
    fc.property(fc.array(status, { maxLength: 12 }), fc.nat({ max: 14 }), (statuses, count) => {
      const instances = service(...statuses.map((one, n): [number, string] => [n, one])).instance_list!;
      const removed = surplus(instances, count);
      assert.equal(instances.length - removed.length, Math.min(count, instances.length));
      const left = instances.filter(({ instance_number }) => !removed.includes(instance_number));
      const tookRunning = removed.some((number) => instances[number]?.status === "RUNNING");
      assert.ok(!tookRunning || left.every((instance) => instance.status === "RUNNING"));
    }),
  );
  assert.deepEqual(surplus(service([0, "RUNNING"], [1, "RUNNING"], [2, "RUNNING"]).instance_list!, 1), [2, 1]);
});

test("exit codes tell a fault of the input from one of the world", () => {
  const full = Object.assign(new Error("no space"), { code: "ENOSPC" });
  const cases: [unknown, number][] = [
    [new AppError("INPUT_INVALID", "x"), 2],
    [new AppError("INVALID_BODY", "x"), 2],
    [new AppError("NAME_UNKNOWN", "x"), 1],
    [new Error("x"), 1],
    [Object.assign(new Error("x"), { code: "commander.unknownOption", exitCode: 1 }), 2],
    [Object.assign(new Error("x"), { code: "commander.help", exitCode: 0 }), 0],
  ];
  for (const [error, expected] of cases) assert.equal(endOf(error, false).exitCode, expected);
  assert.equal(endOf(new Error("x"), true).exitCode, 130);
  assert.match(
    endOf(new AppError("X", "Cannot write", { cause: full }), false).message!,
    /Cannot write: no space\nThe disk is full/,
  );
});

test("the login file is private, and a damaged one says so", async () => {
  const path = join(folder, "login.json");
  const credentials = { server: "http://a", user: "ann", token: "t", refreshToken: "r" };
  await writeCredentials(path, credentials);
  assert.deepEqual(await readCredentials(path), credentials);
  writeFileSync(path, "{");
  await assert.rejects(readCredentials(path), (error) => hasCode(error, "CREDENTIALS_INVALID"));
  assert.equal(await readCredentials(join(folder, "none")), undefined);
});

test("a pid file names a process that lives, and no other one that got its number", async () => {
  const path = join(folder, "oak.pid");
  assert.equal(await readPidFile(path), undefined);
  const child = spawn("sleep", ["60"]);
  await writePidFile(path, child.pid!);
  assert.equal(await readPidFile(path), child.pid);
  const [pid, started] = readFileSync(path, "utf8").split("\n");
  writeFileSync(path, `${pid}\n${Number(started) - 1}\n`);
  assert.equal(await readPidFile(path), undefined);
  child.kill("SIGKILL");
  await new Promise((resolved) => child.on("exit", resolved));
  await writePidFile(path, child.pid!);
  assert.equal(await readPidFile(path), undefined);
});

test("a state folder is locked for as long as its process lives, even if that is killed", async () => {
  const state = join(folder, "state");
  const script = `import { lockFolder } from ${JSON.stringify(new URL("../base/folder-lock.ts", import.meta.url).href)};
    globalThis.lock = lockFolder(${JSON.stringify(state)}, process.pid); console.log("locked"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, [
    "--disable-warning=ExperimentalWarning",
    "--input-type=module-typescript",
    "-e",
    script,
  ]);
  await new Promise((resolved) => child.stdout.once("data", resolved));
  assert.throws(
    () => lockFolder(state, 1),
    (error) => hasCode(error, "FOLDER_LOCKED") && String(error).includes(`process ${child.pid}`),
  );
  child.kill("SIGKILL");
  await new Promise((resolved) => child.on("exit", resolved));
  lockFolder(state, 1).release();
  writeFileSync(join(folder, "file"), "");
  assert.throws(
    () => lockFolder(join(folder, "file"), 1),
    (error) => hasCode(error, "FOLDER_UNUSABLE"),
  );
});

test("startInBackground() returns what the child says, or fails with the end of its log", async () => {
  const logPath = join(folder, "log", "oak.log");
  const options = { environment: process.env, logPath, signal: deadline(10_000) };
  const said = await startInBackground({
    ...options,
    command: ["sh", "-c", 'echo "ready 1" >&"$OAK_READY_FD"; sleep 0.1'],
  });
  assert.equal(said, "ready 1\n");
  const line = JSON.stringify({ level: "error", message: "port taken", error: { message: "in use" } });
  await assert.rejects(
    startInBackground({ ...options, command: ["sh", "-c", `echo '${line}' >&2; exit 1`] }),
    (error) => hasCode(error, "START_FAILED") && /error: port taken: in use/.test(String(error)),
  );
  const slow = { ...options, signal: deadline(50), command: ["sleep", "60"] as const };
  await assert.rejects(startInBackground(slow), /did not start in time/);
});

test("the completion of bash offers commands and options of where one is", async () => {
  const tree = describeCommand(await createFullProgram(fakeEdge()));
  const script = completionScript("bash", tree);
  const complete = (...words: string[]) =>
    execFileSync(
      "bash",
      ["-c", `${script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _oak; echo "\${COMPREPLY[@]}"`, "bash", ...words],
      {
        encoding: "utf8",
      },
    ).trim();
  assert.equal(complete("oak", "st"), "status");
  assert.equal(complete("oak", "app", "s"), "show");
  assert.equal(complete("oak", "app", "ls", "--o"), "--output");
  assert.equal(complete("oak", "app", "ls", "-o", "j"), "json");
  assert.equal(complete("oak", "up", "--state"), "--state-dir");
  for (const shell of ["zsh", "fish"]) {
    assert.match(completionScript(shell, tree), /oak\/app\/ls/);
  }
  assert.throws(() => completionScript("csh", tree), AppError);
});
