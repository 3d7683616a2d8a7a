/** Images in a tar file: an OCI layout, or what `docker save` wrote before it wrote those. */
import { createHash } from "node:crypto";
import * as z from "zod/mini";
import { AppError } from "../base/errors.ts";
import { normalizeReference } from "./image-reference.ts";
import type { Document, ImageSource } from "./image-source.ts";
import {
  choosePlatform,
  type Descriptor,
  ImageIndex,
  ImageManifest,
  isIndex,
  MAX_DOCUMENT_BYTES,
  MEDIA_TYPES,
  type Platform,
  parseDocument,
} from "./oci-image.ts";
import { TarReader } from "./tar-reader.ts";

export interface ImageArchive {
  readonly images: readonly { readonly name: string; readonly source: ImageSource }[];
  close(): Promise<void>;
}

const DockerManifest = z.array(
  z.object({ Config: z.string(), RepoTags: z.optional(z.nullable(z.array(z.string()))), Layers: z.array(z.string()) }),
);
const NAME_ANNOTATIONS = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/** The images for this machine, by name. @throws AppError ARCHIVE_INVALID | IMAGE_INVALID | IMAGE_PLATFORM */
export async function openImageArchive(path: string, host: Platform): Promise<ImageArchive> {
  const tar = await TarReader.open(path);
  try {
    const images = tar.has("index.json") ? await readLayout(tar, host) : await readDockerArchive(tar, path);
    if (images.length === 0) throw new AppError("ARCHIVE_INVALID", `Archive "${path}" holds no image with a name`);
    return { images, close: () => tar.close() };
  } catch (error) {
    await tar.close();
    throw error;
  }
}

async function readLayout(tar: TarReader, host: Platform): Promise<ImageArchive["images"]> {
  const { manifests } = parseDocument(ImageIndex, await tar.read("index.json", MAX_DOCUMENT_BYTES), "archive's index");
  const images = [];
  for (const entry of manifests) {
    const name = NAME_ANNOTATIONS.map((key) => entry.annotations?.[key]).find((value) => value && /[/:]/.test(value));
    if (name === undefined) continue;
    let descriptor = entry;
    if (isIndex(entry.mediaType)) {
      const index = parseDocument(ImageIndex, (await readBlob(tar, entry)).bytes, `index of image "${name}"`);
      descriptor = choosePlatform(index, host, name);
    }
    const manifest = await readBlob(tar, descriptor);
    const { config } = parseDocument(ImageManifest, manifest.bytes, `manifest of image "${name}"`);
    const source: ImageSource = {
      manifest,
      config: await readBlob(tar, config),
      openBlob: ({ digest }, offset) => tar.stream(blobPath(digest), offset),
    };
    images.push({ name: normalizeReference(name), source });
  }
  return images;
}

async function readDockerArchive(tar: TarReader, path: string): Promise<ImageArchive["images"]> {
  if (!tar.has("manifest.json"))
    throw new AppError(
      "ARCHIVE_INVALID",
      `"${path}" is no image archive: neither index.json nor manifest.json is in it`,
    );
  const entries = parseDocument(
    DockerManifest,
    await tar.read("manifest.json", MAX_DOCUMENT_BYTES),
    "archive's manifest",
  );
  const images = [];
  for (const { Config, RepoTags, Layers } of entries) {
    const bytes = await tar.read(Config, MAX_DOCUMENT_BYTES);
    const config: Document = { mediaType: MEDIA_TYPES.config, digest: digestOf(bytes), bytes };
    const pathsByDigest = new Map<string, string>();
    const layers: Descriptor[] = [];
    for (const layer of Layers) {
      const digest = await digestOfFile(tar, layer);
      pathsByDigest.set(digest, layer);
      layers.push({ mediaType: MEDIA_TYPES.layer, digest, size: tar.size(layer) });
    }
    const source: ImageSource = {
      manifest: manifestOf(config, layers),
      config,
      openBlob: ({ digest }, offset) => tar.stream(pathsByDigest.get(digest)!, offset),
    };
    images.push(...(RepoTags ?? []).map((name) => ({ name: normalizeReference(name), source })));
  }
  return images;
}

/** The manifest of an image whose parts are known. */
export function manifestOf(config: Document, layers: readonly Descriptor[]): Document {
  const { mediaType, digest } = config;
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    config: { mediaType, digest, size: config.bytes.length },
    layers,
  };
  return toDocument(MEDIA_TYPES.manifest, manifest);
}

export function toDocument(mediaType: string, content: unknown): Document {
  const bytes = Buffer.from(JSON.stringify(content));
  return { mediaType, digest: digestOf(bytes), bytes };
}

export function blobPath(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

async function readBlob(tar: TarReader, { mediaType, digest }: Descriptor): Promise<Document> {
  return { mediaType, digest, bytes: await tar.read(blobPath(digest), MAX_DOCUMENT_BYTES) };
}

async function digestOfFile(tar: TarReader, path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of tar.stream(path)) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
