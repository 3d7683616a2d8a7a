/**
 * The client half of the HTTP API: requests with JSON bodies, and answers that go on (events, logs).
 * On `node:http` rather than fetch: fetch ends a quiet stream after five minutes and refuses ports that browsers refuse.
 */
import { type IncomingMessage, request as plainRequest } from "node:http";
import { deadline } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { whyUnreachable } from "./unreachable.ts";

export interface HttpRequest {
  readonly body?: unknown;
  /** Sent as `Authorization: Bearer …`. */
  readonly token?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Until the whole answer is there; for a stream: until it begins. */
  readonly timeoutMs?: number;
}

export interface HttpAnswer {
  readonly status: number;
  /** Parsed JSON, or the text when it is none. */
  readonly body: unknown;
}

const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export class HttpClient {
  readonly server: URL;

  /** @throws AppError SERVER_URL_INVALID */
  constructor(server: string) {
    this.server = serverUrl(server);
  }

  /**
   * Sends one request and reads the whole answer, whatever its status.
   * @throws AppError SERVER_UNREACHABLE | SERVER_TIMEOUT
   */
  async send(method: string, path: string, options: HttpRequest = {}): Promise<HttpAnswer> {
    const limit = deadline(options.timeoutMs ?? 30_000, options.signal);
    try {
      const response = await this.#open(method, path, options, limit);
      const text = await readAll(response);
      return { status: response.statusCode ?? 0, body: decode(text) };
    } catch (error) {
      throw this.#explain(error, limit, options.signal);
    }
  }

  /**
   * Opens an answer without an end of its own; yields text as it arrives and ends with the signal, quietly.
   * @throws AppError SERVER_UNREACHABLE | SERVER_TIMEOUT, and what `refuse` makes of a status other than 200
   */
  async *stream(
    path: string,
    options: HttpRequest & { readonly refuse: (answer: HttpAnswer) => Error },
  ): AsyncGenerator<string, void, void> {
    const opened = new AbortController();
    const limit = deadline(options.timeoutMs ?? 30_000, options.signal);
    const giveUp = () => opened.abort(limit.reason);
    limit.addEventListener("abort", giveUp, { once: true });
    if (limit.aborted) giveUp();
    const signal = options.signal ? AbortSignal.any([opened.signal, options.signal]) : opened.signal;
    try {
      const response = await this.#open("GET", path, options, signal);
      limit.removeEventListener("abort", giveUp);
      if (response.statusCode !== 200) {
        throw options.refuse({ status: response.statusCode ?? 0, body: decode(await readAll(response)) });
      }
      response.setEncoding("utf8");
      for await (const chunk of response) yield chunk as string;
    } catch (error) {
      if (options.signal?.aborted) return;
      throw this.#explain(error, limit, options.signal);
    } finally {
      limit.removeEventListener("abort", giveUp);
      opened.abort();
    }
  }

  async #open(method: string, path: string, options: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> {
    // TLS is a third of a short command's time, and megabytes of a long process: loaded only where it is spoken.
    const open = this.server.protocol === "https:" ? (await import("node:https")).request : plainRequest;
    return await new Promise((resolve, reject) => {
      const body = options.body === undefined ? undefined : JSON.stringify(options.body);
      const request = open(new URL(path, this.server), {
        method,
        signal,
        headers: {
          accept: "application/json, text/event-stream, text/plain",
          ...(options.token ? { authorization: `Bearer ${options.token}` } : {}),
          ...(body === undefined
            ? {}
            : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) }),
        },
      });
      request.on("response", resolve);
      request.on("error", reject);
      request.end(body);
    });
  }

  #explain(error: unknown, limit: AbortSignal, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason;
    if (limit.aborted)
      return new AppError("SERVER_TIMEOUT", `No answer from ${this.server.origin} in time`, { cause: error });
    if (error instanceof AppError) return error;
    const { origin } = this.server;
    const message = `Cannot reach ${origin}: ${whyUnreachable(error, this.server)}`;
    return new AppError("SERVER_UNREACHABLE", message, { cause: error });
  }
}

/** `127.0.0.1:10000` is as good as `http://127.0.0.1:10000/`. @throws AppError SERVER_URL_INVALID */
export function serverUrl(text: string): URL {
  const address = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.hostname === "") {
    throw new AppError(
      "SERVER_URL_INVALID",
      `${JSON.stringify(text)} is not a server's URL: write for example http://127.0.0.1:10000`,
    );
  }
  return url;
}

/** One server-sent event. */
export interface ServerEvent {
  readonly event: string;
  readonly data: string;
}

/** Splits a stream of text into events (https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6); comments fall out. */
export async function* parseEvents(chunks: AsyncIterable<string>): AsyncGenerator<ServerEvent, void, void> {
  let event = "message";
  let lines: string[] = [];
  for await (const line of splitLines(chunks)) {
    if (line === "") {
      if (lines.length > 0) yield { event, data: lines.join("\n") };
      event = "message";
      lines = [];
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") lines.push(value);
  }
}

/** Lines without their ends; the last one also when nothing ends it. */
export async function* splitLines(chunks: AsyncIterable<string>): AsyncGenerator<string, void, void> {
  let rest = "";
  for await (const chunk of chunks) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
  }
  if (rest !== "") yield rest;
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += (chunk as Buffer).length;
    if (size > MAX_ANSWER_BYTES)
      throw new AppError("ANSWER_TOO_LARGE", `An answer has more than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString();
}

/** JSON; JSON inside a JSON string, as a root with `--api-encoding atc23` answers; or the text itself. */
function decode(text: string): unknown {
  const value = parseJson(text);
  return typeof value === "string" && /^\s*[[{]/.test(value) ? parseJson(value) : value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text; // the caller's schema tells what it is not
  }
}
