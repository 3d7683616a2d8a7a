/**
 * Runs in a sandbox, driven over IPC: a server on TCP and UDP port 80 that says its name and the client's address and then echoes,
 * and a client of others.
 */
import { createSocket } from "node:dgram";
import { connect, createServer, type Socket } from "node:net";

export interface Ask {
  readonly host: string;
  readonly port?: number;
  readonly udp?: boolean;
  readonly source?: string;
  readonly timeoutMs?: number;
  /** Of the datagram that is sent. */
  readonly length?: number;
}

export interface Load {
  readonly answers: Record<string, number>;
  readonly failures: readonly string[];
}

const [name = ""] = process.argv.slice(2);
const flows = new Map<number, Socket>();
let load: { stopped: boolean; result: Promise<Load> } | undefined;

const operations = {
  /** First line of the answer, an error's code, or "none". */
  ask: ({ host, port = 80, udp = false, source, timeoutMs = 700, length = 1 }: Ask): Promise<string> =>
    udp ? askUdp({ host, port, source, timeoutMs, length }) : askTcp({ host, port, source, timeoutMs }),

  /** Connections one after the other: how many each server answered. */
  async askMany(host: string, count: number): Promise<Load> {
    return await repeat(host, () => count-- > 0);
  },

  /** Connections one after the other until `endLoad`. */
  startLoad(host: string): void {
    const current = { stopped: false, result: Promise.resolve<Load>({ answers: {}, failures: [] }) };
    load = current;
    current.result = repeat(host, () => !current.stopped);
  },

  async endLoad(): Promise<Load> {
    load!.stopped = true;
    return await load!.result;
  },

  /** Opens a connection that stays; its first line. */
  open: (id: number, host: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port: 80 });
      flows.set(id, socket);
      socket.once("data", (data) => resolve(String(data).trim())).once("error", reject);
    }),

  /** What comes back on it, or an error's code, or "none" after two seconds. */
  say: (id: number, text: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = flows.get(id)!;
      const timer = setTimeout(() => resolve("none"), 2000);
      const done = (answer: string) => {
        clearTimeout(timer);
        resolve(answer);
      };
      socket
        .once("data", (data) => done(String(data)))
        .once("error", (error: NodeJS.ErrnoException) => done(`${error.code}`));
      socket.write(text);
    }),

  /** Sends so many bytes on it: how many come back within two seconds. */
  echo: (id: number, length: number): Promise<number> =>
    new Promise((resolve) => {
      const socket = flows.get(id)!;
      let received = 0;
      const done = () => {
        clearTimeout(timer);
        socket.off("data", count);
        resolve(received);
      };
      const count = (chunk: Buffer) => {
        received += chunk.length;
        if (received >= length) done();
      };
      const timer = setTimeout(done, 2000);
      socket.on("data", count).write(Buffer.alloc(length, "x"));
    }),

  /** Datagrams to one address at once: how many are answered. */
  burst: (host: string, count: number): Promise<number> =>
    new Promise((resolve) => {
      const socket = createSocket({ type: "udp4", recvBufferSize: 4 << 20 });
      let answers = 0;
      socket.on("message", () => ++answers === count && socket.close());
      socket.on("close", () => resolve(answers));
      socket.bind(0, () => {
        for (let number = 0; number < count; number++) socket.send("x", 80, host);
      });
      setTimeout(() => answers < count && socket.close(), 2500);
    }),

  /** Datagrams to 2,000 addresses of eight /24 from this one on, as fast as they go. */
  flood: (first: `${number}.${number}.${number}`, count: number): Promise<void> =>
    new Promise((resolve) => {
      const [high, middle, low] = first.split(".");
      const socket = createSocket("udp4");
      let left = count;
      const next = () => {
        for (let batch = 0; batch < 200 && left > 0; batch++) {
          left--;
          socket.send("x", 9, `${high}.${middle}.${Number(low) + (left % 8)}.${1 + ((left >> 3) % 250)}`, () => {});
        }
        if (left > 0) setTimeout(next, 2);
        else setTimeout(() => socket.close(resolve), 50);
      };
      next();
    }),
};

export type SandboxOperations = typeof operations;

function askTcp({
  host,
  port,
  source,
  timeoutMs,
}: Required<Omit<Ask, "udp" | "source" | "length">> & { source?: string | undefined }) {
  return new Promise<string>((resolve) => {
    const socket = connect({ host, port, ...(source === undefined ? {} : { localAddress: source }) });
    const done = (answer: string) => {
      clearTimeout(timer);
      socket.resetAndDestroy();
      resolve(answer);
    };
    const timer = setTimeout(() => done("none"), timeoutMs);
    socket.once("data", (data) => done(String(data).trim()));
    socket.on("error", (error: NodeJS.ErrnoException) => done(`${error.code}`));
  });
}

function askUdp({
  host,
  port,
  source,
  timeoutMs,
  length,
}: Required<Omit<Ask, "udp" | "source">> & { source?: string | undefined }) {
  return new Promise<string>((resolve) => {
    const socket = createSocket("udp4");
    const done = (answer: string) => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => done("none"), timeoutMs);
    socket.once("message", (data) => done(String(data)));
    socket.on("error", (error: NodeJS.ErrnoException) => done(`${error.code}`));
    socket.bind({ port: 0, ...(source === undefined ? {} : { address: source }) }, () => {
      socket.connect(port, host, () => socket.send(Buffer.alloc(length, "?")));
    });
  });
}

async function repeat(host: string, wantsMore: () => boolean): Promise<Load> {
  const answers: Record<string, number> = {};
  const failures: string[] = [];
  while (wantsMore()) {
    const answer = await operations.ask({ host, timeoutMs: 3000 });
    const [server = ""] = answer.split(" ");
    if (answer.includes(" ")) answers[server] = (answers[server] ?? 0) + 1;
    else failures.push(answer);
  }
  return { answers, failures };
}

const hello = (address = "") => `${name} ${address.replace("::ffff:", "")}`;
const server = createServer((socket) => {
  socket.write(`${hello(socket.remoteAddress)}\n`);
  socket.on("data", (chunk) => socket.write(chunk)).on("error", () => {});
});
const udp = createSocket({ type: "udp4", recvBufferSize: 4 << 20 });
udp.on("message", (_, from) => udp.send(hello(from.address), from.port, from.address));
process.on("disconnect", () => process.exit());
process.on("message", async ({ id, method, args }: { id: number; method: keyof SandboxOperations; args: never[] }) => {
  try {
    const call = operations[method] as (...args: never[]) => unknown;
    process.send?.({ id, result: await call(...args) });
  } catch (error) {
    process.send?.({ id, error: String(error) });
  }
});
server.listen(80, "0.0.0.0", () => udp.bind(80, "0.0.0.0", () => process.send?.({ ready: true })));
