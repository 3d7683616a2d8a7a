/** One image in a registry: its documents at once, its layers when they are read. */
import { createHash } from "node:crypto";
import { AppError, hasCode } from "../../base/errors.ts";
import type { ImageReference } from "../image-reference.ts";
import { formatReference } from "../image-reference.ts";
import type { Document, ImageSource } from "../image-source.ts";
import {
  choosePlatform,
  type Descriptor,
  ImageIndex,
  ImageManifest,
  isIndex,
  MEDIA_TYPES,
  type Platform,
  parseDocument,
} from "../oci-image.ts";
import { type Credentials, RegistryClient } from "./registry-client.ts";

const MANIFESTS = [MEDIA_TYPES.index, MEDIA_TYPES.dockerList, MEDIA_TYPES.manifest, MEDIA_TYPES.dockerManifest];
/** A layer is taken up where it broke off that often before the pull fails. */
const BLOB_ATTEMPTS = 4;

/** @throws AppError IMAGE_NOT_FOUND | IMAGE_PLATFORM | IMAGE_INVALID | REGISTRY_UNAUTHORIZED | REGISTRY_UNREACHABLE */
export async function fetchImage(
  reference: ImageReference,
  credentials: Credentials | undefined,
  host: Platform,
  signal: AbortSignal,
): Promise<ImageSource> {
  const client = new RegistryClient(reference, credentials);
  const name = formatReference(reference);
  let manifest = await fetchManifest(client, reference.digest ?? reference.tag!, reference.digest, signal);
  if (isIndex(manifest.mediaType)) {
    const index = parseDocument(ImageIndex, manifest.bytes, `index of image "${name}"`);
    const { digest } = choosePlatform(index, host, name);
    manifest = await fetchManifest(client, digest, digest, signal);
  }
  const { config } = parseDocument(ImageManifest, manifest.bytes, `manifest of image "${name}"`);
  const { bytes } = await client.document(`blobs/${config.digest}`, ["*/*"], signal);
  return {
    manifest,
    config: checked({ mediaType: config.mediaType, digest: digestOf(bytes), bytes }, config.digest),
    openBlob: (blob, offset, blobSignal) => readBlob(client, blob, offset, blobSignal),
  };
}

async function fetchManifest(
  client: RegistryClient,
  tagOrDigest: string,
  expected: string | undefined,
  signal: AbortSignal,
): Promise<Document> {
  const { type, bytes } = await client.document(`manifests/${tagOrDigest}`, MANIFESTS, signal);
  if (!(MANIFESTS as readonly string[]).includes(type))
    throw new AppError("IMAGE_INVALID", `The registry offers "${type}", which is no image that can be run here`);
  return checked({ mediaType: type, digest: digestOf(bytes), bytes }, expected);
}

/** Goes on where a broken connection left off. */
async function* readBlob(
  client: RegistryClient,
  { digest, size }: Descriptor,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  let done = offset;
  for (let attempt = 1; done < size; attempt++) {
    const before = done;
    try {
      for await (const bytes of client.blob(digest, done, signal)) {
        done += bytes.length;
        yield bytes;
      }
      // Too short or too long: its digest will tell.
      return;
    } catch (error) {
      if (done > before) attempt = 1;
      if (attempt >= BLOB_ATTEMPTS || !hasCode(error, "REGISTRY_UNREACHABLE")) throw error;
    }
  }
}

function checked(document: Document, expected: string | undefined): Document {
  if (expected !== undefined && document.digest !== expected)
    throw new AppError("IMAGE_INVALID", `The registry sent "${document.digest}" where "${expected}" was asked for`);
  return document;
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
