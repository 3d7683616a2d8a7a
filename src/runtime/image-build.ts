/** Builds an image from files of this machine: one layer, written as an OCI layout in a tar file. The same files give the same image. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, posix, resolve } from "node:path";
import { parse } from "yaml";
import * as z from "zod/mini";
import { AppError, hasCode } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { blobPath, manifestOf, toDocument } from "./image-archive.ts";
import { normalizeReference } from "./image-reference.ts";
import { hostPlatform, MEDIA_TYPES } from "./oci-image.ts";
import { type TarItem, writeTar } from "./tar-writer.ts";

const TargetPath = z
  .string()
  .check(z.regex(/^\/[^\0]*[^\0/]$/, "expected an absolute path of a file"))
  .check(z.refine((path) => posix.normalize(path) === path, "expected a path without //, . and .."));
// A string, because YAML reads 0755 as the number 755.
const Mode = z.string().check(z.regex(/^0?[0-7]{3,4}$/, 'expected octal digits in quotes, as "0755"'));
const Words = z.array(z.string());

const ImageFile = z.strictObject({
  name: z.string(),
  architecture: z.optional(z.string().check(z.regex(/^[a-z0-9]+$/))),
  files: z.array(
    z.strictObject({ source: z.string().check(z.minLength(1)), target: TargetPath, mode: z.optional(Mode) }),
  ),
  links: z.optional(z.array(z.strictObject({ target: TargetPath, to: z.string().check(z.minLength(1)) }))),
  entrypoint: z.optional(Words),
  cmd: z.optional(Words),
  env: z.optional(z.array(z.string().check(z.regex(/^[^=\0]+=/, "expected NAME=value")))),
  workdir: z.optional(TargetPath),
  user: z.optional(z.string()),
  ports: z.optional(z.array(z.string().check(z.regex(/^\d{1,5}\/(?:tcp|udp)$/, 'expected a port as "80/tcp"')))),
});
type ImageFile = z.infer<typeof ImageFile>;

export interface BuiltImage {
  readonly name: string;
  readonly digest: string;
  readonly sizeBytes: number;
}

/**
 * Reads `imageFile` (sources are relative to its folder) and writes the archive to `output`.
 * @throws AppError IMAGE_FILE_INVALID | IMAGE_NAME_INVALID, naming the line of the image file that is wrong
 */
export async function buildImage(imageFile: string, output: string): Promise<BuiltImage> {
  const description = await readImageFile(imageFile);
  const name = normalizeReference(description.name);
  const items = await layerItems(description, dirname(imageFile));
  const layer = await measure(writeTar(items));
  const config = toDocument(MEDIA_TYPES.config, imageConfig(description, layer.digest));
  const manifest = manifestOf(config, [{ mediaType: MEDIA_TYPES.layer, ...layer }]);
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.index,
    manifests: [
      {
        mediaType: manifest.mediaType,
        digest: manifest.digest,
        size: manifest.bytes.length,
        annotations: { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name },
      },
    ],
  };
  await writeArchive(output, [
    bytesItem("oci-layout", Buffer.from('{"imageLayoutVersion":"1.0.0"}')),
    bytesItem("index.json", Buffer.from(JSON.stringify(index))),
    bytesItem(blobPath(manifest.digest), manifest.bytes),
    bytesItem(blobPath(config.digest), config.bytes),
    { type: "file", path: blobPath(layer.digest), mode: 0o644, size: layer.size, content: () => writeTar(items) },
  ]);
  return { name, digest: manifest.digest, sizeBytes: layer.size + config.bytes.length };
}

async function readImageFile(path: string): Promise<ImageFile> {
  let content: unknown;
  try {
    content = parse(await readFile(path, "utf8"));
  } catch (cause) {
    const reason = hasCode(cause, "ENOENT") ? "no such file" : (cause as Error).message;
    throw new AppError("IMAGE_FILE_INVALID", `Cannot read image file "${path}": ${reason}`, { cause });
  }
  const result = validate(ImageFile, content);
  if (result.ok) return result.value;
  throw new AppError("IMAGE_FILE_INVALID", `Image file "${path}": ${describeProblems(result.problems)}`);
}

/** In order of their paths, each folder before what is in it. */
async function layerItems({ files, links = [], workdir }: ImageFile, folder: string): Promise<TarItem[]> {
  const items = new Map<string, TarItem>();
  const add = (item: TarItem) => {
    if (items.has(item.path)) throw new AppError("IMAGE_FILE_INVALID", `"/${item.path}" is named twice`);
    items.set(item.path, item);
  };
  for (const file of files) add(await fileItem(file, folder));
  for (const { target, to } of links) add({ type: "link", path: target.slice(1), to });
  const inside = workdir === undefined ? [...items.keys()] : [...items.keys(), `${workdir.slice(1)}/.`];
  for (const path of inside) {
    for (let parent = posix.dirname(path); parent !== "."; parent = posix.dirname(parent)) {
      const there = items.get(parent);
      if (there && there.type !== "folder")
        throw new AppError("IMAGE_FILE_INVALID", `"/${parent}" cannot be a file and the folder of "/${path}"`);
      items.set(parent, { type: "folder", path: parent, mode: 0o755 });
    }
  }
  return [...items.values()].sort((left, right) => (left.path < right.path ? -1 : 1));
}

async function fileItem({ source, target, mode }: ImageFile["files"][number], folder: string): Promise<TarItem> {
  const path = resolve(folder, source);
  const status = await stat(path).catch((cause: unknown) => {
    const reason = hasCode(cause, "ENOENT") ? "no such file" : "it cannot be read";
    throw new AppError("IMAGE_FILE_INVALID", `Cannot put "${source}" into the image: ${reason}`, { cause });
  });
  if (!status.isFile()) throw new AppError("IMAGE_FILE_INVALID", `Cannot put "${source}" into the image: not a file`);
  const usual = status.mode & 0o111 ? 0o755 : 0o644;
  return {
    type: "file",
    path: target.slice(1),
    mode: mode === undefined ? usual : Number.parseInt(mode, 8),
    size: status.size,
    content: () => createReadStream(path),
  };
}

function imageConfig(image: ImageFile, diffId: string): object {
  return {
    architecture: image.architecture ?? hostPlatform.architecture,
    os: hostPlatform.os,
    config: {
      Entrypoint: image.entrypoint,
      Cmd: image.cmd,
      Env: image.env,
      WorkingDir: image.workdir,
      User: image.user,
      ExposedPorts: image.ports && Object.fromEntries(image.ports.map((port) => [port, {}])),
    },
    rootfs: { type: "layers", diff_ids: [diffId] },
  };
}

function bytesItem(path: string, bytes: Buffer): TarItem {
  return {
    type: "file",
    path,
    mode: 0o644,
    size: bytes.length,
    content: async function* () {
      yield bytes;
    },
  };
}

async function measure(chunks: AsyncIterable<Uint8Array>): Promise<{ digest: string; size: number }> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of chunks) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { digest: `sha256:${hash.digest("hex")}`, size };
}

/** Complete or not at all. */
async function writeArchive(output: string, items: readonly TarItem[]): Promise<void> {
  const temporary = `${output}.new`;
  try {
    const file = await open(temporary, "w", 0o644);
    try {
      for await (const chunk of writeTar(items)) await file.writeFile(chunk);
    } finally {
      await file.close();
    }
    await rename(temporary, output);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (cause instanceof AppError) throw cause;
    throw new AppError("ARCHIVE_INVALID", `Cannot write "${output}": ${(cause as Error).message}`, { cause });
  }
}
