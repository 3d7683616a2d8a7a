/**
 * Requests and answers as our HTTP servers see them. Not the web's Request and Response: touching those loads undici, which
 * costs 13 MB of a root that is to live in 80.
 */
import type { IncomingHttpHeaders } from "node:http";

export interface HttpRequest {
  readonly method: string;
  /** Without the query, percent-encoding kept. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** Of the peer of the connection: a proxy's, where there is one. */
  readonly remoteAddress: string;
  /** Aborts when the client has gone, or when the server closes. */
  readonly signal: AbortSignal;
  /** Reads the body, as UTF-8; at most once. @throws AppError BODY_TOO_LARGE */
  text(): Promise<string>;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream is sent as it comes and ends with the request's signal. */
  readonly body?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
}

export type Fetch = (request: HttpRequest) => HttpResponse | Promise<HttpResponse>;
