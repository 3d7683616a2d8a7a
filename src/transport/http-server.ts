/** Serves HTTP/1.1 on `node:http`: limits, timeouts, streams, upgrades, and an end that waits for what is under way. */
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { deadline } from "../base/clock.ts";
import { AppError, hasCode, isAbort } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { errorAnswer } from "./http-answers.ts";
import type { Fetch, HttpRequest, HttpResponse } from "./http-message.ts";

export interface HttpServerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** What it throws is answered: an AppError by its code, everything else as INTERNAL, with a line in the log. */
  readonly fetch: Fetch;
  readonly log: Logger;
  /** Takes the socket over. Without it upgrades are not offered. */
  readonly onUpgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  readonly maxBodyBytes?: number;
}

const HEADERS_TIMEOUT_MS = 10_000;
/** Head and body together; the answer may take as long as it likes. */
const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 60_000;
/** How long answers under way may go on after close(). */
const CLOSE_GRACE_MS = 2_000;
const MAX_BODY_BYTES = 2 * 1024 * 1024;

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #open = new Set<Exchange>();
  readonly #upgraded = new Set<Duplex>();
  #server: Server | undefined;
  #isClosing = false;

  constructor(options: HttpServerOptions) {
    this.#options = options;
  }

  /** @throws AppError PORT_IN_USE | LISTEN_FAILED */
  listen(): Promise<{ port: number }> {
    const { host, port, onUpgrade } = this.#options;
    const server = createServer(
      { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: KEEP_ALIVE_MS },
      (message, response) => void this.#serve(message, response),
    );
    if (onUpgrade) {
      server.on("upgrade", (message, socket, head) => {
        this.#upgraded.add(socket);
        socket.once("close", () => this.#upgraded.delete(socket));
        onUpgrade(message, socket, head);
      });
    }
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once("error", (error) => reject(listenError(error, host, port)));
      server.listen(port, host, () => resolve({ port: (server.address() as AddressInfo).port }));
    });
  }

  /** Takes no more requests, ends streams, lets other answers finish for a moment, then cuts what is left. */
  async close(): Promise<void> {
    const server = this.#server;
    if (!server?.listening) return;
    this.#isClosing = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const exchange of this.#open) exchange.abort();
    server.closeIdleConnections();
    deadline(CLOSE_GRACE_MS).addEventListener("abort", () => {
      server.closeAllConnections();
      for (const socket of this.#upgraded) socket.destroy();
    });
    await closed;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const exchange = new Exchange(message, this.#options.maxBodyBytes ?? MAX_BODY_BYTES);
    this.#open.add(exchange);
    response.once("close", () => {
      this.#open.delete(exchange);
      exchange.abort();
      // While closing, a connection whose last answer is out must not live on for another request.
      if (this.#isClosing) this.#server?.closeIdleConnections();
    });
    try {
      await send(response, await this.#answer(exchange), exchange);
    } catch (error) {
      // The head is out, so the only way left to say "incomplete" is to cut the connection.
      response.destroy();
      if (!isAbort(error)) this.#options.log.warn({ path: exchange.path, error }, "answer broke off");
    }
  }

  async #answer(exchange: Exchange): Promise<HttpResponse> {
    try {
      return await this.#options.fetch(exchange);
    } catch (error) {
      const answer = errorAnswer(error);
      if (answer.status === 500 && !exchange.aborted)
        this.#options.log.error({ method: exchange.method, path: exchange.path, error }, "request failed");
      return answer;
    }
  }
}

class Exchange implements HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly #search: string;
  readonly #message: IncomingMessage;
  readonly #maxBodyBytes: number;
  #aborted = false;
  #controller: AbortController | undefined;

  constructor(message: IncomingMessage, maxBodyBytes: number) {
    const url = originForm(message.url ?? "/");
    const mark = url.indexOf("?");
    this.method = message.method ?? "GET";
    this.path = mark < 0 ? url : url.slice(0, mark);
    this.#search = mark < 0 ? "" : url.slice(mark + 1);
    this.#message = message;
    this.#maxBodyBytes = maxBodyBytes;
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.#search);
  }

  get headers(): IncomingHttpHeaders {
    return this.#message.headers;
  }

  get remoteAddress(): string {
    return this.#message.socket.remoteAddress ?? "";
  }

  get aborted(): boolean {
    return this.#aborted;
  }

  /** Made when asked for: most requests end without anyone looking at it. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#aborted) this.#controller.abort();
    return this.#controller.signal;
  }

  abort(): void {
    this.#aborted = true;
    this.#controller?.abort();
  }

  async text(): Promise<string> {
    const chunks: Buffer[] = [];
    let size = Number(this.headers["content-length"] ?? 0);
    if (size > this.#maxBodyBytes) throw this.#tooLarge();
    size = 0;
    for await (const chunk of this.#message.iterator({ destroyOnReturn: false })) {
      size += (chunk as Buffer).length;
      if (size > this.#maxBodyBytes) throw this.#tooLarge();
      chunks.push(chunk as Buffer);
    }
    return Buffer.concat(chunks, size).toString("utf8");
  }

  /** The rest is read and thrown away: closing instead would reset the connection before the client has read the answer. */
  #tooLarge(): AppError {
    this.#message.resume();
    return new AppError("BODY_TOO_LARGE", `The body is larger than the ${this.#maxBodyBytes} bytes accepted here`, {
      details: { maxBytes: this.#maxBodyBytes },
    });
  }
}

async function send(response: ServerResponse, answer: HttpResponse, exchange: Exchange): Promise<void> {
  const { status, headers = {}, body = "" } = answer;
  if (typeof body === "string" || body instanceof Uint8Array) {
    response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) });
    response.end(body);
    return;
  }
  response.writeHead(status, headers);
  response.flushHeaders();
  for await (const chunk of body) {
    // Also for HEAD the stream was begun, so only this ends it: one that nobody has begun to read would stay open for ever.
    if (exchange.aborted || exchange.method === "HEAD") break;
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}

/** Proxies may send the whole URL (RFC 9112, 3.2.2). */
function originForm(url: string): string {
  if (url.startsWith("/") || !URL.canParse(url)) return url;
  const { pathname, search } = new URL(url);
  return pathname + search;
}

function listenError(cause: unknown, host: string, port: number): AppError {
  if (hasCode(cause, "EADDRINUSE")) {
    const remedy = `see who has it with "ss -ltnp sport = :${port}" and stop that, or choose another port in the settings`;
    return new AppError("PORT_IN_USE", `Cannot listen on ${host}:${port}: the port is in use; ${remedy}`, {
      cause,
      details: { host, port },
    });
  }
  const reason = hasCode(cause, "EADDRNOTAVAIL") ? ": this machine does not have that address" : "";
  return new AppError("LISTEN_FAILED", `Cannot listen on ${host}:${port}${reason}`, { cause, details: { host, port } });
}
