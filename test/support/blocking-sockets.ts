/**
 * Sockets without an event loop: system calls through koffi, one after the other. For measuring the path and not Node, and for raw
 * packets, which Node cannot send.
 */
import koffi from "koffi";

const libc = koffi.load("libc.so.6");
const socketCall = libc.func("int socket(int domain, int type, int protocol)");
const bindCall = libc.func("int bind(int socket, const void *address, uint32_t length)");
const listenCall = libc.func("int listen(int socket, int backlog)");
const acceptCall = libc.func("int accept(int socket, void *address, void *length)");
const connectCall = libc.func("int connect(int socket, const void *address, uint32_t length)");
const sendCall = libc.func("long send(int socket, const void *bytes, size_t length, int flags)");
const sendToCall = libc.func(
  "long sendto(int socket, const void *bytes, size_t length, int flags, const void *address, uint32_t addressLength)",
);
const recvCall = libc.func("long recv(int socket, _Out_ void *bytes, size_t length, int flags)");
const setOptionCall = libc.func("int setsockopt(int socket, int level, int name, const void *value, uint32_t length)");
const closeCall = libc.func("int close(int descriptor)");
const setAffinity = libc.func("int sched_setaffinity(int process, size_t length, const void *processors)");

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_LINGER = 13;
const SO_RCVTIMEO = 20;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const MSG_NOSIGNAL = 0x4000;

/** `struct sockaddr_in`. */
function addressOf(host: string, port: number): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  for (const [index, byte] of host.split(".").entries()) address[4 + index] = Number(byte);
  return address;
}

function checked(what: string, result: number): number {
  if (result < 0) throw new Error(`Cannot ${what}: errno ${koffi.errno()}`);
  return result;
}

function setOption(descriptor: number, level: number, name: number, ...words: number[]): void {
  const value = Buffer.alloc(4 * words.length);
  for (const [index, word] of words.entries()) value.writeInt32LE(word, 4 * index);
  checked("set a socket's option", setOptionCall(descriptor, level, name, value, value.length));
}

/** @throws Error with the errno, ECONNREFUSED and the like */
export function dial(host: string, port: number): number {
  const descriptor = checked("make a socket", socketCall(AF_INET, SOCK_STREAM, 0));
  setOption(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  checked(`connect to ${host}:${port}`, connectCall(descriptor, addressOf(host, port), 16));
  return descriptor;
}

export function listenOn(port: number): number {
  const descriptor = checked("make a socket", socketCall(AF_INET, SOCK_STREAM, 0));
  setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
  checked(`bind port ${port}`, bindCall(descriptor, addressOf("0.0.0.0", port), 16));
  checked("listen", listenCall(descriptor, 128));
  return descriptor;
}

export function accept(descriptor: number): number {
  const client = checked("accept a connection", acceptCall(descriptor, null, null));
  setOption(client, IPPROTO_TCP, TCP_NODELAY, 1);
  return client;
}

export function send(descriptor: number, bytes: Buffer): void {
  checked("send", Number(sendCall(descriptor, bytes, bytes.length, MSG_NOSIGNAL)));
}

/** Number of bytes; 0: the other end has closed it, less than 0: an error, or nothing came in time. */
export function receive(descriptor: number, into: Buffer): number {
  return Number(recvCall(descriptor, into, into.length, 0));
}

export function close(descriptor: number): void {
  closeCall(descriptor);
}

/** Makes `close` a reset: a closed connection would keep the client's port, and finding a free one is soon what takes the time. */
export function resetAtClose(descriptor: number): void {
  setOption(descriptor, SOL_SOCKET, SO_LINGER, 1, 0);
}

/** Takes and gives whatever comes with the IP protocol; what is received begins with the IP header, what is sent does not. */
export function openRaw(protocol: number, receiveTimeoutMs: number): number {
  const descriptor = checked("make a raw socket", socketCall(AF_INET, SOCK_RAW, protocol));
  const value = Buffer.alloc(16);
  value.writeBigInt64LE(BigInt(Math.floor(receiveTimeoutMs / 1000)), 0);
  value.writeBigInt64LE(BigInt(receiveTimeoutMs % 1000) * 1000n, 8);
  checked("set a time limit", setOptionCall(descriptor, SOL_SOCKET, SO_RCVTIMEO, value, 16));
  return descriptor;
}

export function sendRaw(descriptor: number, host: string, bytes: Buffer): void {
  checked(`send to ${host}`, Number(sendToCall(descriptor, bytes, bytes.length, 0, addressOf(host, 0), 16)));
}

/** Runs this process on the second processor only: with both ends there, less depends on where the kernel puts them. */
export function pin(): void {
  const processors = Buffer.alloc(128);
  processors[0] = 2;
  setAffinity(0, processors.length, processors);
}
