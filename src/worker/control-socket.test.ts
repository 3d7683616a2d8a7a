import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, watch, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { ControlSocket } from "./control-socket.ts";

function start(t: TestContext, path: string) {
  const stopping = new AbortController();
  const routes = { "GET /net": async () => ({ hello: true }) };
  const running = new ControlSocket({ path, routes, clock: systemClock, log: silentLogger }).run(stopping.signal);
  const stop = async () => {
    stopping.abort();
    await running;
  };
  t.after(stop);
  return stop;
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let tries = 0; !isTrue(); tries++) {
    assert.ok(tries < 1000);
    await systemClock.sleep(5);
  }
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "oak-control-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("the control socket is for its owner only from its first moment on, whatever the umask", async (t) => {
  const folder = folderOf(t);
  const path = join(folder, "worker.sock");
  const events: string[] = [];
  const watcher = watch(folder, (event, name) => name === "worker.sock" && events.push(event));
  t.after(() => watcher.close());
  const umask = process.umask(0);
  t.after(() => process.umask(umask));
  start(t, path);
  await until(() => events.length > 0 && existsSync(path) && (lstatSync(path).mode & 0o777) === 0o600);
  const last = join(folder, "last");
  writeFileSync(last, "");
  let hasSeenLast = false;
  watcher.on("change", (_, name) => {
    hasSeenLast ||= name === "last";
  });
  writeFileSync(last, "more");
  await until(() => hasSeenLast);
  assert.deepEqual(events, ["rename"], "it came there as it is: no change of its mode was seen");
});

test("the control socket takes the place of one that was left behind, answers, and leaves nothing", async (t) => {
  const folder = folderOf(t);
  const path = join(folder, "worker.sock");
  writeFileSync(path, "");
  const stop = start(t, path);
  await until(() => lstatSync(path).isSocket());
  const asked = request({ socketPath: path, path: "/net" }).end();
  const [response] = await once(asked, "response");
  assert.equal(response.statusCode, 200);
  response.resume();
  await once(response, "end");
  assert.deepEqual(readdirSync(folder), ["worker.sock"]);
  await stop();
  assert.deepEqual(readdirSync(folder), []);
});

test("a second worker leaves the control socket to the one that answers there", async (t) => {
  const path = join(folderOf(t), "worker.sock");
  start(t, path);
  await until(() => existsSync(path));
  const { ino } = lstatSync(path);
  const warned = Promise.withResolvers<void>();
  const log = { ...silentLogger, warn: () => warned.resolve() };
  const stopping = new AbortController();
  const second = new ControlSocket({ path, routes: {}, clock: systemClock, log }).run(stopping.signal);
  await warned.promise;
  stopping.abort();
  await second;
  assert.equal(lstatSync(path).ino, ino);
});
