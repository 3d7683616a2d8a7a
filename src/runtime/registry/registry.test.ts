import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { parseReference } from "../image-reference.ts";
import { hostPlatform, MEDIA_TYPES } from "../oci-image.ts";
import { schemesFor } from "./registry-address.ts";
import { parseChallenge, tokenUrl } from "./registry-auth.ts";
import { fetchImage } from "./registry-image.ts";

const signal = new AbortController().signal;
const digestOf = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const descriptor = (mediaType: string, bytes: Buffer) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

const layer = Buffer.alloc(300_000, "layer");
const config = json({ ...hostPlatform, rootfs: { type: "layers", diff_ids: [digestOf(layer)] } });
const manifest = json({
  config: descriptor(MEDIA_TYPES.config, config),
  layers: [descriptor(MEDIA_TYPES.layer, layer)],
});
const index = json({
  manifests: [
    { ...descriptor(MEDIA_TYPES.manifest, json("other")), platform: { os: "linux", architecture: "s390x" } },
    { ...descriptor(MEDIA_TYPES.manifest, manifest), platform: hostPlatform },
  ],
});
const BLOBS = new Map([layer, config].map((bytes) => [digestOf(bytes), bytes]));

type Answer = (request: IncomingMessage, response: ServerResponse, address: string) => boolean;

/** A registry with one multi-platform image `web:1`; `first` may answer instead. */
async function serve(context: TestContext, first: Answer = () => false): Promise<string> {
  const server = createServer((request, response) => {
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    if (first(request, response, address)) return;
    const [, kind, id = ""] = /^\/v2\/team\/web\/(manifests|blobs)\/(.+)$/.exec(request.url ?? "") ?? [];
    const found =
      kind === "blobs"
        ? BLOBS.get(id)
        : new Map([
            ["1", index],
            [digestOf(manifest), manifest],
          ]).get(id);
    if (!found) return void response.writeHead(404).end();
    const type = kind === "blobs" ? "application/octet-stream" : id === "1" ? MEDIA_TYPES.index : MEDIA_TYPES.manifest;
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { "content-type": type }).end(found.subarray(from));
  }).listen(0, "127.0.0.1");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, "listening");
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const fetchFrom = (address: string, credentials?: { username: string; password: string }, name = "team/web:1") =>
  fetchImage(parseReference(`${address}/${name}`), credentials, hostPlatform, signal);

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

test("fetchImage() takes this machine's image of an index, over plain HTTP where a loopback registry has no TLS", async (t) => {
  const source = await fetchFrom(await serve(t));
  assert.equal(source.manifest.digest, digestOf(manifest));
  assert.deepEqual(source.config.bytes, config);
  const blob = descriptor(MEDIA_TYPES.layer, layer);
  assert.deepEqual(await collect(source.openBlob(blob, 0, signal)), layer);
  assert.deepEqual(await collect(source.openBlob(blob, 1000, signal)), layer.subarray(1000));
});

test("a token is got from where the challenge says, with the credentials, and sent to the registry only", async (t) => {
  let elsewhere: IncomingMessage | undefined;
  const storage = createServer((request, response) => {
    elsewhere = request;
    response.end(layer);
  }).listen(0, "127.0.0.1");
  t.after(() => storage.close());
  await once(storage, "listening");
  const address = await serve(t, (request, response, own) => {
    if (request.url?.startsWith("/token?")) {
      const url = new URL(request.url, "http://x");
      assert.equal(url.searchParams.get("scope"), "repository:team/web:pull");
      assert.equal(url.searchParams.get("service"), "the registry, of course");
      const known = request.headers.authorization === `Basic ${btoa("ann:pw")}`;
      response.writeHead(known ? 200 : 401).end(json({ token: "t0ken" }));
      return true;
    }
    if (request.headers.authorization !== "Bearer t0ken") {
      const challenge = `Bearer realm="http://${own}/token",service="the registry, of course",scope="repository:team/web:pull"`;
      response.writeHead(401, { "www-authenticate": challenge }).end();
      return true;
    }
    if (!request.url?.includes(digestOf(layer))) return false;
    response.writeHead(307, { location: `http://127.0.0.1:${(storage.address() as AddressInfo).port}/blob` }).end();
    return true;
  });
  const source = await fetchFrom(address, { username: "ann", password: "pw" });
  assert.deepEqual(await collect(source.openBlob(descriptor(MEDIA_TYPES.layer, layer), 0, signal)), layer);
  assert.equal(elsewhere?.headers.authorization, undefined);
  await assert.rejects(fetchFrom(address, { username: "ann", password: "no" }), { code: "REGISTRY_UNAUTHORIZED" });
  await assert.rejects(fetchFrom(address), { code: "REGISTRY_UNAUTHORIZED" });
});

test("a blob whose connection breaks goes on where it stopped, also at a registry without ranges", async (t) => {
  for (const ranges of [true, false]) {
    let breaks = 2;
    const asked: (string | undefined)[] = [];
    const address = await serve(t, (request, response) => {
      if (!request.url?.includes(digestOf(layer))) return false;
      asked.push(request.headers.range);
      if (breaks-- <= 0) {
        if (!ranges) delete request.headers.range;
        return false;
      }
      const from = ranges ? Number(/\d+/.exec(request.headers.range ?? "0")![0]) : 0;
      response.writeHead(from > 0 ? 206 : 200, { "content-length": layer.length - from });
      response.write(layer.subarray(from, from + 50_000), () => response.destroy());
      return true;
    });
    const source = await fetchFrom(address);
    assert.deepEqual(await collect(source.openBlob(descriptor(MEDIA_TYPES.layer, layer), 0, signal)), layer);
    assert.equal(asked.length, 3);
    assert.match(asked[1]!, /^bytes=\d+-$/);
  }
});

test("each failure of a registry has its code", async (t) => {
  const status =
    (code: number): Answer =>
    (_, response) =>
      Boolean(response.writeHead(code).end());
  const body =
    (bytes: Buffer, type: string): Answer =>
    (_, response) =>
      Boolean(response.writeHead(200, { "content-type": type }).end(bytes));
  const table: [Answer, string][] = [
    [status(404), "IMAGE_NOT_FOUND"],
    [status(401), "REGISTRY_UNAUTHORIZED"],
    [status(403), "REGISTRY_UNAUTHORIZED"],
    [status(429), "REGISTRY_UNREACHABLE"],
    [status(500), "REGISTRY_UNREACHABLE"],
    [(_, response) => Boolean(response.destroy()), "REGISTRY_UNREACHABLE"],
    [(request, response) => Boolean(response.writeHead(307, { location: request.url }).end()), "REGISTRY_UNREACHABLE"],
    [body(Buffer.from("<html>"), "text/html"), "IMAGE_INVALID"],
    [body(Buffer.from("{}"), MEDIA_TYPES.manifest), "IMAGE_INVALID"],
    [body(Buffer.alloc(5 * 1024 * 1024), MEDIA_TYPES.manifest), "IMAGE_INVALID"],
    [body(json({ manifests: [] }), MEDIA_TYPES.index), "IMAGE_PLATFORM"],
  ];
  for (const [answer, code] of table) await assert.rejects(fetchFrom(await serve(t, answer)), { code });
  const wrong = await serve(t, body(manifest, MEDIA_TYPES.manifest));
  await assert.rejects(fetchFrom(wrong, undefined, `team/web@sha256:${"0".repeat(64)}`), { code: "IMAGE_INVALID" });
  await assert.rejects(fetchFrom("127.0.0.1:1"), { code: "REGISTRY_UNREACHABLE" });
});

test("an abort ends a pull with its reason", async (t) => {
  const reason = new Error("enough");
  const abort = new AbortController();
  const address = await serve(t, () => {
    abort.abort(reason);
    return true;
  });
  const reference = parseReference(`${address}/team/web:1`);
  await assert.rejects(fetchImage(reference, undefined, hostPlatform, abort.signal), reason);
});

test("schemesFor() allows plain HTTP on this machine and in private networks only", () => {
  const plain = [
    "localhost:5000",
    "127.0.0.1:5000",
    "[::1]:5000",
    "10.1.2.3",
    "192.168.0.9:80",
    "172.20.0.1",
    "registry",
  ];
  for (const registry of [...plain, "hub.lan:5000", "[fd00::1]:5000"])
    assert.deepEqual(schemesFor(registry), ["https", "http"], registry);
  const never = [
    "docker.io",
    "ghcr.io",
    "172.32.0.1",
    "8.8.8.8",
    "10.example.com",
    "127.0.0.1.example.com",
    "[2001:db8::1]",
  ];
  for (const registry of never) assert.deepEqual(schemesFor(registry), ["https"], registry);
});

test("parseChallenge() reads what registries send", () => {
  assert.deepEqual(parseChallenge('Bearer realm="https://a/t",service="s, x",scope="repository:a/b:pull,push"'), {
    scheme: "bearer",
    parameters: { realm: "https://a/t", service: "s, x", scope: "repository:a/b:pull,push" },
  });
  assert.deepEqual(parseChallenge("BASIC realm=test"), { scheme: "basic", parameters: { realm: "test" } });
  assert.equal(parseChallenge('Basic realm="a", Bearer realm="https://b/"')?.scheme, "bearer");
  assert.equal(parseChallenge("Negotiate"), undefined);
  assert.equal(parseChallenge(undefined), undefined);
  const bearer = (realm: string) => tokenUrl({ scheme: "bearer", parameters: { realm } }, "a/b")?.href;
  assert.equal(bearer("https://a/t?x=1"), "https://a/t?x=1&scope=repository%3Aa%2Fb%3Apull");
  assert.equal(bearer("file:///etc/passwd"), undefined);
  assert.equal(bearer("nonsense"), undefined);
});
