import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { hasCode } from "../base/errors.ts";
import { HttpClient, parseEvents, serverUrl, splitLines } from "./http-client.ts";

async function withServer(listener: RequestListener, use: (client: HttpClient) => Promise<void>): Promise<void> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(new HttpClient(`127.0.0.1:${(server.address() as AddressInfo).port}`));
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

test("send() carries method, path, token and body, and reads the answer whatever its status", () =>
  withServer(
    (request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (part: Buffer) => parts.push(part));
      request.on("end", () => {
        response.statusCode = 409;
        response.end(
          JSON.stringify({
            method: request.method,
            url: request.url,
            token: request.headers.authorization,
            body: Buffer.concat(parts).toString(),
          }),
        );
      });
    },
    async (client) => {
      assert.deepEqual(await client.send("PUT", "/api/x?y=1", { body: { name: "ü" }, token: "t" }), {
        status: 409,
        body: { method: "PUT", url: "/api/x?y=1", token: "Bearer t", body: '{"name":"ü"}' },
      });
    },
  ));

test("send() undoes the double encoding of 2023, and gives text that is no JSON as it is", () =>
  withServer(
    (request, response) => {
      response.end(request.url === "/double" ? JSON.stringify(JSON.stringify([{ a: 1 }])) : "<html>");
    },
    async (client) => {
      assert.deepEqual((await client.send("GET", "/double")).body, [{ a: 1 }]);
      assert.equal((await client.send("GET", "/text")).body, "<html>");
    },
  ));

test("a server that does not listen, or does not answer in time, is told apart", async () => {
  await withServer(
    () => {},
    async (client) => {
      await assert.rejects(client.send("GET", "/", { timeoutMs: 50 }), (error) => hasCode(error, "SERVER_TIMEOUT"));
    },
  );
  await assert.rejects(new HttpClient("http://127.0.0.1:1").send("GET", "/"), (error) =>
    hasCode(error, "SERVER_UNREACHABLE"),
  );
});

test("stream() yields as text arrives and ends quietly with its signal", () =>
  withServer(
    (_request, response) => response.write("one\n"),
    async (client) => {
      const stop = new AbortController();
      const seen: string[] = [];
      for await (const chunk of client.stream("/", { signal: stop.signal, refuse: () => new Error("refused") })) {
        seen.push(chunk);
        stop.abort();
      }
      assert.deepEqual(seen, ["one\n"]);
    },
  ));

test("stream() hands a refusal to its caller", () =>
  withServer(
    (_request, response) => response.writeHead(404).end('{"message":"no"}'),
    async (client) => {
      const stream = client.stream("/", {
        refuse: ({ status, body }) => new Error(`${status} ${JSON.stringify(body)}`),
      });
      await assert.rejects(stream.next(), /404 {"message":"no"}/);
    },
  ));

test("parseEvents() joins data lines, ignores comments, and copes with any chunking", async () => {
  const text = ": hello\n\nevent: service\ndata: {\ndata: }\n\ndata:plain\r\n\r\nid: 1\n\n";
  for (const size of [1, 3, 1000]) {
    const events = await collect(parseEvents(inChunks(text, size)));
    assert.deepEqual(events, [
      { event: "service", data: "{\n}" },
      { event: "message", data: "plain" },
    ]);
  }
});

test("splitLines() gives the last line even when nothing ends it", async () => {
  assert.deepEqual(await collect(splitLines(inChunks("a\nb", 1))), ["a", "b"]);
});

test("serverUrl() takes an address without a scheme, and nothing that is not HTTP", () => {
  assert.equal(serverUrl("localhost:10000").href, "http://localhost:10000/");
  for (const text of ["", "ftp://x", "http://", "http://a b"])
    assert.throws(() => serverUrl(text), /is not a server's URL/);
});

async function* inChunks(text: string, size: number): AsyncGenerator<string> {
  for (let start = 0; start < text.length; start += size) yield text.slice(start, start + size);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}
