import assert from "node:assert/strict";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, test } from "node:test";
import { AppError, hasCode } from "../base/errors.ts";
import { silentLogger } from "../base/log.ts";
import { jsonAnswer } from "./http-answers.ts";
import type { Fetch } from "./http-message.ts";
import { Router } from "./http-router.ts";
import { HttpServer } from "./http-server.ts";

const servers: HttpServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

async function serve(answer: Fetch, maxBodyBytes?: number): Promise<string> {
  const server = new HttpServer({
    host: "127.0.0.1",
    port: 0,
    fetch: answer,
    log: silentLogger,
    ...(maxBodyBytes ? { maxBodyBytes } : {}),
  });
  servers.push(server);
  return `http://127.0.0.1:${(await server.listen()).port}`;
}

test("path, query, headers, body and peer arrive, and the answer goes back", async () => {
  const base = await serve(async ({ method, path, query, headers, remoteAddress, text }) =>
    jsonAnswer(
      { method, path, q: query.get("q"), type: headers["content-type"], remoteAddress, has: typeof text },
      201,
    ),
  );
  const answer = await fetch(`${base}/a%20b/?q=1`, { method: "PUT", body: "x", headers: { "content-type": "a/b" } });
  assert.equal(answer.status, 201);
  assert.deepEqual(await answer.json(), {
    method: "PUT",
    path: "/a%20b/",
    q: "1",
    type: "a/b",
    remoteAddress: "127.0.0.1",
    has: "function",
  });
});

test("a body above the limit is a 413 that the client can read, with and without a declared length", async () => {
  const base = await serve(async (request) => jsonAnswer((await request.text()).length), 1000);
  assert.equal(await (await fetch(base, { method: "POST", body: "x".repeat(1000) })).json(), 1000);
  assert.equal((await fetch(base, { method: "POST", body: "x".repeat(10_000_000) })).status, 413);
  const chunked = new ReadableStream({
    start(controller) {
      for (let i = 0; i < 100; i++) controller.enqueue(Buffer.alloc(20_000));
      controller.close();
    },
  });
  const answer = await fetch(base, { method: "POST", body: chunked, duplex: "half" } as RequestInit);
  assert.equal(answer.status, 413);
  assert.equal(((await answer.json()) as { error: string }).error, "BODY_TOO_LARGE");
});

test("what is thrown is answered by its code, and an unknown error tells nothing", async () => {
  const base = await serve(({ path }) => {
    throw path === "/known" ? new AppError("NOT_FOUND", "no such thing") : new Error("secret path /etc/x");
  });
  const known = await fetch(`${base}/known`);
  assert.equal(known.status, 404);
  const unknown = await fetch(base);
  assert.equal(unknown.status, 500);
  assert.doesNotMatch(await unknown.text(), /secret/);
});

test("a stream ends with the server, and its request's signal aborts when the client leaves", async () => {
  let left: (() => void) | undefined;
  const gone = new Promise<void>((resolve) => {
    left = resolve;
  });
  async function* ticks(signal: AbortSignal) {
    yield "first\n";
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    left?.();
  }
  const base = await serve(({ signal }) => ({ status: 200, body: ticks(signal) }));

  const client = new AbortController();
  const abandoned = await fetch(base, { signal: client.signal });
  await abandoned.body!.getReader().read();
  client.abort();
  await gone;

  const kept = await fetch(base);
  await servers[0]!.close();
  assert.equal(await kept.text(), "first\n");
});

test("HEAD of a stream ends the stream, which was begun before anybody read it", async () => {
  let hasEnded = false;
  const begun = (async function* () {
    try {
      for (;;) yield "tick\n";
    } finally {
      hasEnded = true;
    }
  })();
  const base = await serve(async () => {
    await begun.next();
    return {
      status: 200,
      body: (async function* () {
        try {
          yield* begun;
        } finally {
          await begun.return(undefined as never);
        }
      })(),
    };
  });
  assert.equal((await fetch(base, { method: "HEAD" })).status, 200);
  assert.ok(hasEnded);
});

test("close() lets an answer under way finish and takes no new connection", async () => {
  let release: (() => void) | undefined;
  let entered: (() => void) | undefined;
  const inside = new Promise<void>((resolve) => {
    entered = resolve;
  });
  const base = await serve(async () => {
    entered?.();
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return jsonAnswer("done");
  });
  const answer = fetch(base);
  await inside;
  const closed = servers[0]!.close();
  await assert.rejects(fetch(base));
  release?.();
  assert.equal(await (await answer).json(), "done");
  await closed;
});

test("a busy port is an error that names it", async () => {
  const port = Number(new URL(await serve(() => jsonAnswer(1))).port);
  const second = new HttpServer({ host: "127.0.0.1", port, fetch: () => jsonAnswer(2), log: silentLogger });
  await assert.rejects(second.listen(), (error) => {
    assert.ok(hasCode(error, "PORT_IN_USE"));
    assert.match(String(error), new RegExp(`127.0.0.1:${port}.*ss -ltnp`));
    return true;
  });
});

test("an upgrade is handed over, and close() cuts it", async () => {
  const server = new HttpServer({
    host: "127.0.0.1",
    port: 0,
    fetch: () => jsonAnswer(1),
    log: silentLogger,
    onUpgrade: (_request, socket) =>
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
  });
  const { port } = await server.listen();
  const upgraded = request({ host: "127.0.0.1", port, headers: { connection: "upgrade", upgrade: "x" } });
  const socket = await new Promise<Socket>((resolve) => {
    upgraded.on("upgrade", (_answer, taken) => resolve(taken.resume() as Socket));
    upgraded.end();
  });
  const ended = new Promise((resolve) => socket.on("close", resolve).on("error", () => {}));
  await server.close();
  await ended;
});

test("garbage on the socket is refused without harm", async () => {
  const base = await serve(() => jsonAnswer("fine"));
  const socket = connect(Number(new URL(base).port));
  const text = await new Promise<string>((resolve) => {
    socket.on("data", (data) => resolve(String(data))).write("\x16\x03\x01 nonsense\r\n\r\n");
  });
  assert.match(text, /^HTTP\/1\.1 400/);
  assert.equal(await (await fetch(base)).json(), "fine");
});

test("Router finds rows by method and path, with and without the slash, and tells the allowed methods", () => {
  const router = new Router([
    { method: "GET", path: "/api/things" },
    { method: "GET", path: "/api/things/active" },
    { method: "GET", path: "/api/things/:id" },
    { method: "DELETE", path: "/api/things/:id" },
  ]);
  const cases: [string, string, unknown][] = [
    ["GET", "/api/things", ["/api/things", {}]],
    ["GET", "/api/things/", ["/api/things", {}]],
    ["HEAD", "/api/things", ["/api/things", {}]],
    ["GET", "/api/things/active", ["/api/things/active", {}]],
    ["GET", "/api/things/a%2Fb", ["/api/things/:id", { id: "a/b" }]],
    ["DELETE", "/api/things/x/", ["/api/things/:id", { id: "x" }]],
    ["POST", "/api/things/x", ["GET", "DELETE"]],
    ["GET", "/api/things/%", []],
    ["GET", "/api//things", []],
    ["GET", "/api", []],
    ["GET", "*", []],
  ];
  for (const [method, path, expected] of cases) {
    const found = router.find(method, path);
    assert.deepEqual(
      "route" in found ? [found.route.path, found.params] : found.allowed,
      expected,
      `${method} ${path}`,
    );
  }
});
