/** containerd's content store: blobs by digest, written in pieces and checked by containerd when they are committed. */
import { type Clock, deadline } from "../../base/clock.ts";
import { AppError, hasCode } from "../../base/errors.ts";
import { retry } from "../../base/retry.ts";
import type { Descriptor } from "../oci-image.ts";
import { MAX_DOCUMENT_BYTES } from "../oci-image.ts";
import { ContentDefinition, WriteAction } from "./gen/content.ts";
import type { CallOptions, GrpcClient } from "./grpc-client.ts";

export interface BlobWrite {
  readonly blob: Pick<Descriptor, "digest" | "size">;
  /** The blob's bytes from `offset` on: part of it may be there from a write that was broken off. */
  readonly open: (offset: number) => AsyncIterable<Uint8Array>;
  readonly onBytes?: (count: number) => void;
}

const CLEAN_UP_TIMEOUT_MS = 5000;
/** Another writer of the same blob, or the broken-off predecessor of this one, holds the lock. */
const LOCK_BACKOFF = { firstMs: 20, maxMs: 1000 };

export class ContentStore {
  readonly #client: GrpcClient;
  readonly #clock: Clock;

  constructor(client: GrpcClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** A whole document. @throws AppError NOT_FOUND */
  async read(digest: string, signal: AbortSignal): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const { data } of this.#client.stream(ContentDefinition, "read", { digest }, { signal })) {
      size += data.length;
      if (size > MAX_DOCUMENT_BYTES) throw new AppError("IMAGE_INVALID", `"${digest}" is too large for a document`);
      parts.push(data);
    }
    return Buffer.concat(parts);
  }

  /**
   * Makes the blob present; when it is, only the lease learns of it. What a failure leaves unfinished is taken up by the next
   * write, for as long as a lease holds it; bytes that turn out to be wrong go at once.
   * @throws AppError IMAGE_INVALID for a wrong digest
   */
  async write(write: BlobWrite, options: CallOptions): Promise<void> {
    const ref = `oakestra-${write.blob.digest}`;
    // Whose lock it is: another's write must not be dropped.
    const mine = { locked: false };
    try {
      await retry(() => this.#writeOnce(ref, write, mine, options), {
        backoff: LOCK_BACKOFF,
        signal: options.signal,
        clock: this.#clock,
        isFinal: (error) => mine.locked || !hasCode(error, "UNAVAILABLE"),
      });
    } catch (error) {
      if (hasCode(error, "ALREADY_EXISTS")) return;
      if (!hasCode(error, "FAILED_PRECONDITION") && !hasCode(error, "OUT_OF_RANGE")) throw error;
      if (mine.locked) await this.#abort(ref);
      throw new AppError("IMAGE_INVALID", `Blob "${write.blob.digest}" does not have that digest and size`, {
        cause: error,
      });
    }
  }

  /** Adds labels to a blob that is present. */
  async label(digest: string, labels: Readonly<Record<string, string>>, options: CallOptions): Promise<void> {
    const updateMask = { paths: Object.keys(labels).map((key) => `labels.${key}`) };
    const info = { digest, size: 0, labels: { ...labels } };
    await this.#client.unary(ContentDefinition, "update", { info, updateMask }, options);
  }

  async #writeOnce(
    ref: string,
    { blob, open, onBytes }: BlobWrite,
    mine: { locked: boolean },
    options: CallOptions,
  ): Promise<void> {
    const exchange = this.#client.exchange(ContentDefinition, "write", options);
    const part = { ref, total: blob.size, expected: blob.digest, labels: {} };
    try {
      let { offset } = await exchange.send({ ...part, action: WriteAction.STAT, offset: 0, data: new Uint8Array() });
      mine.locked = true;
      onBytes?.(offset);
      if (offset < blob.size) {
        for await (const data of open(offset)) {
          await exchange.send({ ...part, action: WriteAction.WRITE, offset, data });
          offset += data.length;
          onBytes?.(data.length);
        }
      }
      await exchange.send({ ...part, action: WriteAction.COMMIT, offset, data: new Uint8Array() });
    } finally {
      exchange.close();
    }
  }

  /** Drops what was written so far; runs also when the caller gave up, and its own failure matters to nobody. */
  async #abort(ref: string): Promise<void> {
    const options = { signal: deadline(CLEAN_UP_TIMEOUT_MS) };
    try {
      await retry(() => this.#client.unary(ContentDefinition, "abort", { ref }, options), {
        backoff: LOCK_BACKOFF,
        attempts: 5,
        signal: options.signal,
        clock: this.#clock,
        isFinal: (error) => !hasCode(error, "UNAVAILABLE"),
      });
    } catch {
      // Its lease goes next, and containerd's own collection takes it then.
    }
  }
}
