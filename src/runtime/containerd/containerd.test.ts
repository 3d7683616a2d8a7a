import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { containerdId } from "./container-id.ts";
import { EventsDefinition } from "./gen/events.ts";
import { MetricsV1, MetricsV2 } from "./gen/metrics.ts";
import { VersionDefinition, VersionResponse } from "./gen/version.ts";
import { GrpcClient } from "./grpc-client.ts";
import { FrameReader, frame } from "./grpc-frames.ts";
import { toUsage } from "./metrics.ts";
import { SharedWork } from "./shared-work.ts";
import { chainIds } from "./unpacker.ts";

const signal = new AbortController().signal;

test("FrameReader gives the messages back, however they were cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), fc.array(fc.nat(60)), (messages, cuts) => {
      const bytes = Buffer.concat(messages.map(frame));
      const points = [...cuts.filter((cut) => cut < bytes.length), bytes.length].sort((a, b) => a - b);
      const reader = new FrameReader(100);
      const read = points.flatMap((end, index) => reader.push(bytes.subarray(points[index - 1] ?? 0, end)));
      assert.deepEqual(
        read.map((message) => [...message]),
        messages.map((message) => [...message]),
      );
      assert.ok(reader.isAtBoundary);
    }),
  );
  assert.throws(() => new FrameReader(10).push(frame(Buffer.alloc(11))), { code: "RUNTIME_UNAVAILABLE" });
  assert.throws(() => new FrameReader(10).push(Buffer.from([1, 0, 0, 0, 0])), { code: "RUNTIME_UNAVAILABLE" });
});

test("containerdId() keeps what containerd takes, and shortens the rest without mixing up two", () => {
  assert.equal(containerdId("app.ns.web.ns.instance.0"), "app.ns.web.ns.instance.0");
  assert.equal(containerdId("my-app.ns.web.ns.instance.0"), "my-app.ns.web.ns.instance.0");
  const name = fc.stringMatching(/^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,28}[a-zA-Z0-9])?$/);
  fc.assert(
    fc.property(fc.tuple(name, name, name, name), fc.nat(10_000), (names, number) => {
      const [first, second] = [number, number + 1].map((n) => containerdId(`${names.join(".")}.instance.${n}`));
      assert.match(first!, /^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$/);
      assert.ok(first!.length <= 76);
      assert.notEqual(first, second);
    }),
  );
});

test("chainIds() names each layer by all that is below it", () => {
  const [first, second] = chainIds([`sha256:${"1".repeat(64)}`, `sha256:${"2".repeat(64)}`]);
  assert.equal(first, `sha256:${"1".repeat(64)}`);
  assert.match(second!, /^sha256:[0-9a-f]{64}$/);
  assert.deepEqual(chainIds([]), []);
});

test("toUsage() reads both versions of cgroups, with counters beyond 2^53", () => {
  const v1 = { cpu: { usage: { total: 2n ** 60n } }, memory: { totalInactiveFile: 10n, usage: { usage: 110n } } };
  const v2 = { cpu: { usageUsec: 5n }, memory: { inactiveFile: 200n, usage: 100n } };
  const any = (version: string, value: Uint8Array) => ({ typeUrl: `io.containerd.cgroups.${version}.Metrics`, value });
  assert.deepEqual(toUsage(any("v1", MetricsV1.encode(v1).finish())), { cpuNanos: 2 ** 60, memoryBytes: 100 });
  assert.deepEqual(toUsage(any("v2", MetricsV2.encode(v2).finish())), { cpuNanos: 5000, memoryBytes: 0 });
  assert.equal(toUsage(any("v3", new Uint8Array())), undefined);
});

test("SharedWork does the work once, and gives it up only when everybody has gone", async () => {
  const work = new SharedWork<number>();
  let runs = 0;
  let cancelled = false;
  const job = (shared: AbortSignal) =>
    new Promise<number>((resolve, reject) => {
      runs += 1;
      setTimeout(() => resolve(runs), 20);
      shared.addEventListener("abort", () => {
        cancelled = true;
        reject(shared.reason);
      });
    });
  const first = new AbortController();
  const second = new AbortController();
  const leaving = work.run("a", first.signal, job);
  const staying = work.run("a", second.signal, job);
  first.abort(new Error("gone"));
  await assert.rejects(leaving, { message: "gone" });
  assert.equal(await staying, 1);
  assert.ok(!cancelled);
  const last = work.run("a", second.signal, job);
  second.abort(new Error("gone too"));
  await assert.rejects(last, { message: "gone too" });
  assert.ok(cancelled);
  assert.equal(await work.run("a", signal, job), 3);
});

interface FakeServer {
  readonly socket: string;
  readonly sessions: ServerHttp2Session[];
}

/** An HTTP/2 server on a unix socket that answers as the test says. */
async function serve(
  context: TestContext,
  answer: (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void,
): Promise<FakeServer> {
  const folder = mkdtempSync(join(tmpdir(), "oak-grpc-"));
  const socket = join(folder, "s");
  const server: Http2Server = createServer().listen(socket);
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    answer(stream, headers);
  });
  context.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
    rmSync(folder, { recursive: true });
  });
  await once(server, "listening");
  return { socket, sessions };
}

function reply(stream: ServerHttp2Stream, message: Uint8Array, trailers: Record<string, string>): void {
  stream.respond({ ":status": 200 }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  stream.end(frame(message));
}

function connect(context: TestContext, socket: string): GrpcClient {
  const client = new GrpcClient({ socket, namespace: "test" });
  context.after(() => client.close());
  return client;
}

const version = (client: GrpcClient, options: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
  client.unary(VersionDefinition, "version", {}, { signal, ...options });
const answer = VersionResponse.encode({ version: "1" }).finish();

test("a call sends path, namespace, lease and deadline, and gives the answer", async (t) => {
  const seen: Record<string, unknown>[] = [];
  const { socket } = await serve(t, (stream, headers) => {
    seen.push(headers);
    reply(stream, answer, { "grpc-status": "0" });
  });
  const client = connect(t, socket);
  const options = { signal, timeoutMs: 5000, lease: "l" };
  assert.deepEqual(await client.unary(VersionDefinition, "version", {}, options), { version: "1" });
  const headers = seen[0]!;
  assert.equal(headers[":path"], "/containerd.services.version.v1.Version/Version");
  assert.deepEqual(
    [headers["containerd-namespace"], headers["containerd-lease"], headers["grpc-timeout"]],
    ["test", "l", "5000m"],
  );
});

test("a status becomes a code, whether it comes with the headers or after an answer", async (t) => {
  const { socket } = await serve(t, (stream, headers) => {
    const early = headers["containerd-lease"] === "early";
    if (early) stream.respond({ "grpc-status": "5", "grpc-message": "no%20such%25" }, { endStream: true });
    else reply(stream, new Uint8Array(), { "grpc-status": "6", "grpc-message": "%zz" });
  });
  const client = connect(t, socket);
  const early = client.unary(VersionDefinition, "version", {}, { signal, lease: "early" });
  await assert.rejects(early, { code: "NOT_FOUND", message: "no such%" });
  await assert.rejects(version(client), { code: "ALREADY_EXISTS", message: "%zz" });
});

test("a deadline and an abort reset the stream at the server", async (t) => {
  const resets: number[] = [];
  const { socket } = await serve(t, (stream) => stream.on("close", () => resets.push(stream.rstCode)));
  const client = connect(t, socket);
  await assert.rejects(version(client, { timeoutMs: 30 }), { code: "RUNTIME_UNAVAILABLE", message: /in time/ });
  const abort = new AbortController();
  const reason = new Error("enough");
  const events = client.stream(EventsDefinition, "subscribe", { filters: [] }, { signal: abort.signal });
  setTimeout(() => abort.abort(reason), 30);
  await assert.rejects(events.next(), reason);
  for (let round = 0; resets.length < 2 && round < 100; round++) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(resets, [8, 8]);
});

test("leaving a stream early resets it", async (t) => {
  const closed: Promise<unknown>[] = [];
  const { socket } = await serve(t, (stream) => {
    closed.push(once(stream, "close"));
    stream.respond({ ":status": 200 });
    stream.write(frame(new Uint8Array()));
  });
  const client = connect(t, socket);
  for await (const _ of client.stream(EventsDefinition, "subscribe", { filters: [] }, { signal })) break;
  await closed[0];
});

test("a broken answer, an oversized one and a lost session are RUNTIME_UNAVAILABLE; the next call connects anew", async (t) => {
  const oversized = Buffer.alloc(5);
  oversized.writeUInt32BE(0x7fffffff, 1);
  const answers: ((stream: ServerHttp2Stream) => void)[] = [
    (stream) => stream.session?.destroy(),
    (stream) => {
      stream.respond({ ":status": 200 });
      stream.end(frame(answer));
    },
    (stream) => {
      stream.respond({ ":status": 200 });
      stream.write(oversized);
    },
    (stream) => stream.session?.goaway(),
  ];
  const { socket, sessions } = await serve(t, (stream) => {
    const next = answers.shift();
    if (next) next(stream);
    else reply(stream, answer, { "grpc-status": "0" });
  });
  const client = connect(t, socket);
  for (let round = 0; round < 3; round++) await assert.rejects(version(client), { code: "RUNTIME_UNAVAILABLE" });
  await assert.rejects(version(client, { timeoutMs: 200 }), { code: "RUNTIME_UNAVAILABLE" });
  assert.deepEqual(await version(client), { version: "1" });
  assert.ok(sessions.length >= 2);
});

test("without a socket the error says where it was looked for", async (t) => {
  const client = connect(t, "/nonexistent/containerd.sock");
  await assert.rejects(version(client), {
    code: "RUNTIME_UNAVAILABLE",
    message: /"\/nonexistent\/containerd\.sock" .*ENOENT/,
  });
});
