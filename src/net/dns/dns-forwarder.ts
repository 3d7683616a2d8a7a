/** Asks the host's own resolvers: over UDP, each from a port of its own so that answers are hard to forge, and over TCP what is too large. */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import { deadline } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { isConclusive, isResponseTo, isTruncated, withId } from "./dns-message.ts";
import { frame, MessageReader } from "./dns-stream.ts";

export interface DnsForwarderOptions {
  /** Best first. */
  readonly upstreams: () => Promise<readonly string[]>;
  readonly port?: number;
  /** For each server. */
  readonly timeoutMs?: number;
}

const MAX_SERVERS = 3;
const MAX_ANSWER_BYTES = 65_535;

interface Server {
  readonly address: string;
  readonly port: number;
}

export class DnsForwarder {
  readonly #options: DnsForwarderOptions;

  constructor(options: DnsForwarderOptions) {
    this.#options = options;
  }

  /** @param transport the asker's: over UDP it gets truncated answers as they are, and asks again over TCP. Undefined: no server answers. */
  async forward(query: Buffer, transport: "udp" | "tcp", signal: AbortSignal): Promise<Buffer | undefined> {
    const { upstreams, port = 53, timeoutMs = 2000 } = this.#options;
    let inconclusive: Buffer | undefined;
    for (const address of (await upstreams()).slice(0, MAX_SERVERS)) {
      try {
        const limit = deadline(timeoutMs, signal);
        const server = { address, port };
        const overUdp = await askOverUdp(server, query, limit);
        const answer = isTruncated(overUdp) && transport === "tcp" ? await askOverTcp(server, query, limit) : overUdp;
        if (isConclusive(answer)) return withId(answer, query.readUInt16BE(0));
        inconclusive = withId(answer, query.readUInt16BE(0));
      } catch {
        // Silent, closed or unreachable: the next one.
        if (signal.aborted) return undefined;
      }
    }
    return inconclusive;
  }
}

function askOverUdp({ address, port }: Server, query: Buffer, signal: AbortSignal): Promise<Buffer> {
  const id = randomInt(0x10000);
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  socket.on("error", reject);
  // Connected: the kernel takes answers from that server only, and tells when nobody listens there. Without a callback: one would be
  // called for an unreachable server as well.
  socket.on("connect", () => socket.send(withId(query, id), (error) => error && reject(error)));
  socket.connect(port, address);
  socket.on("message", (message) => {
    if (isResponseTo(id, message)) resolve(message);
  });
  return promise.finally(() => {
    signal.removeEventListener("abort", onAbort);
    socket.close();
  });
}

async function askOverTcp({ address, port }: Server, query: Buffer, signal: AbortSignal): Promise<Buffer> {
  const socket = connect({ host: address, port, signal });
  try {
    const reader = new MessageReader(MAX_ANSWER_BYTES);
    const id = randomInt(0x10000);
    socket.write(frame(withId(query, id)));
    for await (const chunk of socket) {
      const answer = reader.push(chunk as Buffer).find((message) => isResponseTo(id, message));
      if (answer) return answer;
    }
    throw new AppError("DNS_UNREACHABLE", `The name server ${address} broke off its answer`);
  } finally {
    socket.destroy();
  }
}
