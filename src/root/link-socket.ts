import type { WebSocket } from "ws";
import { type Clock, pause } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { type RootMessage, UPLINK_SILENCE_MS } from "../protocol/uplink.ts";

/** Messages that may wait here for their turn; more stay in the kernel, and slow the sender down. */
const MAX_QUEUED = 32;
/** Unsent bytes above which new state waits, since it will be newer by then. */
const CONGESTED_BYTES = 1024 * 1024;
/** How long a closing handshake may take. */
const CLOSE_GRACE_MS = 500;

/** One WebSocket as a sequence of JSON messages, with a limit on silence and on what may queue up. */
export class LinkSocket {
  readonly #socket: WebSocket;
  readonly #clock: Clock;
  readonly #onDrained: () => void;
  #heardAt = 0;
  #heardMonotonic = 0;
  #hasSkipped = false;

  constructor(socket: WebSocket, options: { readonly clock: Clock; readonly onDrained: () => void }) {
    this.#socket = socket;
    this.#clock = options.clock;
    this.#onDrained = options.onDrained;
  }

  /** Epoch ms of the last sign of life. */
  get heardAt(): number {
    return this.#heardAt;
  }

  get silentMs(): number {
    return this.#clock.monotonic() - this.#heardMonotonic;
  }

  /** True: leave out what can be said later; `onDrained` tells when. */
  isCongested(): boolean {
    const isCongested = this.#socket.bufferedAmount > CONGESTED_BYTES;
    if (isCongested) this.#hasSkipped = true;
    return isCongested;
  }

  send(message: RootMessage): void {
    this.#socket.send(JSON.stringify(message), () => {
      if (!this.#hasSkipped || this.#socket.bufferedAmount > CONGESTED_BYTES) return;
      this.#hasSkipped = false;
      this.#onDrained();
    });
  }

  close(code: number, reason: string): void {
    // A close frame holds 123 bytes of text.
    this.#socket.close(code, Buffer.from(reason).subarray(0, 120).toString());
  }

  /** Closes, and resolves once it is closed: by the other side's answer, or by force after a moment. */
  async end(code: number, reason: string): Promise<void> {
    this.close(code, reason);
    if (this.#socket.readyState === this.#socket.CLOSED) return;
    const closed = new AbortController();
    this.#socket.once("close", () => closed.abort());
    await pause(this.#clock, CLOSE_GRACE_MS, closed.signal);
    this.#socket.terminate();
  }

  terminate(): void {
    this.#socket.terminate();
  }

  /**
   * Everything that arrives, parsed, in order, until the link closes. To be called once, before anything can have arrived.
   * @throws AppError MESSAGE_INVALID for what is not JSON text
   */
  async *messages(): AsyncGenerator<unknown, void, void> {
    const queue: { readonly text: string; readonly isBinary: boolean }[] = [];
    let wake = () => {};
    let isClosed = false;
    this.#listen();
    this.#socket.on("message", (bytes, isBinary) => {
      queue.push({ text: bytes.toString(), isBinary });
      if (queue.length >= MAX_QUEUED) this.#socket.pause();
      wake();
    });
    this.#socket.on("close", () => {
      isClosed = true;
      wake();
    });
    for (;;) {
      const next = queue.shift();
      if (next) {
        if (this.#socket.isPaused && queue.length === 0) this.#socket.resume();
        yield parse(next);
      } else if (isClosed) return;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  }

  /** Pings, and cuts the link when nothing was heard for too long. */
  async keepAlive(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#clock, UPLINK_SILENCE_MS / 3, signal);
      if (signal.aborted) return;
      if (this.silentMs >= UPLINK_SILENCE_MS) this.terminate();
      else this.#socket.ping();
    }
  }

  #listen(): void {
    const hear = () => {
      this.#heardAt = this.#clock.now();
      this.#heardMonotonic = this.#clock.monotonic();
    };
    hear();
    for (const sign of ["message", "ping", "pong"] as const) this.#socket.on(sign, hear);
    // Too large, not UTF-8, reset: the close that follows is enough.
    this.#socket.on("error", () => this.terminate());
  }
}

function parse({ text, isBinary }: { readonly text: string; readonly isBinary: boolean }): unknown {
  try {
    if (!isBinary) return JSON.parse(text);
  } catch (cause) {
    throw new AppError("MESSAGE_INVALID", "A message is not JSON", { cause });
  }
  throw new AppError("MESSAGE_INVALID", "A message is binary instead of JSON text");
}
