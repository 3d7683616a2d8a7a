/** Output of instances on its way from clusters to readers. Memory is bounded: who reads too slowly misses the middle, and is told. */
import { type Clock, pause } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { objectId } from "../base/random.ts";
import type { ClusterMessage, RootMessage } from "../protocol/uplink.ts";

export interface LogRequest {
  readonly instanceId: string;
  readonly follow: boolean;
  readonly tailLines: number;
}

/** The link that a stream comes over. */
export interface LogLink {
  send(message: RootMessage): void;
}

interface Stream {
  readonly link: LogLink;
  readonly chunks: string[];
  queuedLength: number;
  skipped: number;
  /** Present when the stream is over; the text says why, and is empty for the log's own end. */
  end?: string;
  wake: () => void;
}

const MAX_QUEUED_LENGTH = 1024 * 1024;
/** A quiet log gives its reader an empty text after this long, so that an answer can begin. */
const FIRST_WORD_MS = 1_000;

export class LogStreams {
  readonly #clock: Clock;
  readonly #streams = new Map<string, Stream>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws AppError NOT_FOUND | UNAVAILABLE when the cluster ends it with a reason */
  async *open(link: LogLink, request: LogRequest, signal: AbortSignal): AsyncGenerator<string, void, void> {
    const id = objectId();
    const stream: Stream = { link, chunks: [], queuedLength: 0, skipped: 0, wake: () => {} };
    this.#streams.set(id, stream);
    const stop = () => stream.wake();
    signal.addEventListener("abort", stop);
    try {
      link.send({ type: "log.open", stream: id, ...request });
      if (await this.#isQuiet(stream, signal)) yield "";
      while (!signal.aborted) {
        const text = takeAll(stream);
        if (text !== "") yield text;
        else if (stream.end === undefined) await new Promise<void>((resolve) => (stream.wake = resolve));
        else if (stream.end === "") return;
        else throw endError(request.instanceId, stream.end);
      }
    } finally {
      signal.removeEventListener("abort", stop);
      this.#streams.delete(id);
      if (stream.end === undefined) link.send({ type: "log.close", stream: id });
    }
  }

  receive(link: LogLink, message: Extract<ClusterMessage, { type: "log.data" | "log.end" }>): void {
    const stream = this.#streams.get(message.stream);
    // Unknown: its reader has gone a moment ago.
    if (!stream || stream.link !== link) return;
    if (message.type === "log.end") stream.end = message.error ?? "";
    else if (stream.queuedLength >= MAX_QUEUED_LENGTH) stream.skipped += message.chunk.length;
    else {
      stream.chunks.push(message.chunk);
      stream.queuedLength += message.chunk.length;
    }
    stream.wake();
  }

  /** The link has closed. */
  drop(link: LogLink): void {
    for (const stream of this.#streams.values()) {
      if (stream.link !== link) continue;
      stream.end = "the link to its cluster is lost";
      stream.wake();
    }
  }

  /** True when nothing came for a moment. */
  async #isQuiet(stream: Stream, signal: AbortSignal): Promise<boolean> {
    const spoken = new AbortController();
    stream.wake = () => spoken.abort();
    await pause(this.#clock, FIRST_WORD_MS, AbortSignal.any([signal, spoken.signal]));
    return !spoken.signal.aborted && !signal.aborted;
  }
}

function takeAll(stream: Stream): string {
  const text = stream.chunks.splice(0).join("");
  const notice = stream.skipped > 0 ? `\n[${stream.skipped} characters skipped: read too slowly]\n` : "";
  stream.queuedLength = 0;
  stream.skipped = 0;
  return text + notice;
}

function endError(instanceId: string, reason: string): AppError {
  const code = /not.?found|no such|unknown/i.test(reason) ? "NOT_FOUND" : "UNAVAILABLE";
  return new AppError(code, `Cannot read the output of instance "${instanceId}": ${reason}`, {
    details: { instanceId },
  });
}
