/** Which images containerd's namespace names, and what is to know of them. What was read of one is kept by its digest. */
import { AppError, hasCode } from "../../base/errors.ts";
import type { Image } from "../container-runtime.ts";
import {
  choosePlatform,
  type Descriptor,
  formatPlatform,
  hostPlatform,
  ImageConfig,
  ImageIndex,
  ImageManifest,
  isIndex,
  parseDocument,
  platformError,
  runsOn,
} from "../oci-image.ts";
import type { ContentStore } from "./content-store.ts";
import { ImagesDefinition } from "./gen/images.ts";
import type { CallOptions, GrpcClient } from "./grpc-client.ts";
import { chainIds } from "./unpacker.ts";

/** An image's documents, for this machine. */
export interface ImageContent {
  /** Of what the name points at: a manifest, or an index of them. */
  readonly digest: string;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  /** The snapshot of all its layers. */
  readonly chainId: string;
}

export interface PresentImage extends ImageContent {
  readonly name: string;
}

type Target = Pick<Descriptor, "mediaType" | "digest" | "size">;

const MAX_CACHED = 256;

export class ImageCatalog {
  readonly #client: GrpcClient;
  readonly #content: ContentStore;
  readonly #byDigest = new Map<string, ImageContent>();

  constructor(client: GrpcClient, content: ContentStore) {
    this.#client = client;
    this.#content = content;
  }

  /** One call for an image that was looked at before. @throws AppError IMAGE_MISSING | IMAGE_PLATFORM | IMAGE_INVALID */
  async find(name: string, signal: AbortSignal): Promise<PresentImage> {
    try {
      const { image } = await this.#client.unary(ImagesDefinition, "get", { name }, { signal });
      const content = await this.#read(name, image!.target!, signal);
      if (!runsOn(hostPlatform, content.config)) throw platformError(name, [content.config], hostPlatform);
      return { name, ...content };
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
      throw new AppError("IMAGE_MISSING", `Image "${name}" is not present`, { cause: error });
    }
  }

  async list(signal: AbortSignal): Promise<Image[]> {
    const { images } = await this.#client.unary(ImagesDefinition, "list", {}, { signal });
    return Promise.all(images.map(({ name, target }) => this.#describe(name, target!, signal)));
  }

  /** Makes the name point at the target, whatever it was before. */
  async name(name: string, target: Target, options: CallOptions): Promise<void> {
    const image = { name, target };
    try {
      await this.#client.unary(ImagesDefinition, "create", { image }, options);
    } catch (error) {
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      await this.#client.unary(ImagesDefinition, "update", { image, updateMask: { paths: ["target"] } }, options);
    }
  }

  /** @throws AppError IMAGE_NOT_FOUND */
  async remove(name: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#client.unary(ImagesDefinition, "delete", { name, sync: true }, { signal });
    } catch (error) {
      if (!hasCode(error, "NOT_FOUND")) throw error;
      throw new AppError("IMAGE_NOT_FOUND", `There is no image "${name}" here`);
    }
  }

  async #read(name: string, target: Target, signal: AbortSignal): Promise<ImageContent> {
    const known = this.#byDigest.get(target.digest);
    if (known) return known;
    let manifestDigest = target.digest;
    if (isIndex(target.mediaType)) {
      const index = parseDocument(ImageIndex, await this.#content.read(target.digest, signal), `index of "${name}"`);
      manifestDigest = choosePlatform(index, hostPlatform, name).digest;
    }
    const manifestBytes = await this.#content.read(manifestDigest, signal);
    const manifest = parseDocument(ImageManifest, manifestBytes, `manifest of image "${name}"`);
    const configBytes = await this.#content.read(manifest.config.digest, signal);
    const config = parseDocument(ImageConfig, configBytes, `configuration of image "${name}"`);
    const content = { digest: target.digest, manifest, config, chainId: topChainId(config) };
    if (this.#byDigest.size >= MAX_CACHED) this.#byDigest.clear();
    this.#byDigest.set(target.digest, content);
    return content;
  }

  /** An image of another machine's, or with parts missing, is listed all the same. */
  async #describe(name: string, target: Target, signal: AbortSignal): Promise<Image> {
    try {
      return toImage({ name, ...(await this.#read(name, target, signal)) });
    } catch (error) {
      if (!["NOT_FOUND", "IMAGE_PLATFORM", "IMAGE_INVALID"].some((code) => hasCode(error, code))) throw error;
      return { name, digest: target.digest, sizeBytes: 0, platforms: [] };
    }
  }
}

export function topChainId(config: ImageConfig): string {
  return chainIds(config.rootfs.diff_ids).at(-1) ?? "";
}

export function toImage({ name, digest, manifest, config }: PresentImage): Image {
  const sizeBytes = manifest.layers.reduce((sum, { size }) => sum + size, manifest.config.size);
  return { name, digest, sizeBytes, platforms: [formatPlatform(config)] };
}
