/** The root's API as the commands see it: logged in, refreshed when the token has expired, answers checked. */
import type * as z from "zod/mini";
import { AppError, hasCode } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { type HttpAnswer, HttpClient, parseEvents, type ServerEvent } from "../transport/http-client.ts";
import { type Credentials, readCredentials, writeCredentials } from "./credentials.ts";
import { RefreshedToken, Tokens } from "./documents.ts";

export const DEFAULT_SERVER = "http://127.0.0.1:10000";

export interface ApiOptions {
  /** What the user asked for; else the login file's, else this machine's. */
  readonly server?: string | undefined;
  readonly token?: string | undefined;
  readonly credentialsPath: string;
  readonly signal: AbortSignal;
}

export class Api {
  readonly #client: HttpClient;
  readonly #options: ApiOptions;
  #credentials: Credentials | undefined;
  #refreshing: Promise<void> | undefined;

  private constructor(client: HttpClient, options: ApiOptions, credentials: Credentials | undefined) {
    this.#client = client;
    this.#options = options;
    this.#credentials = credentials;
  }

  /** Reads the login file; talks to nobody yet. */
  static async open(options: ApiOptions): Promise<Api> {
    const stored = await readCredentials(options.credentialsPath);
    const client = new HttpClient(options.server ?? stored?.server ?? DEFAULT_SERVER);
    // A token goes to the root that gave it, never to another one that somebody names.
    const fits = stored !== undefined && new HttpClient(stored.server).server.origin === client.server.origin;
    return new Api(client, options, fits ? stored : undefined);
  }

  get server(): string {
    return this.#client.server.origin;
  }

  /** Who is logged in; of a token that was given, whom it names. */
  get user(): string | undefined {
    return this.#options.token ? userOf(this.#options.token) : this.#credentials?.user;
  }

  get signal(): AbortSignal {
    return this.#options.signal;
  }

  async logIn(user: string, password: string): Promise<void> {
    const answer = await this.#send("POST", "/api/auth/login", { body: { username: user, password } });
    const tokens = read(Tokens, answer, "/api/auth/login");
    this.#credentials = { server: this.server, user, token: tokens.token, refreshToken: tokens.refresh_token };
    await writeCredentials(this.#options.credentialsPath, this.#credentials);
  }

  /** @throws AppError with the server's code when it refuses, LOGIN_NEEDED, SERVER_UNREACHABLE, ANSWER_INVALID */
  async call<T extends z.ZodMiniType>(
    schema: T,
    method: string,
    path: string,
    options: { body?: unknown; timeoutMs?: number } = {},
  ): Promise<z.output<T>> {
    const answer = await this.#authorized((token) => this.#send(method, path, { ...options, token }));
    return read(schema, answer, path);
  }

  async get<T extends z.ZodMiniType>(schema: T, path: string): Promise<z.output<T>> {
    return await this.call(schema, "GET", path);
  }

  /** For what anyone may ask. */
  async getOpen<T extends z.ZodMiniType>(schema: T, path: string, timeoutMs?: number): Promise<z.output<T>> {
    return read(schema, await this.#send("GET", path, timeoutMs === undefined ? {} : { timeoutMs }), path);
  }

  /** Text that arrives bit by bit, until `signal` aborts or the server ends it. */
  async *stream(path: string, signal = this.signal): AsyncGenerator<string, void, void> {
    const open = (token: string | undefined) => this.#client.stream(path, { token, signal, refuse: refusal });
    let chunks = open(this.#token());
    let first: IteratorResult<string, void>;
    try {
      first = await chunks.next();
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
      await this.#refresh();
      chunks = open(this.#token());
      first = await chunks.next();
    }
    try {
      for (let part = first; !part.done; part = await chunks.next()) yield part.value;
    } finally {
      await chunks.return();
    }
  }

  events(path: string, signal = this.signal): AsyncGenerator<ServerEvent, void, void> {
    return parseEvents(this.stream(path, signal));
  }

  async #authorized(send: (token: string | undefined) => Promise<HttpAnswer>): Promise<HttpAnswer> {
    try {
      return await send(this.#token());
    } catch (error) {
      if (!isUnauthorized(error)) throw error;
      await this.#refresh();
      return await send(this.#token());
    }
  }

  async #send(
    method: string,
    path: string,
    options: { body?: unknown; timeoutMs?: number; token?: string | undefined },
  ): Promise<HttpAnswer> {
    const answer = await this.#client.send(method, path, { ...options, signal: this.signal });
    if (answer.status >= 400 || answer.status < 200) throw refusal(answer);
    return answer;
  }

  #token(): string | undefined {
    return this.#options.token ?? this.#credentials?.token;
  }

  /** One refresh serves all requests that found the token expired. */
  async #refresh(): Promise<void> {
    const credentials = this.#credentials;
    if (this.#options.token)
      throw new AppError("LOGIN_NEEDED", `${this.server} does not accept the token of OAK_TOKEN`);
    if (!credentials)
      throw new AppError("LOGIN_NEEDED", `Not logged in to ${this.server}: run "oak login ${this.server}"`);
    this.#refreshing ??= this.#refreshOnce(credentials).finally(() => {
      this.#refreshing = undefined;
    });
    await this.#refreshing;
  }

  async #refreshOnce(credentials: Credentials): Promise<void> {
    try {
      const answer = await this.#send("POST", "/api/auth/refresh", { token: credentials.refreshToken });
      const { token } = read(RefreshedToken, answer, "/api/auth/refresh");
      this.#credentials = { ...credentials, token };
    } catch (cause) {
      if (!(cause instanceof AppError) || typeof cause.details.status !== "number") throw cause;
      throw new AppError("LOGIN_NEEDED", `The login at ${this.server} has expired: run "oak login ${this.server}"`, {
        cause,
      });
    }
    await writeCredentials(this.#options.credentialsPath, this.#credentials);
  }
}

/** The name in a JWT; whether it is genuine is the server's business. */
function userOf(token: string): string | undefined {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
    const { user, sub } = claims as { user?: unknown; sub?: unknown };
    return [user, sub].find((name) => typeof name === "string") as string | undefined;
  } catch {
    return undefined;
  }
}

function read<T extends z.ZodMiniType>(schema: T, answer: HttpAnswer, path: string): z.output<T> {
  const result = validate(schema, answer.body);
  if (result.ok) return result.value;
  throw new AppError(
    "ANSWER_INVALID",
    `The answer to ${path} is not what this program knows: ${describeProblems(result.problems)}`,
  );
}

/** A refusal of the server as an error: its code, its message, its problems. */
export function refusal({ status, body }: HttpAnswer): AppError {
  const fields = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const details = (typeof fields.details === "object" && fields.details !== null ? fields.details : {}) as Record<
    string,
    unknown
  >;
  const problems = [details.problems, fields.problems].find(Array.isArray) as
    | { field?: string; message?: string }[]
    | undefined;
  const message = [fields.message, fields.msg, fields.status].find(
    (value) => typeof value === "string" && value !== "",
  );
  const code = [fields.code, fields.error].find((value) => typeof value === "string") as string | undefined;
  const lines = (problems ?? []).map(({ field, message: text }) => `  ${field ? `${field}: ` : ""}${text ?? ""}`);
  const first = typeof message === "string" ? message : `The server refused (HTTP ${status})`;
  return new AppError(
    code ?? `HTTP_${status}`,
    [first, ...lines.filter((line) => !first.includes(line.trim()))].join("\n"),
    {
      details: { ...details, status },
    },
  );
}

function isUnauthorized(error: unknown): boolean {
  return error instanceof AppError && error.details.status === 401 && !hasCode(error, "LOGIN_FAILED");
}
