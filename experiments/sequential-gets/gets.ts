/**
 * An HTTP server and client of blocking system calls. `serve <port>`, or `get <address[:port],…> <count> new|kept`, which prints how
 * long each GET took, in microseconds: from before the connection is made, with the servers in turn, or from the request on a
 * connection to the first one that is kept.
 */
import {
  accept,
  close,
  dial,
  listenOn,
  pin,
  receive,
  resetAtClose,
  send,
} from "../../test/support/blocking-sockets.ts";

/** As large as the first page of nginx. */
const PAGE = "<!DOCTYPE html>\n".padEnd(615, "x");
const answer = (connection: string) =>
  Buffer.from(
    `HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ${PAGE.length}\r\nConnection: ${connection}\r\n\r\n${PAGE}`,
  );
const CLOSING = answer("close");
const KEPT = answer("keep-alive");
/** Before those that count: the kernel's caches, and the compiler of this program. */
const WARM_UP = 90;
const buffer = Buffer.alloc(4096);

function serve(port: number): never {
  const descriptor = listenOn(port);
  console.log("ready");
  for (;;) {
    const client = accept(descriptor);
    // A request is small enough to come in one piece.
    for (let length = receive(client, buffer); length > 0; length = receive(client, buffer)) {
      const isKept = buffer.subarray(0, length).includes("keep-alive");
      send(client, isKept ? KEPT : CLOSING);
      if (!isKept) break;
    }
    close(client);
  }
}

interface Server {
  readonly host: string;
  readonly port: number;
}

function get(descriptor: number, connection: "close" | "keep-alive"): void {
  send(descriptor, Buffer.from(`GET / HTTP/1.1\r\nHost: bench\r\nConnection: ${connection}\r\n\r\n`));
  const wanted = (connection === "close" ? CLOSING : KEPT).length;
  for (let received = 0; received < wanted; ) {
    const length = receive(descriptor, buffer);
    if (length <= 0) throw new Error("A server ended the connection");
    received += length;
  }
}

function getOnNew({ host, port }: Server): void {
  const descriptor = dial(host, port);
  get(descriptor, "close");
  resetAtClose(descriptor);
  close(descriptor);
}

function measure(servers: readonly Server[], count: number, isKept: boolean): number[] {
  const kept = isKept ? dial(servers[0]!.host, servers[0]!.port) : undefined;
  return Array.from({ length: WARM_UP + count }, (_, number) => {
    const startedAt = performance.now();
    if (kept === undefined) getOnNew(servers[number % servers.length]!);
    else get(kept, "keep-alive");
    return Math.round((performance.now() - startedAt) * 10_000) / 10;
  }).slice(WARM_UP);
}

function parseServer(text: string): Server {
  const [host = "", port] = text.split(":");
  return { host, port: Number(port ?? 80) };
}

const [what, where = "", count = "100", connection = "new"] = process.argv.slice(2);
pin();
if (what === "serve") serve(Number(where));
console.log(JSON.stringify(measure(where.split(",").map(parseServer), Number(count), connection === "kept")));
process.exit();
