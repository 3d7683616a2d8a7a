import assert from "node:assert/strict";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { hasCode } from "../base/errors.ts";
import { HttpClient } from "./http-client.ts";
import { whyUnreachable } from "./unreachable.ts";

/** What a client is told that asks `scheme://127.0.0.1:<port of the server>`. */
async function told(server: Server, scheme: "http" | "https"): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    return await toldBy(`${scheme}://127.0.0.1:${port}`);
  } finally {
    server.close();
  }
}

async function toldBy(url: string): Promise<string> {
  try {
    await new HttpClient(url).send("POST", "/", { body: {} });
    return "answered";
  } catch (error) {
    assert.ok(hasCode(error, "SERVER_UNREACHABLE"), String(error));
    return (error as Error).message;
  }
}

test("a port on which nothing listens, a name that does not resolve", async () => {
  assert.match(
    await toldBy("http://127.0.0.1:1"),
    /^Cannot reach http:\/\/127\.0\.0\.1:1: nothing listens on port 1 there: is it running/,
  );
  assert.match(
    await toldBy("http://no-such-host.invalid:7"),
    /the name "no-such-host\.invalid" (does not resolve|cannot be)/,
  );
});

test("another protocol than HTTP, and TLS where there is none", async () => {
  const mqtt = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(Buffer.from([0x20, 2, 0, 0])));
  });
  assert.match(await told(mqtt, "http"), /what listens on port \d+ speaks no HTTP/);
  assert.match(await told(createHttpServer(), "https"), /speaks no TLS: write http:\/\//);
});

test("a TLS port that is spoken to in the clear", async () => {
  // Without a certificate it ends each handshake, which a plain request does not get as far as.
  const tls = createTlsServer(() => {});
  tls.on("tlsClientError", (_error, socket) => socket.destroy());
  assert.match(await told(tls, "http"), /if it speaks TLS, write https:\/\//);
});

test("every code has its own words, also inside of others; an unknown one speaks for itself", () => {
  const error = (code: string) => Object.assign(new Error(code), { code });
  const url = new URL("https://edge.example:8443");
  const words = (code: string) => whyUnreachable(new Error("outer", { cause: error(code) }), url);
  assert.match(words("CERT_NOT_YET_VALID"), /not valid yet: look at the clock/);
  assert.match(words("CERT_HAS_EXPIRED"), /expired/);
  assert.match(words("DEPTH_ZERO_SELF_SIGNED_CERT"), /NODE_EXTRA_CA_CERTS/);
  assert.match(words("ERR_TLS_CERT_ALTNAME_INVALID"), /not for the name "edge\.example"/);
  assert.match(words("EAI_AGAIN"), /name server/);
  assert.match(words("EHOSTUNREACH"), /no way leads there/);
  assert.match(words("ETIMEDOUT"), /firewall/);
  assert.match(words("ECONNRESET"), /is the port right\?$/);
  const refused = new AggregateError([error("ECONNREFUSED")], "");
  assert.match(whyUnreachable(refused, url), /nothing listens on port 8443 there: .*for other machines \(--host\)/);
  assert.ok(!whyUnreachable(refused, new URL("http://localhost:1")).includes("--host"));
  assert.equal(whyUnreachable(new Error("odd"), url), "odd");
});
