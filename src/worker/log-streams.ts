/** Logs on request: the last lines, and what follows them for as long as somebody reads. Streams end with the link. */
import { watch } from "node:fs";
import { open } from "node:fs/promises";
import { StringDecoder } from "node:string_decoder";
import { type Clock, pause } from "../base/clock.ts";
import { describeError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { LogData, LogRequest } from "../protocol/mqtt.ts";
import { type InstanceLogs, sizeOf } from "./logs.ts";

type OpenRequest = Extract<LogRequest, { type: "open" }>;

const MAX_STREAMS = 32;
const MAX_TAIL = { maxBytes: 1024 * 1024, maxLines: 10_000 };
/** An invalid byte becomes a replacement character of three: a part has at most 30 KiB then. */
const READ_BYTES = 10 * 1024;
/** A log that is not there yet, and the end of its instance, are noticed after this. */
const LOOK_AGAIN_MS = 2000;

export interface LogStreamsParts {
  readonly logs: InstanceLogs;
  readonly isKnown: (instanceId: string) => boolean;
  /** @throws AppError MQTT_OFFLINE */
  readonly send: (part: LogData) => Promise<void>;
  readonly log: Logger;
  readonly clock: Clock;
}

export class LogStreams {
  readonly #parts: LogStreamsParts;
  readonly #open = new Map<string, { readonly end: AbortController; readonly done: Promise<void> }>();

  constructor(parts: LogStreamsParts) {
    this.#parts = parts;
  }

  request(request: LogRequest): void {
    const { stream } = request;
    this.#open.get(stream)?.end.abort();
    if (request.type === "close") return;
    const end = new AbortController();
    const done = this.#serve(request, end.signal).finally(() => {
      if (this.#open.get(stream)?.end === end) this.#open.delete(stream);
    });
    this.#open.set(stream, { end, done });
  }

  /** Nobody reads any more. */
  closeAll(): void {
    for (const { end } of this.#open.values()) end.abort();
  }

  /** Ends every stream when `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    this.closeAll();
    await Promise.all([...this.#open.values()].map(({ done }) => done));
  }

  async #serve(request: OpenRequest, signal: AbortSignal): Promise<void> {
    const { send, log, isKnown } = this.#parts;
    const { stream, instanceId } = request;
    let end = "";
    try {
      if (!isKnown(instanceId)) end = `There is no instance "${instanceId}" on this worker`;
      else if (this.#open.size >= MAX_STREAMS) end = `Too many log streams on this worker (${MAX_STREAMS})`;
      else await this.#copy(request, signal);
    } catch (error) {
      if (!signal.aborted && !hasCode(error, "MQTT_OFFLINE")) log.warn({ instanceId, error }, "log stream failed");
      end = describeError(error);
    }
    if (signal.aborted) return;
    await send({ stream, end }).catch((error: unknown) => log.debug({ error }, "log stream ended with the link"));
  }

  async #copy({ stream, instanceId, follow, tailLines }: OpenRequest, signal: AbortSignal): Promise<void> {
    const { logs, send, isKnown } = this.#parts;
    const maxLines = Math.min(Math.max(0, tailLines), MAX_TAIL.maxLines);
    const tail = await logs.tail(instanceId, { ...MAX_TAIL, maxLines });
    for (const chunk of pieces(tail.text)) {
      if (signal.aborted) return;
      await send({ stream, chunk });
    }
    const decoder = new StringDecoder("utf8");
    let { offset } = tail;
    while (follow && !signal.aborted && isKnown(instanceId)) {
      const size = await sizeOf(logs.path(instanceId));
      // Cut by rotation: what was appended since is at the beginning.
      if (size < offset) offset = 0;
      if (size === offset) {
        await this.#grown(logs.path(instanceId), size, signal);
        continue;
      }
      const bytes = await readPart(logs.path(instanceId), offset, Math.min(READ_BYTES, size - offset));
      offset += bytes.length;
      const chunk = decoder.write(bytes);
      if (chunk && !signal.aborted) await send({ stream, chunk });
    }
  }

  /** Waits until the file may be of another size. */
  async #grown(path: string, size: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    try {
      const watcher = watch(path, { persistent: false }, wake);
      watcher.on("error", wake);
      // Watched first, then looked at: nothing comes in between.
      if ((await sizeOf(path)) !== size) wake();
      await pause(this.#parts.clock, LOOK_AGAIN_MS, AbortSignal.any([signal, woken.signal]));
      watcher.close();
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
      await pause(this.#parts.clock, LOOK_AGAIN_MS, signal);
    }
  }
}

async function readPart(path: string, offset: number, length: number): Promise<Buffer> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
  return buffer.subarray(0, bytesRead);
}

/** Parts that are small enough for one message; no character is cut in two. */
function* pieces(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + READ_BYTES, text.length);
    if (isHighSurrogate(text.charCodeAt(end - 1)) && end < text.length) end += 1;
    yield text.slice(start, end);
    start = end;
  }
}

const isHighSurrogate = (code: number) => code >= 0xd800 && code < 0xdc00;
