/**
 * A megabyte from worker to worker over the overlay, by the path that the packets of instances take: it finds what small probes do not,
 * such as a wrong MTU. Each worker takes bodies on its own address in each of its subnets, from workers that it knows, and says how
 * many bytes there were.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { deadline, startTimer } from "../../base/clock.ts";
import { AppError, describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { PROBE_PORT } from "../../net/rtt.ts";

export const CHECK_BYTES = 1024 * 1024;
const LIMIT_MS = 10_000;
const MAX_CONNECTIONS = 16;

export class BodySink {
  readonly #isPeer: (address: string) => boolean;
  readonly #log: Logger;
  readonly #servers = new Map<string, Server>();

  constructor(options: { readonly isPeer: (address: string) => boolean; readonly log: Logger }) {
    this.#isPeer = options.isPeer;
    this.#log = options.log;
  }

  /** Listens on exactly these addresses of ours. What cannot be listened on is tried with the next call. */
  async listen(addresses: readonly string[]): Promise<void> {
    for (const [address, server] of this.#servers) {
      if (addresses.includes(address)) continue;
      server.close();
      this.#servers.delete(address);
    }
    for (const address of addresses) if (!this.#servers.has(address)) await this.#open(address);
  }

  close(): void {
    for (const server of this.#servers.values()) server.close();
    this.#servers.clear();
  }

  #open(address: string): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => this.#take(socket));
    server.maxConnections = MAX_CONNECTIONS;
    return new Promise((resolve) => {
      server.on("error", (error) => {
        this.#log.debug({ address, error }, "bodies of other workers are not taken");
        resolve();
      });
      server.listen({ host: address, port: PROBE_PORT }, () => {
        this.#servers.set(address, server);
        resolve();
      });
    });
  }

  #take(socket: Socket): void {
    if (!this.#isPeer(socket.remoteAddress ?? "")) return void socket.destroy();
    let bytes = 0;
    const stopTimer = startTimer(LIMIT_MS, () => socket.destroy());
    socket.on("close", stopTimer);
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > CHECK_BYTES) socket.destroy();
    });
    socket.on("end", () => socket.end(`${bytes}\n`));
  }
}

export type BodyResult =
  | { readonly connectMs: number; readonly bodyMs: number }
  | { readonly connectMs?: number; readonly error: string };

/** Never rejects, unless `signal` aborts. @param now monotonic ms @param withinMs at most the ten seconds that a body may take */
export async function sendBody(
  address: string,
  now: () => number,
  { signal, withinMs = LIMIT_MS }: { readonly signal: AbortSignal; readonly withinMs?: number },
): Promise<BodyResult> {
  const limitMs = Math.min(withinMs, LIMIT_MS);
  const limit = deadline(limitMs, signal);
  const began = now();
  let connectMs: number | undefined;
  try {
    const answer = await exchange(address, limit, () => {
      connectMs = now() - began;
    });
    const received = Number(answer);
    if (received !== CHECK_BYTES) throw new AppError("BODY_CUT", `${received} of ${CHECK_BYTES} bytes arrived`);
    return { connectMs: connectMs ?? 0, bodyMs: now() - began - (connectMs ?? 0) };
  } catch (error) {
    signal.throwIfAborted();
    const seconds = `within ${Math.ceil(limitMs / 1000)} s`;
    if (connectMs === undefined) return { error: limit.aborted ? `no connection ${seconds}` : describeError(error) };
    // Small packets pass: large ones may be lost for their size.
    return { connectMs, error: limit.aborted ? `connected, but no 1 MB through ${seconds}` : describeError(error) };
  }
}

function exchange(address: string, signal: AbortSignal, onConnect: () => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port: PROBE_PORT, signal, allowHalfOpen: true });
    let answer = "";
    socket.on("connect", () => {
      onConnect();
      socket.end(Buffer.alloc(CHECK_BYTES));
    });
    socket.setEncoding("utf8").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", reject);
    socket.on("end", () => resolve(answer));
  });
}
