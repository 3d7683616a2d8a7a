/** A containerd of one's own in a lab host, with images built from busybox, and registries on loopback to pull from. */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { ContainerdRuntime } from "../../src/runtime/containerd/containerd-runtime.ts";
import { manifestOf, openImageArchive, toDocument } from "../../src/runtime/image-archive.ts";
import { buildImage } from "../../src/runtime/image-build.ts";
import { hostPlatform, ImageManifest, MEDIA_TYPES, parseDocument } from "../../src/runtime/oci-image.ts";
import { eventually, type LabHost, labHostProblem, startLabHost } from "../support/lab-host.ts";

export interface RuntimeLab {
  readonly host: LabHost;
  readonly folder: string;
  /** A new client of the same containerd; closed with the lab. */
  connect(): ContainerdRuntime;
  startContainerd(): Promise<void>;
  killContainerd(): Promise<void>;
  ctr(...args: string[]): Promise<string>;
  /** Builds an archive of an image with this shell script as its only process. */
  archive(name: string, script: string, more?: object): Promise<string>;
  stop(): Promise<void>;
}

export async function startRuntimeLab(): Promise<RuntimeLab> {
  const problem = labHostProblem();
  if (problem) throw new Error(`The container runtime cannot be tested here: ${problem}`);
  const host = await startLabHost({ name: "rt" });
  const { folder } = host;
  const socket = join(folder, "containerd.sock");
  writeFileSync(join(folder, "containerd.toml"), containerdConfig(folder, socket));
  const clients: ContainerdRuntime[] = [];
  let containerd: ReturnType<LabHost["start"]> | undefined;
  const connect = () => {
    const runtime = new ContainerdRuntime({ socket, log: silentLogger, clock: systemClock });
    clients.push(runtime);
    return runtime;
  };
  const lab: RuntimeLab = {
    host,
    folder,
    connect,
    async startContainerd() {
      containerd = host.start("containerd", ["containerd", "--config", join(folder, "containerd.toml")]);
      const probe = connect();
      await eventually(() => probe.version(AbortSignal.timeout(1000)), { what: "containerd's answer" });
      probe.close();
    },
    async killContainerd() {
      process.kill(containerd!.pid(), "SIGKILL");
      await containerd!.ended;
    },
    async ctr(...args) {
      const { exitCode, stdout, stderr } = await host.run([
        "ctr",
        "--address",
        socket,
        "--namespace",
        "edge.io",
        ...args,
      ]);
      if (exitCode !== 0) throw new Error(`ctr ${args.join(" ")}: ${stderr}`);
      return stdout;
    },
    archive: (name, script, more = {}) => buildArchive(folder, name, script, more),
    async stop() {
      for (const client of clients) client.close();
      await host.stop();
    },
  };
  try {
    await lab.startContainerd();
    return lab;
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

async function buildArchive(folder: string, name: string, script: string, more: object): Promise<string> {
  const path = join(folder, `${name.replace(/\W+/g, "-")}.tar`);
  const image = {
    name,
    files: [{ source: "/bin/busybox", target: "/bin/busybox" }],
    links: ["sh", "sleep", "cat", "id", "env", "hostname", "ls", "tail"].map((applet) => ({
      target: `/bin/${applet}`,
      to: "busybox",
    })),
    entrypoint: ["/bin/sh", "-c", script],
    ...more,
  };
  // YAML is a superset of JSON.
  writeFileSync(`${path}.yaml`, JSON.stringify(image));
  await buildImage(`${path}.yaml`, path);
  return path;
}

function containerdConfig(folder: string, socket: string): string {
  return `version = 2
root = "${folder}/containerd-root"
state = "${folder}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "${socket}"
[ttrpc]
  address = "${socket}.ttrpc"
`;
}

export interface Registry {
  /** `127.0.0.1:<port>` */
  readonly address: string;
  push(archive: string, repositoryAndTag: string): Promise<void>;
  stop(): Promise<void>;
}

/** Debian's docker-registry on loopback, over plain HTTP; with credentials when they are given. */
export async function startRegistry(
  folder: string,
  credentials?: { username: string; password: string },
): Promise<Registry> {
  const address = `127.0.0.1:${await freePort()}`;
  const own = join(folder, `registry-${address.split(":")[1]}`);
  mkdirSync(own, { recursive: true });
  const lines = [
    "version: 0.1",
    "log: {level: error}",
    `storage: {filesystem: {rootdirectory: ${own}/data}}`,
    `http: {addr: "${address}"}`,
  ];
  if (credentials) {
    const { username, password } = credentials;
    writeFileSync(join(own, "htpasswd"), execFileSync("htpasswd", ["-nbB", username, password]));
    lines.push(`auth: {htpasswd: {realm: test, path: ${own}/htpasswd}}`);
  }
  writeFileSync(join(own, "config.yml"), `${lines.join("\n")}\n`);
  const child = spawn("docker-registry", ["serve", join(own, "config.yml")], { stdio: "ignore" });
  const authorization = credentials && `Basic ${btoa(`${credentials.username}:${credentials.password}`)}`;
  const headers: Record<string, string> = authorization ? { authorization } : {};
  await eventually(async () => (await fetch(`http://${address}/v2/`, { headers })).ok, { what: "the registry" });
  return {
    address,
    push: (archive, name) => push(`http://${address}/v2`, headers, archive, name),
    async stop() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

async function push(api: string, headers: Record<string, string>, archivePath: string, name: string): Promise<void> {
  const [repository, tag] = name.split(":") as [string, string];
  const archive = await openImageArchive(archivePath, hostPlatform);
  const { source } = archive.images[0]!;
  const { config, layers } = parseDocument(ImageManifest, source.manifest.bytes, "manifest");
  const send = async (
    method: string,
    url: string,
    body?: Uint8Array<ArrayBuffer>,
    type = "application/octet-stream",
  ) => {
    const response = await fetch(url, {
      method,
      headers: { ...headers, "content-type": type },
      ...(body ? { body } : {}),
    });
    if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`);
    return response;
  };
  for (const blob of [config, ...layers]) {
    const bytes = await collect(source.openBlob(blob, 0, AbortSignal.timeout(10_000)));
    const upload = await send("POST", `${api}/${repository}/blobs/uploads/`);
    const location = new URL(upload.headers.get("location")!, api);
    location.searchParams.set("digest", blob.digest);
    await send("PUT", location.href, bytes);
  }
  const manifest = new Uint8Array(source.manifest.bytes);
  await send("PUT", `${api}/${repository}/manifests/${tag}`, manifest, source.manifest.mediaType);
  await archive.close();
}

export interface ServedLayer {
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly diffId: string;
  /** What is sent instead; `stall` sends half and then nothing. */
  readonly instead?: Buffer | "stall" | undefined;
}

/** A registry with the one image `web:1`, whose layers may go wrong. `asked` resolves when a layer was asked for. */
export async function serveImage(
  layers: readonly ServedLayer[],
  user = "",
): Promise<{ reference: string; ranges: readonly string[]; asked: Promise<void>; stop(): void }> {
  const asked = Promise.withResolvers<void>();
  const ranges: string[] = [];
  const config = toDocument(MEDIA_TYPES.config, {
    ...hostPlatform,
    config: { User: user, Entrypoint: ["/bin/sh"] },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const served = new Map(layers.map((layer) => [toDigest(layer.bytes), layer]));
  const descriptors = [...served].map(([digest, { mediaType, bytes }]) => ({ mediaType, digest, size: bytes.length }));
  const manifest = manifestOf(config, descriptors);
  const server = createHttpServer((request, response) => {
    if (request.url?.includes("/manifests/"))
      return void response.writeHead(200, { "content-type": manifest.mediaType }).end(manifest.bytes);
    const digest = request.url?.split("/").at(-1) ?? "";
    const layer = served.get(digest);
    if (!layer) return void response.end(config.bytes);
    asked.resolve();
    if (layer.instead === "stall") return void response.write(layer.bytes.subarray(0, layer.bytes.length / 2));
    const { range } = request.headers;
    if (range !== undefined) {
      ranges.push(range);
      return void response.writeHead(206).end(layer.bytes.subarray(Number(/^bytes=(\d+)-$/.exec(range)?.[1])));
    }
    response.end(layer.instead ?? layer.bytes);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    reference: `127.0.0.1:${(server.address() as AddressInfo).port}/web:1`,
    ranges,
    asked: asked.promise,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The layer of an archive, as it is or compressed. */
export async function layerOf(archivePath: string, compress = false): Promise<ServedLayer> {
  const archive = await openImageArchive(archivePath, hostPlatform);
  const { source } = archive.images[0]!;
  const { layers } = parseDocument(ImageManifest, source.manifest.bytes, "manifest");
  const plain = Buffer.from(await collect(source.openBlob(layers[0]!, 0, AbortSignal.timeout(10_000))));
  await archive.close();
  return {
    mediaType: `${MEDIA_TYPES.layer}${compress ? "+gzip" : ""}`,
    bytes: compress ? gzipSync(plain) : plain,
    diffId: layers[0]!.digest,
  };
}

function toDigest(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return new Uint8Array(Buffer.concat(all));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
