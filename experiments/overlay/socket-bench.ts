/**
 * Sockets without an event loop: system calls through koffi, one after the other, so that what is measured is the path and not Node.
 * `serve`, or `rtt|connect|stream <address> <seconds>`, which prints microseconds a round trip or a connection, or Gbit/s.
 */
import koffi from "koffi";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int socket, const void *address, uint32_t length)");
const listen = libc.func("int listen(int socket, int backlog)");
const accept = libc.func("int accept(int socket, void *address, void *length)");
const connect = libc.func("int connect(int socket, const void *address, uint32_t length)");
const send = libc.func("long send(int socket, const void *bytes, size_t length, int flags)");
const recv = libc.func("long recv(int socket, void *bytes, size_t length, int flags)");
const setsockopt = libc.func("int setsockopt(int socket, int level, int name, const void *value, uint32_t length)");
const setAffinity = libc.func("int sched_setaffinity(int process, size_t length, const void *processors)");
const close = libc.func("int close(int descriptor)");

const PORT = 5201;
const SMALL = 64;
const LARGE = 128 * 1024;
const MSG_WAITALL = 0x100;
const linger = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
const one = Buffer.from([1, 0, 0, 0]);
/** First byte of what a client sends: tells the server what it is in for. */
const PING = 1;
const STREAM = 2;
const HELLO = 3;
/** A stream on one processor, both ends. */
const PINNED = 4;
const ping = Buffer.alloc(SMALL, PING);
const hello = Buffer.alloc(SMALL, HELLO);

/** Round trips on one processor: otherwise most of what is measured is where the kernel happened to put the two ends. */
function pin(toOne: boolean): void {
  const processors = Buffer.alloc(128, toOne ? 0 : 255);
  if (toOne) processors[0] = 2;
  setAffinity(0, processors.length, processors);
}

function addressOf(text: string): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(2, 0);
  address.writeUInt16BE(PORT, 2);
  for (const [index, byte] of text.split(".").entries()) address[4 + index] = Number(byte);
  return address;
}

function open(): number {
  const descriptor: number = socket(2, 1, 0);
  setsockopt(descriptor, 6, 1, one, 4);
  return descriptor;
}

function dial(host: string): number {
  const descriptor = open();
  if (connect(descriptor, addressOf(host), 16) !== 0) throw new Error(`Cannot connect to ${host}`);
  return descriptor;
}

/** One client at a time: echoes small messages, and swallows what begins with another byte. */
function serve(): never {
  const descriptor = open();
  setsockopt(descriptor, 1, 2, one, 4);
  if (bind(descriptor, addressOf("0.0.0.0"), 16) !== 0 || listen(descriptor, 128) !== 0)
    throw new Error("Cannot listen");
  console.log("ready");
  const buffer = Buffer.alloc(LARGE);
  for (;;) {
    const client: number = accept(descriptor, null, null);
    setsockopt(client, 6, 1, one, 4);
    const length: number = recv(client, buffer, LARGE, 0);
    const kind = buffer[0];
    pin(kind === PING || kind === PINNED);
    const echoes = kind === PING || kind === HELLO;
    if (length > 0 && echoes) send(client, buffer, SMALL, 0);
    while (recv(client, buffer, LARGE, 0) > 0) if (echoes) send(client, buffer, SMALL, 0);
    close(client);
  }
}

function roundTrips(host: string, ms: number): number {
  const descriptor = dial(host);
  const answer = Buffer.alloc(SMALL);
  const samples: number[] = [];
  const end = performance.now() + ms;
  for (let now = performance.now(); now < end; ) {
    for (let count = 0; count < 100; count++) {
      send(descriptor, ping, SMALL, 0);
      recv(descriptor, answer, SMALL, MSG_WAITALL);
    }
    const then = performance.now();
    samples.push(((then - now) * 1000) / 100);
    now = then;
  }
  // The tenth percentile: what others on the machine did not disturb.
  return samples.sort((left, right) => left - right)[Math.floor(samples.length / 10)]!;
}

function connections(host: string, ms: number): number {
  const answer = Buffer.alloc(SMALL);
  const samples: number[] = [];
  const end = performance.now() + ms;
  for (let now = performance.now(); now < end; ) {
    const descriptor = dial(host);
    // Reset at the end: otherwise the client's ports are soon used up, and finding one is what takes the time.
    setsockopt(descriptor, 1, 13, linger, 8);
    send(descriptor, hello, SMALL, 0);
    recv(descriptor, answer, SMALL, MSG_WAITALL);
    close(descriptor);
    const then = performance.now();
    samples.push((then - now) * 1000);
    now = then;
  }
  return samples.sort((left, right) => left - right)[Math.floor(samples.length / 10)]!;
}

function stream(host: string, ms: number, kind = STREAM): number {
  const large = Buffer.alloc(LARGE, kind);
  const descriptor = dial(host);
  const startedAt = performance.now();
  let bytes = 0;
  while (performance.now() - startedAt < ms) bytes += Number(send(descriptor, large, LARGE, 0));
  const seconds = (performance.now() - startedAt) / 1000;
  close(descriptor);
  return (bytes * 8) / seconds / 1e9;
}

const [what = "serve", host = "", ms = "300"] = process.argv.slice(2);
if (what === "serve") serve();
pin(what === "rtt" || what === "stream1");
const measure = {
  rtt: roundTrips,
  connect: connections,
  stream,
  stream1: (to: string, time: number) => stream(to, time, PINNED),
}[what];
console.log(measure!(host, Number(ms)));
process.exit();
