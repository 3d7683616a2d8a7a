/**
 * A gRPC client over `node:http2` on a unix socket: unary calls, streams of answers, and exchanges in lockstep.
 * One session, opened at the first call and again after it broke. A call that ends early, for whatever reason, resets its
 * stream, so that the server stops working on it.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";
import { createConnection } from "node:net";
import { startTimer } from "../../base/clock.ts";
import { AppError, describeError, hasCode, rootCause } from "../../base/errors.ts";
import { FrameReader, frame } from "./grpc-frames.ts";

/** As ts-proto's generic definitions are. */
export interface Service {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, Method>>;
}

interface Method {
  readonly name: string;
  readonly requestType: { encode(message: never): { finish(): Uint8Array } };
  readonly responseType: { decode(bytes: Uint8Array): unknown };
}

type MethodOf<S extends Service> = keyof S["methods"] & string;
type RequestOf<S extends Service, M extends MethodOf<S>> = Parameters<S["methods"][M]["requestType"]["encode"]>[0];
type ResponseOf<S extends Service, M extends MethodOf<S>> = ReturnType<S["methods"][M]["responseType"]["decode"]>;

export interface CallOptions {
  readonly signal: AbortSignal;
  /** Until the call has ended; default: a minute for unary calls, no limit for the others. */
  readonly timeoutMs?: number;
  /** Keeps what the call makes from being collected, until the lease is deleted. */
  readonly lease?: string | undefined;
}

/** Each request is answered by one response before the next is sent. */
export interface Exchange<Request, Response> {
  send(request: Request): Promise<Response>;
  /** Ends the call; without it the server would wait for more. */
  close(): void;
}

/** The names of https://grpc.io/docs/guides/status-codes, as codes of AppError. */
const STATUS_NAMES = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"],
  ...["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"],
  ...["INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"],
];
const DEFAULT_TIMEOUT_MS = 60_000;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export class GrpcClient {
  readonly namespace: string;
  readonly #socket: string;
  #session: ClientHttp2Session | undefined;

  constructor(options: { socket: string; namespace: string }) {
    this.#socket = options.socket;
    this.namespace = options.namespace;
  }

  /** @throws AppError with the name of the gRPC status, or RUNTIME_UNAVAILABLE when there is no answer */
  async unary<S extends Service, M extends MethodOf<S>>(
    service: S,
    method: M,
    request: RequestOf<S, M>,
    options: CallOptions,
  ): Promise<ResponseOf<S, M>> {
    const call = this.#open(service, method, { timeoutMs: DEFAULT_TIMEOUT_MS, ...options });
    call.stream.end(encode(service, method, request));
    let answer: { value: ResponseOf<S, M> } | undefined;
    // To the end, where the status stands.
    for await (const value of this.#answers(service, method, call)) answer = { value };
    if (!answer) throw new AppError("RUNTIME_UNAVAILABLE", `containerd answered ${call.path} with nothing`);
    return answer.value;
  }

  /** The request is sent at once, not at the first `next()`. */
  stream<S extends Service, M extends MethodOf<S>>(
    service: S,
    method: M,
    request: RequestOf<S, M>,
    options: CallOptions,
  ): AsyncGenerator<ResponseOf<S, M>, void, void> {
    const call = this.#open(service, method, options);
    call.stream.end(encode(service, method, request));
    return this.#answers(service, method, call);
  }

  exchange<S extends Service, M extends MethodOf<S>>(
    service: S,
    method: M,
    options: CallOptions,
  ): Exchange<RequestOf<S, M>, ResponseOf<S, M>> {
    const call = this.#open(service, method, options);
    const answers = this.#answers(service, method, call);
    return {
      send: async (request) => {
        call.stream.write(encode(service, method, request));
        const { value, done } = await answers.next();
        if (done) throw new AppError("RUNTIME_UNAVAILABLE", `containerd ended ${call.path} too early`);
        return value;
      },
      close: () => call.end(),
    };
  }

  close(): void {
    this.#session?.destroy();
    this.#session = undefined;
  }

  #open(service: Service, method: string, options: CallOptions): Call {
    const { signal, timeoutMs, lease } = options;
    signal.throwIfAborted();
    const path = `/${service.fullName}/${service.methods[method]!.name}`;
    const stream = this.#connected().request({
      ":method": "POST",
      ":path": path,
      te: "trailers",
      "content-type": "application/grpc",
      "containerd-namespace": this.namespace,
      ...(lease === undefined ? {} : { "containerd-lease": lease }),
      ...(timeoutMs === undefined ? {} : { "grpc-timeout": `${timeoutMs}m` }),
    });
    return new Call(stream, path, signal, timeoutMs);
  }

  #connected(): ClientHttp2Session {
    const current = this.#session;
    if (current && !current.closed && !current.destroyed) return current;
    const session = connect("http://localhost", {
      createConnection: () => createConnection(this.#socket),
      settings: { enablePush: false },
    });
    // Whoever waits on one of its streams gets the error there.
    session.on("error", () => {});
    session.on("goaway", () => session.close());
    this.#session = session;
    return session;
  }

  async *#answers<S extends Service, M extends MethodOf<S>>(
    service: S,
    method: M,
    call: Call,
  ): AsyncGenerator<ResponseOf<S, M>, void, void> {
    const { responseType } = service.methods[method]!;
    try {
      const frames = new FrameReader(MAX_MESSAGE_BYTES);
      for await (const chunk of call.stream) {
        for (const message of frames.push(chunk as Buffer)) yield responseType.decode(message) as ResponseOf<S, M>;
      }
      call.check(frames.isAtBoundary);
    } catch (error) {
      throw call.explain(error, this.#socket);
    } finally {
      call.end();
    }
  }
}

/** One stream with its status and its limit in time. */
class Call {
  readonly stream: ClientHttp2Stream;
  readonly path: string;
  readonly #signal: AbortSignal;
  readonly #reset: () => void;
  readonly #cancelTimer: () => void;
  #isLate = false;
  #status: { code: number; message: string } | undefined;

  constructor(stream: ClientHttp2Stream, path: string, signal: AbortSignal, timeoutMs: number | undefined) {
    this.stream = stream;
    this.path = path;
    this.#signal = signal;
    this.#reset = () => stream.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener("abort", this.#reset);
    const onTimeout = () => {
      this.#isLate = true;
      this.#reset();
    };
    this.#cancelTimer = timeoutMs === undefined ? () => {} : startTimer(timeoutMs, onTimeout);
    const readStatus = (headers: Readonly<Record<string, unknown>>) => {
      const code = headers["grpc-status"];
      if (code === undefined) return;
      this.#status = { code: Number(code), message: decodeURIComponentSafe(String(headers["grpc-message"] ?? "")) };
    };
    // A failure before the first answer comes with the headers, any other with the trailers.
    stream.on("response", readStatus);
    stream.on("trailers", readStatus);
    // The reader gets it too; without a listener it would end the process when nobody reads yet.
    stream.on("error", () => {});
  }

  /** @throws AppError when the answers that were read are not all */
  check(isAtBoundary: boolean): void {
    if (!this.#status || !isAtBoundary) throw new AppError("RUNTIME_UNAVAILABLE", "containerd broke off its answer");
    const { code, message } = this.#status;
    this.#isLate ||= STATUS_NAMES[code] === "DEADLINE_EXCEEDED";
    if (code !== 0) throw new AppError(STATUS_NAMES[code] ?? "UNKNOWN", message, { details: { call: this.path } });
  }

  explain(error: unknown, socket: string): unknown {
    if (this.#signal.aborted) return this.#signal.reason;
    if (this.#isLate)
      return new AppError("RUNTIME_UNAVAILABLE", `containerd did not answer ${this.path} in time`, { cause: error });
    if (error instanceof AppError) return error;
    // HTTP/2 wraps it twice, and says nothing of its own.
    const cause = rootCause(error);
    return new AppError("RUNTIME_UNAVAILABLE", `Cannot reach containerd at "${socket}" (${describeError(cause)})`, {
      cause,
    });
  }

  end(): void {
    this.#cancelTimer();
    this.#signal.removeEventListener("abort", this.#reset);
    // A stream that was read to its end closes by itself.
    if (!this.stream.readableEnded && !this.stream.destroyed) this.#reset();
  }
}

function encode<S extends Service, M extends MethodOf<S>>(service: S, method: M, request: RequestOf<S, M>): Buffer {
  return frame(service.methods[method]!.requestType.encode(request as never).finish());
}

/** grpc-message is percent-encoded; a server that forgot to still has something to say. */
function decodeURIComponentSafe(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** For `.catch()`: what is to be gone may be gone already. */
export function ignoreNotFound(error: unknown): void {
  if (!hasCode(error, "NOT_FOUND")) throw error;
}
