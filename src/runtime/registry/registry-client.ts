/**
 * The pulling half of the OCI distribution protocol (https://github.com/opencontainers/distribution-spec), one repository a client.
 * Credentials go to the registry and to the token server that it names, never to where a download is redirected.
 */
import { type IncomingMessage, request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import * as z from "zod/mini";
import { AppError, describeError, hasCode } from "../../base/errors.ts";
import { formatReference, type ImageReference } from "../image-reference.ts";
import { MAX_DOCUMENT_BYTES, parseDocument } from "../oci-image.ts";
import { apiHost, type Scheme, schemesFor } from "./registry-address.ts";
import { basicAuthorization, type Challenge, parseChallenge, tokenUrl } from "./registry-auth.ts";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

type Headers = Readonly<Record<string, string>>;

const Token = z.object({ token: z.optional(z.string()), access_token: z.optional(z.string()) });

/** Without a byte for that long, a connection counts as broken. */
const IDLE_TIMEOUT_MS = 30_000;
const MAX_REDIRECTS = 5;
const REDIRECTS = [301, 302, 303, 307, 308];

export class RegistryClient {
  readonly #reference: ImageReference;
  readonly #credentials: Credentials | undefined;
  #scheme: Scheme | undefined;
  #authorization: string | undefined;

  constructor(reference: ImageReference, credentials: Credentials | undefined) {
    this.#reference = reference;
    this.#credentials = credentials;
  }

  /** A whole small answer: a manifest, a configuration. */
  async document(
    path: string,
    accept: readonly string[],
    signal: AbortSignal,
  ): Promise<{ type: string; bytes: Buffer }> {
    const response = await this.#get(path, { accept: accept.join(", ") }, signal);
    const bytes = await this.#readAll(response, signal);
    return { type: (response.headers["content-type"] ?? "").split(";")[0]!.trim(), bytes };
  }

  /** The bytes of a blob from `offset` on, whether or not the registry can begin there. */
  async *blob(digest: string, offset: number, signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
    const range: Headers = offset > 0 ? { range: `bytes=${offset}-` } : {};
    const response = await this.#get(`blobs/${digest}`, range, signal);
    let skip = response.statusCode === 206 ? 0 : offset;
    try {
      for await (const chunk of response) {
        const bytes = (chunk as Buffer).subarray(Math.min(skip, (chunk as Buffer).length));
        skip -= (chunk as Buffer).length - bytes.length;
        if (bytes.length > 0) yield bytes;
      }
    } catch (error) {
      throw this.#unreachable(error, signal);
    }
  }

  async #get(path: string, headers: Headers, signal: AbortSignal): Promise<IncomingMessage> {
    const first = await this.#send(path, headers, signal);
    if (first.statusCode !== 401) return this.#accept(first);
    first.resume();
    const challenge = parseChallenge(first.headers["www-authenticate"]);
    this.#authorization = challenge && (await this.#meet(challenge, signal));
    if (this.#authorization === undefined) throw this.#unauthorized();
    return this.#accept(await this.#send(path, headers, signal));
  }

  /** The value of the Authorization header, or undefined when we have nothing to show. */
  async #meet(challenge: Challenge, signal: AbortSignal): Promise<string | undefined> {
    const basic = this.#credentials && basicAuthorization(this.#credentials);
    if (challenge.scheme === "basic") return basic;
    const url = tokenUrl(challenge, this.#reference.repository);
    if (!url || (url.protocol === "http:" && this.#scheme === "https")) return undefined;
    const headers: Headers = basic === undefined ? {} : { authorization: basic };
    const response = await this.#follow(url, headers, signal);
    if (response.statusCode !== 200) {
      response.resume();
      throw [400, 401, 403].includes(response.statusCode ?? 0) ? this.#unauthorized() : this.#refused(response);
    }
    const { token, access_token } = parseDocument(Token, await this.#readAll(response, signal), "registry's token");
    const value = token ?? access_token;
    return value === undefined ? undefined : `Bearer ${value}`;
  }

  async #send(path: string, headers: Headers, signal: AbortSignal): Promise<IncomingMessage> {
    const { registry, repository } = this.#reference;
    const schemes = this.#scheme === undefined ? schemesFor(registry) : [this.#scheme];
    const all = this.#authorization === undefined ? headers : { ...headers, authorization: this.#authorization };
    let failure: unknown;
    for (const scheme of schemes) {
      try {
        const url = new URL(`${scheme}://${apiHost(registry)}/v2/${repository}/${path}`);
        const response = await this.#follow(url, all, signal);
        this.#scheme = scheme;
        return response;
      } catch (error) {
        failure = error;
        // A wrong certificate, for one, is no reason to do without.
        if (signal.aborted || !isNotTls(error)) break;
      }
    }
    throw this.#unreachable(failure, signal);
  }

  async #follow(url: URL, headers: Headers, signal: AbortSignal): Promise<IncomingMessage> {
    let current = url;
    let sent = headers;
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const response = await open(current, sent, signal);
      const { location } = response.headers;
      if (!REDIRECTS.includes(response.statusCode ?? 0) || location === undefined) return response;
      response.resume();
      const next = new URL(location, current);
      if (next.protocol !== "https:" && current.protocol === "https:")
        throw new AppError("REGISTRY_UNREACHABLE", `"${current.host}" redirects to plain HTTP`);
      if (next.host !== current.host) {
        const { authorization: _, ...rest } = sent;
        sent = rest;
      }
      current = next;
    }
    throw new AppError("REGISTRY_UNREACHABLE", `"${url.host}" redirects for ever`);
  }

  #accept(response: IncomingMessage): IncomingMessage {
    const status = response.statusCode ?? 0;
    if (status === 200 || status === 206) return response;
    response.resume();
    if (status === 404) throw new AppError("IMAGE_NOT_FOUND", `${this.#what()}: the registry has no such image`);
    throw status === 401 || status === 403 ? this.#unauthorized() : this.#refused(response);
  }

  async #readAll(response: IncomingMessage, signal: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for await (const chunk of response) {
        size += (chunk as Buffer).length;
        if (size > MAX_DOCUMENT_BYTES) throw new AppError("IMAGE_INVALID", `${this.#what()}: an answer is too large`);
        chunks.push(chunk as Buffer);
      }
    } catch (error) {
      throw this.#unreachable(error, signal);
    }
    return Buffer.concat(chunks);
  }

  #unauthorized(): AppError {
    const reason = this.#credentials
      ? "the registry refuses these credentials"
      : "the registry wants credentials, or has no such image";
    return new AppError("REGISTRY_UNAUTHORIZED", `${this.#what()}: ${reason}`);
  }

  #refused(response: IncomingMessage): AppError {
    const why = response.statusCode === 429 ? "too many pulls for now" : `status ${response.statusCode}`;
    return new AppError("REGISTRY_UNREACHABLE", `${this.#what()}: the registry answers ${why}`);
  }

  #unreachable(error: unknown, signal: AbortSignal): unknown {
    if (signal.aborted) return signal.reason;
    if (error instanceof AppError) return error;
    const cause = error instanceof AggregateError ? error.errors[0] : error;
    return new AppError("REGISTRY_UNREACHABLE", `${this.#what()}: ${describeError(cause)}`, { cause: error });
  }

  #what(): string {
    return `Cannot pull "${formatReference(this.#reference)}"`;
  }
}

/** The server answered a TLS greeting with something else. */
function isNotTls(error: unknown): boolean {
  return ["EPROTO", "ERR_SSL_WRONG_VERSION_NUMBER", "ERR_SSL_PACKET_LENGTH_TOO_LONG"].some((code) =>
    hasCode(error, code),
  );
}

function open(url: URL, headers: Headers, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const begin = url.protocol === "https:" ? tlsRequest : plainRequest;
    const request = begin(url, { headers, signal, timeout: IDLE_TIMEOUT_MS });
    request.on("timeout", () => request.destroy(new Error(`no answer from ${url.host} for ${IDLE_TIMEOUT_MS} ms`)));
    request.on("response", resolve);
    request.on("error", reject);
    request.end();
  });
}
