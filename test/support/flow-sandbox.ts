/**
 * Runs in a sandbox, driven over IPC: a server on TCP and UDP port 80 that says its name and echoes, and a client that keeps flows,
 * with ports of its choice, and looks at every byte that comes back.
 */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { connect, createServer, type Socket } from "node:net";

export interface Target {
  readonly host: string;
  /** Of the client: the same one again is the same flow to the kernel. */
  readonly localPort?: number;
}

const PORT = 80;
const ANSWER_MS = 3000;
/** The server ends the connection. */
const GOODBYE = "goodbye";
/** The server takes datagrams that begin so, and does not answer them. */
const SILENT = "silent";

const [name = ""] = process.argv.slice(2);
const connections = new Map<number, Socket>();
const sockets = new Map<number, UdpSocket>();
/** Datagrams that came, as server and as client. */
const received: string[] = [];

const operations = {
  /** Opens a connection that stays: the server's name, or an error's code. */
  open: (id: number, { host, localPort }: Target): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({ host, port: PORT, ...(localPort === undefined ? {} : { localPort }), noDelay: true });
      connections.set(id, socket);
      socket.once("data", (data) => resolve(String(data)));
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    }),

  /** Bytes of chance there and back: "same", or what went wrong. */
  transfer: (id: number, length: number): Promise<string> => transfer(connections.get(id)!, randomBytes(length)),

  /** One small message after the other, each answered before the next: "same", or what went wrong. */
  async roundTrips(id: number, count: number): Promise<string> {
    for (let number = 0; number < count; number++) {
      const outcome = await transfer(connections.get(id)!, Buffer.from(`${number} `));
      if (outcome !== "same") return `${outcome} (after ${number})`;
    }
    return "same";
  },

  /** A reset of the client's, or the server's orderly end, after which the client's port is free. */
  end: (id: number, how: "reset" | "close"): Promise<void> =>
    new Promise((resolve) => {
      const socket = connections.get(id)!;
      connections.delete(id);
      socket.once("close", () => resolve());
      if (how === "reset") socket.resetAndDestroy();
      else socket.write(GOODBYE);
    }),

  /** A socket that talks to one address only: others' datagrams are not taken. */
  openUdp: (id: number, { host, localPort = 0 }: Target): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = createSocket({ type: "udp4", recvBufferSize: 4 << 20 });
      sockets.set(id, socket);
      socket.on("message", (data) => received.push(String(data))).on("error", reject);
      socket.bind(localPort, () => socket.connect(PORT, host, resolve));
    }),

  closeUdp: (id: number): Promise<void> => new Promise((resolve) => sockets.get(id)!.close(resolve)),

  udpPort: (id: number): number => sockets.get(id)!.address().port,

  /** One datagram of each length, each answered before the next: who answered, once each, or "none" or "different". */
  async datagrams(id: number, lengths: readonly number[]): Promise<string[]> {
    const answers = new Set<string>();
    for (const length of lengths) answers.add(await exchange(sockets.get(id)!, randomBytes(length)));
    return [...answers];
  },

  /** Datagrams that nobody answers. */
  async sendSilently(id: number, count: number): Promise<void> {
    for (let sent = 0; sent < count; sent++) {
      await new Promise((resolve) => sockets.get(id)!.send(SILENT, resolve));
    }
  },

  /** Datagrams with this text that have come to this program. */
  countReceived: (text: string): number => received.filter((one) => one.includes(text)).length,

  /** Datagrams of so many flows, so many of each, as fast as they go: one flow a port of the target. */
  async floodFlows(host: string, flows: number, each: number): Promise<void> {
    const socket = createSocket("udp4");
    for (let number = 0; number < flows; number++) {
      const port = 1000 + number;
      for (let sent = 1; sent < each; sent++) socket.send(SILENT, port, host, () => {});
      await new Promise((resolve) => socket.send(SILENT, port, host, resolve));
    }
    await new Promise<void>((resolve) => socket.close(resolve));
  },
};

export type FlowSandboxOperations = typeof operations;

function transfer(socket: Socket, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let at = 0;
    const done = (outcome: string) => {
      clearTimeout(timer);
      socket.off("data", compare).off("error", onError).off("close", onClose);
      resolve(outcome);
    };
    const onError = (error: NodeJS.ErrnoException) => done(String(error.code));
    const onClose = () => done("closed");
    const compare = (chunk: Buffer) => {
      if (!chunk.equals(bytes.subarray(at, at + chunk.length))) return done(`different at ${at}`);
      at += chunk.length;
      if (at === bytes.length) done("same");
    };
    const timer = setTimeout(() => done(`${at} of ${bytes.length} bytes`), ANSWER_MS);
    // It may have been reset before: by the answer to a late acknowledgement.
    if (socket.destroyed) return done((socket.errored as NodeJS.ErrnoException | null)?.code ?? "closed");
    socket.on("data", compare).on("error", onError).on("close", onClose);
    socket.write(bytes);
  });
}

/** The answer is the server's name, a colon, and the same bytes. */
function exchange(socket: UdpSocket, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    const done = (outcome: string) => {
      clearTimeout(timer);
      socket.off("message", onMessage);
      resolve(outcome);
    };
    const onMessage = (data: Buffer) => {
      const end = data.indexOf(":");
      done(data.subarray(end + 1).equals(bytes) ? data.toString("utf8", 0, end) : "different");
    };
    const timer = setTimeout(() => done("none"), ANSWER_MS / 3);
    socket.on("message", onMessage).send(bytes);
  });
}

const server = createServer({ noDelay: true }, (socket) => {
  socket.write(name);
  socket.on("error", () => {});
  socket.on("data", (chunk) => (String(chunk) === GOODBYE ? socket.end() : socket.write(chunk)));
});
const udp = createSocket({ type: "udp4", recvBufferSize: 4 << 20 });
udp.on("message", (data, from) => {
  received.push(data.toString("latin1", 0, 20));
  if (data.toString("latin1", 0, SILENT.length) === SILENT) return;
  udp.send([`${name}:`, data], from.port, from.address);
});
process.on("disconnect", () => process.exit());
process.on(
  "message",
  async ({ id, method, args }: { id: number; method: keyof FlowSandboxOperations; args: never[] }) => {
    try {
      const call = operations[method] as (...args: never[]) => unknown;
      process.send?.({ id, result: await call(...args) });
    } catch (error) {
      process.send?.({ id, error: String(error) });
    }
  },
);
server.listen(PORT, "0.0.0.0", () => udp.bind(PORT, "0.0.0.0", () => process.send?.({ ready: true })));
