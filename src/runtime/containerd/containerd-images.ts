/** Images made present: pulled or loaded, unpacked, named. */
import { createHash } from "node:crypto";
import { type Clock, deadline } from "../../base/clock.ts";
import { AppError, hasCode } from "../../base/errors.ts";
import { objectId } from "../../base/random.ts";
import type { Image, ImageStore, PullOptions } from "../container-runtime.ts";
import { openImageArchive } from "../image-archive.ts";
import { formatReference, type ImageReference, normalizeReference, parseReference } from "../image-reference.ts";
import type { ImageSource } from "../image-source.ts";
import {
  type Descriptor,
  hostPlatform,
  ImageConfig,
  ImageManifest,
  parseDocument,
  platformError,
  runsOn,
} from "../oci-image.ts";
import { isSameRegistry } from "../registry/registry-address.ts";
import { fetchImage } from "../registry/registry-image.ts";
import type { ContentStore } from "./content-store.ts";
import { LeasesDefinition } from "./gen/leases.ts";
import type { CallOptions, GrpcClient } from "./grpc-client.ts";
import { type ImageCatalog, type PresentImage, toImage, topChainId } from "./image-catalog.ts";
import { SharedWork } from "./shared-work.ts";
import type { Unpacker } from "./unpacker.ts";

const PARALLEL_LAYERS = 3;
const PROGRESS_EVERY_MS = 250;
const DAY_MS = 24 * 3_600_000;
const LEASE_DELETE_TIMEOUT_MS = 5000;

export class ContainerdImages implements ImageStore {
  readonly #client: GrpcClient;
  readonly #catalog: ImageCatalog;
  readonly #content: ContentStore;
  readonly #unpacker: Unpacker;
  readonly #clock: Clock;
  readonly #pulls = new SharedWork<Image>();

  constructor(parts: {
    client: GrpcClient;
    catalog: ImageCatalog;
    content: ContentStore;
    unpacker: Unpacker;
    clock: Clock;
  }) {
    this.#client = parts.client;
    this.#catalog = parts.catalog;
    this.#content = parts.content;
    this.#unpacker = parts.unpacker;
    this.#clock = parts.clock;
  }

  async ensure(imageName: string, options: PullOptions, signal: AbortSignal): Promise<Image> {
    const name = normalizeReference(imageName);
    try {
      return await this.#useLocal(name, signal);
    } catch (error) {
      if (!hasCode(error, "IMAGE_MISSING") && !hasCode(error, "NOT_FOUND")) throw error;
    }
    return this.#pulls.run(name, signal, async (shared) => {
      const reference = parseReference(name);
      const source = await fetchImage(reference, loginFor(reference, options), hostPlatform, shared);
      return this.#leased(
        shared,
        (leased) => this.#install(name, source, options, leased),
        pullLease(name, this.#clock),
      );
    });
  }

  async has(imageName: string, signal: AbortSignal): Promise<boolean> {
    try {
      const { chainId } = await this.#catalog.find(normalizeReference(imageName), signal);
      return await this.#unpacker.isUnpacked(chainId, { signal });
    } catch (error) {
      if (hasCode(error, "IMAGE_MISSING")) return false;
      throw error;
    }
  }

  async load(path: string, signal: AbortSignal): Promise<Image[]> {
    const archive = await openImageArchive(path, hostPlatform);
    try {
      const images: Image[] = [];
      for (const { name, source } of archive.images)
        images.push(await this.#leased(signal, (leased) => this.#install(name, source, {}, leased)));
      return images;
    } finally {
      await archive.close();
    }
  }

  list(signal: AbortSignal): Promise<Image[]> {
    return this.#catalog.list(signal);
  }

  async remove(reference: string, signal: AbortSignal): Promise<void> {
    await this.#catalog.remove(normalizeReference(reference), signal);
  }

  /** @throws AppError IMAGE_MISSING, or NOT_FOUND when layers are */
  async #useLocal(name: string, signal: AbortSignal): Promise<Image> {
    const image = await this.#catalog.find(name, signal);
    if (!(await this.#unpacker.isUnpacked(image.chainId, { signal })))
      await this.#leased(signal, (options) => this.#unpack(image, options));
    return toImage(image);
  }

  /** Blobs, then snapshots, then the name: what is named is complete. */
  async #install(name: string, source: ImageSource, { onProgress }: PullOptions, options: CallOptions): Promise<Image> {
    const manifest = parseDocument(ImageManifest, source.manifest.bytes, `manifest of image "${name}"`);
    const config = parseDocument(ImageConfig, source.config.bytes, `configuration of image "${name}"`);
    if (!runsOn(hostPlatform, config)) throw platformError(name, [config], hostPlatform);
    const { mediaType, digest, bytes } = source.manifest;
    const image = { name, digest, manifest, config, chainId: topChainId(config) };
    await this.#writeLayers(manifest.layers, source, onProgress, options);
    for (const document of [source.config, source.manifest]) {
      const blob = { digest: document.digest, size: document.bytes.length };
      await this.#content.write({ blob, open: (offset) => once(document.bytes.subarray(offset)) }, options);
    }
    await this.#content.label(digest, contentReferences(manifest), options);
    await this.#unpack(image, options);
    await this.#catalog.name(name, { mediaType, digest, size: bytes.length }, options);
    return toImage(image);
  }

  async #writeLayers(
    layers: readonly Descriptor[],
    source: ImageSource,
    onProgress: PullOptions["onProgress"],
    options: CallOptions,
  ): Promise<void> {
    const queue = [...new Map(layers.map((layer) => [layer.digest, layer])).values()];
    const total = queue.reduce((sum, { size }) => sum + size, 0);
    let done = 0;
    let reportedAt = Number.NEGATIVE_INFINITY;
    const report = (count: number) => {
      done += count;
      if (done < total && this.#clock.monotonic() - reportedAt < PROGRESS_EVERY_MS) return;
      reportedAt = this.#clock.monotonic();
      onProgress?.(done, total);
    };
    const failed = new AbortController();
    const signal = AbortSignal.any([options.signal, failed.signal]);
    const work = async () => {
      for (let blob = queue.shift(); blob; blob = queue.shift()) {
        await this.#writeLayer(blob, source, report, { ...options, signal });
      }
    };
    const workers = Array.from({ length: PARALLEL_LAYERS }, work);
    try {
      await Promise.all(workers);
    } catch (error) {
      failed.abort(error);
      await Promise.allSettled(workers);
      throw error;
    }
  }

  async #writeLayer(
    blob: Descriptor,
    source: ImageSource,
    onBytes: (count: number) => void,
    options: CallOptions,
  ): Promise<void> {
    let counted = 0;
    const count = (bytes: number) => {
      counted += bytes;
      onBytes(bytes);
    };
    const open = (offset: number) => source.openBlob(blob, offset, options.signal);
    await this.#content.write({ blob, open, onBytes: count }, options);
    // It was there already.
    if (counted < blob.size) onBytes(blob.size - counted);
  }

  async #unpack({ manifest, config, chainId }: PresentImage, options: CallOptions): Promise<void> {
    await this.#unpacker.unpack(manifest, config, options);
    const label = { [`containerd.io/gc.ref.snapshot.${this.#unpacker.snapshotter}`]: chainId };
    await this.#content.label(manifest.config.digest, label, options);
  }

  /**
   * Runs work whose results nothing refers to yet; containerd would collect them without a lease.
   * @param resumable name of a lease that stays when the work is broken off, for the next try to go on from there
   */
  async #leased<T>(signal: AbortSignal, work: (options: CallOptions) => Promise<T>, resumable?: string): Promise<T> {
    const lease = resumable ?? `oakestra-${objectId()}`;
    // Nobody may come back, and the worker may die meanwhile: then the lease ends by itself.
    const expires = new Date(this.#clock.now() + 2 * DAY_MS).toISOString();
    const labels = { "containerd.io/gc.expire": expires };
    await this.#client.unary(LeasesDefinition, "create", { id: lease, labels }, { signal }).catch((error: unknown) => {
      if (resumable === undefined || !hasCode(error, "ALREADY_EXISTS")) throw error;
    });
    let isDone = true;
    try {
      return await work({ signal, lease });
    } catch (error) {
      isDone = resumable === undefined || !(signal.aborted || hasCode(error, "REGISTRY_UNREACHABLE"));
      throw error;
    } finally {
      // Also after an abort, and in vain when containerd is gone.
      const options = { signal: deadline(LEASE_DELETE_TIMEOUT_MS) };
      if (isDone) await this.#client.unary(LeasesDefinition, "delete", { id: lease }, options).catch(() => {});
    }
  }
}

/** Another one each day: a pull that uses a lease of before has a day left at least until that ends. */
function pullLease(name: string, clock: Clock): string {
  const digest = createHash("sha256").update(name).digest("hex").slice(0, 24);
  return `oakestra-pull-${digest}-${Math.floor(clock.now() / DAY_MS)}`;
}

/** @throws AppError REGISTRY_UNAUTHORIZED for another registry's: a password must not get where it does not belong */
function loginFor(reference: ImageReference, { credentials }: PullOptions): PullOptions["credentials"] {
  if (!credentials || isSameRegistry(credentials.server, reference.registry)) return credentials;
  throw new AppError(
    "REGISTRY_UNAUTHORIZED",
    `Cannot pull "${formatReference(reference)}": its login is for "${credentials.server}", not for "${reference.registry}"`,
  );
}

/** Labels by which containerd's collector finds, from the manifest, what belongs to it. */
function contentReferences({ config, layers }: ImageManifest): Record<string, string> {
  const entries = layers.map(({ digest }, index) => [`containerd.io/gc.ref.content.l.${index}`, digest]);
  return { "containerd.io/gc.ref.content.config": config.digest, ...Object.fromEntries(entries) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}
