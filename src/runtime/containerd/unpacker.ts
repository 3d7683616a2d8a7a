/** Layers to snapshots: each is applied by containerd on a snapshot of its parent and kept under its chain id. */
import { createHash } from "node:crypto";
import { AppError, hasCode } from "../../base/errors.ts";
import { objectId } from "../../base/random.ts";
import type { ImageConfig, ImageManifest } from "../oci-image.ts";
import { DiffDefinition } from "./gen/diff.ts";
import { SnapshotsDefinition } from "./gen/snapshots.ts";
import { type CallOptions, type GrpcClient, ignoreNotFound } from "./grpc-client.ts";

const APPLY_TIMEOUT_MS = 15 * 60_000;
/** The parent of a snapshot that stands on nothing, and the chain id of an image without layers. */
const NO_LAYERS = "";

export class Unpacker {
  readonly snapshotter: string;
  readonly #client: GrpcClient;
  /** Chain ids; asking for them before each start would cost a call. */
  readonly #unpacked = new Set<string>([NO_LAYERS]);

  constructor(client: GrpcClient, snapshotter: string) {
    this.#client = client;
    this.snapshotter = snapshotter;
  }

  /** What was found unpacked once is believed to be so, until `forget()`. */
  async isUnpacked(chainId: string, options: CallOptions): Promise<boolean> {
    if (!this.#unpacked.has(chainId) && (await this.#exists(chainId, options))) this.#unpacked.add(chainId);
    return this.#unpacked.has(chainId);
  }

  /** To be told when layers turn out to be gone. */
  forget(chainId: string): void {
    this.#unpacked.delete(chainId);
  }

  /** Unpacks what is not yet; the blobs must be there. @throws AppError IMAGE_INVALID */
  async unpack({ layers }: ImageManifest, { rootfs }: ImageConfig, options: CallOptions): Promise<void> {
    const chain = chainIds(rootfs.diff_ids);
    if (layers.length !== chain.length)
      throw new AppError("IMAGE_INVALID", `The image has ${layers.length} layers, its configuration ${chain.length}`);
    for (const [index, chainId] of chain.entries()) {
      if (await this.#exists(chainId, options)) continue;
      const layer = { chainId, parent: chain[index - 1] ?? NO_LAYERS, diffId: rootfs.diff_ids[index]! };
      await this.#unpackLayer(layers[index]!, layer, options);
    }
  }

  async #exists(chainId: string, options: CallOptions): Promise<boolean> {
    try {
      await this.#client.unary(SnapshotsDefinition, "stat", this.#key(chainId), options);
      return true;
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
  }

  async #unpackLayer(
    { mediaType, digest, size }: ImageManifest["layers"][number],
    { chainId, parent, diffId }: { chainId: string; parent: string; diffId: string },
    options: CallOptions,
  ): Promise<void> {
    const active = this.#key(`extract-${objectId()} ${chainId}`);
    try {
      const { mounts } = await this.#client.unary(SnapshotsDefinition, "prepare", { ...active, parent }, options);
      const request = { diff: { mediaType, digest, size }, mounts };
      const { applied } = await this.#client.unary(DiffDefinition, "apply", request, {
        ...options,
        timeoutMs: APPLY_TIMEOUT_MS,
      });
      if (applied?.digest !== diffId)
        throw new AppError("IMAGE_INVALID", `Layer "${digest}" unpacks to "${applied?.digest}", not to "${diffId}"`);
      await this.#client.unary(SnapshotsDefinition, "commit", { ...active, name: chainId }, options);
    } catch (error) {
      await this.#client.unary(SnapshotsDefinition, "remove", active, options).catch(ignoreNotFound);
      // Another image with the same layer was quicker.
      if (!hasCode(error, "ALREADY_EXISTS")) throw error;
    }
  }

  #key(key: string): { snapshotter: string; key: string } {
    return { snapshotter: this.snapshotter, key };
  }
}

/** https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(
      parent === undefined ? diffId : `sha256:${createHash("sha256").update(`${parent} ${diffId}`).digest("hex")}`,
    );
  }
  return chain;
}
