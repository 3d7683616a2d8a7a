import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openImageArchive } from "./image-archive.ts";
import { buildImage } from "./image-build.ts";
import { hostPlatform, ImageConfig, parseDocument } from "./oci-image.ts";
import { TarReader } from "./tar-reader.ts";
import { writeTar } from "./tar-writer.ts";

const folder = mkdtempSync(join(tmpdir(), "oak-image-"));
after(() => rmSync(folder, { recursive: true }));
const file = (name: string, content: string) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const yaml = (text: string) => file("image.yaml", text);
const output = join(folder, "out.tar");

test("buildImage() writes the same archive for the same files", async () => {
  file("a.txt", "hello");
  const image = yaml(`
name: example/a
files:
  - { source: a.txt, target: /www/deep/a.txt }
  - { source: ./a.txt, target: /bin/tool, mode: "0755" }
links: [{ target: /bin/other, to: tool }]
entrypoint: [/bin/tool]
env: ["A=b=c"]
workdir: /work
user: "1:2"
ports: [80/tcp]
`);
  const built = await buildImage(image, output);
  const first = readFileSync(output);
  assert.deepEqual(await buildImage(image, output), built);
  assert.deepEqual(readFileSync(output), first);
  assert.equal(built.name, "docker.io/example/a:latest");

  const archive = await openImageArchive(output, hostPlatform);
  assert.deepEqual(
    archive.images.map(({ name }) => name),
    [built.name],
  );
  const { source } = archive.images[0]!;
  assert.equal(source.manifest.digest, built.digest);
  const config = parseDocument(ImageConfig, source.config.bytes, "configuration");
  assert.deepEqual(config.config?.Entrypoint, ["/bin/tool"]);
  assert.equal(config.architecture, hostPlatform.architecture);
  const layer = join(folder, "layer.tar");
  const blob = { mediaType: "", digest: config.rootfs.diff_ids[0]!, size: 0 };
  const chunks: Uint8Array[] = [];
  for await (const chunk of source.openBlob(blob, 0, AbortSignal.timeout(1000))) chunks.push(chunk);
  writeFileSync(layer, Buffer.concat(chunks));
  await archive.close();
  // The system's tar is the judge.
  const listing = execFileSync("tar", ["-tvf", layer], { encoding: "utf8", env: { ...process.env, TZ: "UTC" } });
  const rows = listing
    .trim()
    .split("\n")
    .map((line) => line.replace(/\s+/g, " ").replace(/ \d{4}-\d\d-\d\d \d\d:\d\d/, ""));
  assert.deepEqual(rows, [
    "drwxr-xr-x 0/0 0 bin/",
    "lrwxrwxrwx 0/0 0 bin/other -> tool",
    "-rwxr-xr-x 0/0 5 bin/tool",
    "drwxr-xr-x 0/0 0 work/",
    "drwxr-xr-x 0/0 0 www/",
    "drwxr-xr-x 0/0 0 www/deep/",
    "-rw-r--r-- 0/0 5 www/deep/a.txt",
  ]);
});

test("buildImage() says what is wrong with the image file", async () => {
  const table: [string, RegExp][] = [
    ["name: x\nfiles: [{ source: missing, target: /a }]", /Cannot put "missing" into the image: no such file/],
    ["name: x\nfiles: [{ source: ., target: /a }]", /not a file/],
    ["name: x\nfiles: [{ source: a.txt, target: a }]", /files\[0\]\.target: expected an absolute path/],
    ["name: x\nfiles: [{ source: a.txt, target: /a/../../b }]", /without \/\//],
    ["name: x\nfiles: [{ source: a.txt, target: /a, mode: 0755 }]", /files\[0\]\.mode/],
    [
      "name: x\nfiles: [{ source: a.txt, target: /a }, { source: a.txt, target: /a/b }]",
      /"\/a" cannot be a file and the folder/,
    ],
    ["name: x\nfiles: [{ source: a.txt, target: /a }, { source: a.txt, target: /a }]", /named twice/],
    ["name: x\nfiles: []\nfile: []", /file/],
    ["files: []", /name/],
    ["[", /Cannot read image file/],
  ];
  file("a.txt", "hello");
  for (const [text, pattern] of table) {
    await assert.rejects(buildImage(yaml(text), output), { code: "IMAGE_FILE_INVALID", message: pattern }, text);
  }
  await assert.rejects(buildImage(yaml("name: A B\nfiles: []"), output), { code: "IMAGE_NAME_INVALID" });
  await assert.rejects(buildImage(join(folder, "none.yaml"), output), { message: /no such file/ });
});

test("tar archives with long names and links are read as they were written", async () => {
  const long = `${"d".repeat(90)}/${"é".repeat(60)}.txt`;
  const content = async function* () {
    yield Buffer.from("con");
    yield Buffer.from("tent");
  };
  const path = join(folder, "long.tar");
  const chunks: Uint8Array[] = [];
  const items = [
    { type: "file", path: long, mode: 0o644, size: 7, content },
    { type: "link", path: "x/link", to: `../${long}` },
  ] as const;
  for await (const chunk of writeTar(items)) chunks.push(chunk);
  writeFileSync(path, Buffer.concat(chunks));
  assert.ok(
    execFileSync("tar", ["--quoting-style=literal", "-tf", path], {
      encoding: "utf8",
      env: { LC_ALL: "C.UTF-8", PATH: process.env.PATH },
    }).includes(long),
  );
  const tar = await TarReader.open(path);
  assert.equal((await tar.read("x/link", 100)).toString(), "content");
  await assert.rejects(tar.read(long, 3), { code: "ARCHIVE_INVALID" });
  await tar.close();
});

test("an archive that is none is refused in plain words", async () => {
  const table: [string | Buffer, RegExp][] = [
    ["", /neither index\.json nor manifest\.json/],
    ["x".repeat(2000), /is not a tar archive/],
    [Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.alloc(1000, 1)]), /is compressed/],
    [readFileSync(output).subarray(0, 530), /is cut off/],
  ];
  for (const [bytes, message] of table) {
    writeFileSync(join(folder, "bad.tar"), bytes);
    await assert.rejects(openImageArchive(join(folder, "bad.tar"), hostPlatform), { code: "ARCHIVE_INVALID", message });
  }
  await assert.rejects(openImageArchive(join(folder, "none.tar"), hostPlatform), { message: /no such file/ });
});

test("what older versions of docker save wrote is read too", async () => {
  const config = { architecture: hostPlatform.architecture, os: "linux", rootfs: { diff_ids: [] } };
  const parts = join(folder, "docker");
  execFileSync("mkdir", ["-p", join(parts, "one"), join(parts, "two")]);
  writeFileSync(join(parts, "one/layer.tar"), "layer");
  execFileSync("ln", ["-s", "../one/layer.tar", join(parts, "two/layer.tar")]);
  writeFileSync(join(parts, "c.json"), JSON.stringify(config));
  const manifest = [{ Config: "c.json", RepoTags: ["web:1", "web:2"], Layers: ["one/layer.tar", "two/layer.tar"] }];
  writeFileSync(join(parts, "manifest.json"), JSON.stringify(manifest));
  const path = join(folder, "docker.tar");
  execFileSync("tar", ["-C", parts, "-cf", path, "."]);
  const archive = await openImageArchive(path, hostPlatform);
  assert.deepEqual(
    archive.images.map(({ name }) => name),
    ["docker.io/library/web:1", "docker.io/library/web:2"],
  );
  const { layers } = JSON.parse(archive.images[0]!.source.manifest.bytes.toString()) as {
    layers: { digest: string }[];
  };
  assert.equal(layers[0]!.digest, layers[1]!.digest);
  await archive.close();
});
