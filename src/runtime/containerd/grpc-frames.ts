/** gRPC's framing: each message is preceded by a compression flag (always 0 here) and its length in four bytes. Pure. */
import { AppError } from "../../base/errors.ts";

const HEADER_BYTES = 5;

export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(HEADER_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, HEADER_BYTES);
  return framed;
}

/** Cuts a byte stream, whatever its chunks, into messages. */
export class FrameReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #buffered = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes a chunk and gives the messages that it completes. @throws AppError RUNTIME_UNAVAILABLE for what is no gRPC */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const messages: Buffer[] = [];
    for (let size = this.#nextSize(); size !== undefined && this.#buffered >= size; size = this.#nextSize()) {
      messages.push(this.#take(size).subarray(HEADER_BYTES));
    }
    return messages;
  }

  /** True between two messages: only here may a stream end. */
  get isAtBoundary(): boolean {
    return this.#buffered === 0;
  }

  #nextSize(): number | undefined {
    if (this.#buffered < HEADER_BYTES) return undefined;
    if (this.#chunks[0]!.length < HEADER_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    const head = this.#chunks[0]!;
    if (head[0] !== 0) throw new AppError("RUNTIME_UNAVAILABLE", "containerd sent a compressed message");
    const size = head.readUInt32BE(1);
    if (size > this.#maxBytes)
      throw new AppError(
        "RUNTIME_UNAVAILABLE",
        `containerd sent a message of ${size} bytes; ${this.#maxBytes} allowed`,
      );
    return HEADER_BYTES + size;
  }

  #take(size: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    const rest = all.subarray(size);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#buffered = rest.length;
    return all.subarray(0, size);
  }
}
