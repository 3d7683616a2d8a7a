/**
 * The name server of a worker's sandboxes, over UDP and TCP. Names of ours are answered here, all others by the host's resolvers.
 * What is malformed, from elsewhere, or too much at once gets no answer: an asker repeats itself, and memory stays bounded. No
 * sandbox keeps others from asking: where all places are taken, who has most gives one up.
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { deadline } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { FairShare } from "../../base/fair-share.ts";
import type { Logger } from "../../base/log.ts";
import { DnsForwarder } from "./dns-forwarder.ts";
import { type DnsAnswer, encodeAnswer, parseQuery } from "./dns-message.ts";
import { frame, MessageReader } from "./dns-stream.ts";

export interface DnsServerOptions {
  /** @param source address of the asker. Names that are not ours: `forward`. */
  readonly answer: (
    question: { readonly name: string; readonly source: string },
    signal: AbortSignal,
  ) => Promise<DnsAnswer | { readonly kind: "forward" }>;
  /** Who may ask. */
  readonly isAllowed: (source: string) => boolean;
  /** The host's resolvers, best first. */
  readonly upstreams: () => Promise<readonly string[]>;
  readonly log: Logger;
  /** Default 53; 0: any that is free. */
  readonly port?: number;
  readonly upstreamPort?: number;
}

interface Listener {
  readonly udp: UdpSocket;
  readonly tcp: Server;
  readonly port: number;
}

/** Refused, since dropping the oldest would let none of them ever be answered. */
const IN_FLIGHT = { max: 512, share: 64, beyond: "refuse" } as const;
const CONNECTIONS = { max: 128, share: 16, beyond: "replace" } as const;
const MAX_QUERY_BYTES = 4096;
const CONNECTION_MS = 10_000;

export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #forwarder: DnsForwarder;
  readonly #listeners = new Map<string, Listener>();
  readonly #connections = new FairShare<Socket>(CONNECTIONS);
  readonly #inFlight = new FairShare<AbortController>(IN_FLIGHT);
  #closing = new AbortController();

  constructor(options: DnsServerOptions) {
    this.#options = options;
    const { upstreams, upstreamPort } = options;
    this.#forwarder = new DnsForwarder({ upstreams, ...(upstreamPort === undefined ? {} : { port: upstreamPort }) });
  }

  /** Listens on exactly these addresses of ours. Idempotent. @throws DNS_UNAVAILABLE, with those before it in place */
  async listen(addresses: readonly string[]): Promise<void> {
    for (const [address, listener] of this.#listeners) {
      if (addresses.includes(address)) continue;
      this.#listeners.delete(address);
      closeListener(listener);
    }
    for (const address of addresses) {
      if (!this.#listeners.has(address)) this.#listeners.set(address, await this.#open(address));
    }
  }

  /** Where an address listens; undefined when it does not. */
  portOf(address: string): number | undefined {
    return this.#listeners.get(address)?.port;
  }

  /** Ends everything in flight without an answer. `listen` may follow. */
  close(): void {
    this.#closing.abort();
    this.#closing = new AbortController();
    for (const listener of this.#listeners.values()) closeListener(listener);
    this.#listeners.clear();
    for (const question of this.#inFlight.items()) question.abort();
    for (const socket of this.#connections.items()) socket.destroy();
  }

  async #open(address: string): Promise<Listener> {
    const udp = createSocket("udp4");
    const tcp = createServer((socket) => void this.#serve(socket));
    try {
      const port = await bindUdp(udp, address, this.#options.port ?? 53);
      await bindTcp(tcp, address, port);
      const onError = (error: Error) => this.#options.log.warn({ address, error }, "name server socket failed");
      udp.on("error", onError);
      tcp.on("error", onError);
      udp.on("message", (message, { address: source, port: sourcePort }) => {
        // A raw packet may say so, and nothing can be sent there.
        if (sourcePort === 0) return;
        void this.#respond(message, source, "udp").then((reply) => {
          // Closed meanwhile, or the sandbox is gone: nobody waits any more.
          if (reply && this.#listeners.get(address)?.udp === udp) udp.send(reply, sourcePort, source, () => {});
        });
      });
      return { udp, tcp, port };
    } catch (cause) {
      closeListener({ udp, tcp });
      throw new AppError("DNS_UNAVAILABLE", `Cannot answer names on ${address}`, { cause });
    }
  }

  async #serve(socket: Socket): Promise<void> {
    const source = socket.remoteAddress ?? "";
    if (!this.#options.isAllowed(source)) return void socket.destroy();
    const { isAdmitted, evicted } = this.#connections.add(source, socket);
    evicted?.destroy();
    if (!isAdmitted) return void socket.destroy();
    const limit = deadline(CONNECTION_MS, this.#closing.signal);
    const onLimit = () => socket.destroy();
    limit.addEventListener("abort", onLimit, { once: true });
    try {
      const reader = new MessageReader(MAX_QUERY_BYTES);
      for await (const chunk of socket) {
        // One after the other: who asks faster than we answer is not read from meanwhile.
        for (const message of reader.push(chunk as Buffer)) {
          const reply = await this.#respond(message, source, "tcp");
          if (!reply) return;
          socket.write(frame(reply));
        }
      }
    } catch {
      // The asker broke off, took too long, or talks something else.
    } finally {
      limit.removeEventListener("abort", onLimit);
      this.#connections.delete(socket);
      socket.end();
    }
  }

  /** Never rejects. */
  async #respond(message: Buffer, source: string, transport: "udp" | "tcp"): Promise<Buffer | undefined> {
    if (!this.#options.isAllowed(source) || message.length > MAX_QUERY_BYTES) return undefined;
    const query = parseQuery(message);
    if (!query) return undefined;
    const question = new AbortController();
    const { isAdmitted, evicted } = this.#inFlight.add(source, question);
    evicted?.abort();
    if (!isAdmitted) return undefined;
    const { signal } = question;
    try {
      const answer = await this.#options.answer({ name: query.name, source }, signal);
      const reply =
        answer.kind === "forward"
          ? await this.#forwarder.forward(message, transport, signal)
          : encodeAnswer(query, answer);
      return signal.aborted ? undefined : (reply ?? encodeAnswer(query, { kind: "failed" }));
    } catch (error) {
      if (signal.aborted) return undefined;
      this.#options.log.warn({ error }, "name question failed");
      return encodeAnswer(query, { kind: "failed" });
    } finally {
      this.#inFlight.delete(question);
    }
  }
}

function bindUdp(socket: UdpSocket, address: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off("error", reject);
      resolve(socket.address().port);
    });
  });
}

function bindTcp(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function closeListener({ udp, tcp }: Pick<Listener, "udp" | "tcp">): void {
  udp.close();
  tcp.close();
}
