/**
 * Both ends of an SCTP association (RFC 9260) over raw sockets, as a program: kernels without SCTP forward and translate it all the
 * same. `serve <name>`, or `associate <host> <text>`, which prints what the server says over the association; "none" after 5 s.
 */
import { close, openRaw, receive, sendRaw } from "./blocking-sockets.ts";

const IPPROTO_SCTP = 132;
const PORT = 3868;
const CLIENT_PORT = 50_000;
const DATA = 0;
const INIT = 1;
const INIT_ACK = 2;
const SACK = 3;
const COOKIE_ECHO = 10;
const COOKIE_ACK = 11;
const STATE_COOKIE = 7;
const WHOLE_MESSAGE = 3;

interface Chunk {
  readonly type: number;
  readonly value: Buffer;
}

interface Received extends Chunk {
  readonly source: string;
  readonly sourcePort: number;
  readonly port: number;
  readonly tag: number;
}

/** Type, length and value, padded to four bytes: of chunks with `flags` and of parameters alike. */
function encodeChunk({ type, value }: Chunk): Buffer {
  const chunk = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  chunk[0] = type;
  chunk[1] = type === DATA ? WHOLE_MESSAGE : 0;
  chunk.writeUInt16BE(4 + value.length, 2);
  value.copy(chunk, 4);
  return chunk;
}

function encode(ports: { from: number; to: number }, tag: number, chunk: Chunk): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(ports.from, 0);
  header.writeUInt16BE(ports.to, 2);
  header.writeUInt32BE(tag, 4);
  const packet = Buffer.concat([header, encodeChunk(chunk)]);
  packet.writeUInt32LE(crc32c(packet), 8);
  return packet;
}

/** The first chunk of a packet; undefined when its checksum is wrong. */
function decode(bytes: Buffer): Received | undefined {
  const packet = Buffer.from(bytes.subarray((bytes[0]! & 15) * 4));
  const checksum = packet.readUInt32LE(8);
  packet.writeUInt32LE(0, 8);
  if (crc32c(packet) !== checksum) return undefined;
  return {
    source: [...bytes.subarray(12, 16)].join("."),
    sourcePort: packet.readUInt16BE(0),
    port: packet.readUInt16BE(2),
    tag: packet.readUInt32BE(4),
    type: packet[12]!,
    value: packet.subarray(16, 12 + packet.readUInt16BE(14)),
  };
}

function crc32c(bytes: Buffer): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f63b78 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** Of INIT and INIT ACK: the tag that the other end has to use, a window, a stream each way, and the first sequence number. */
function introduction(tag: number): Buffer {
  const value = Buffer.alloc(16);
  value.writeUInt32BE(tag, 0);
  value.writeUInt32BE(65_536, 4);
  value.writeUInt16BE(1, 8);
  value.writeUInt16BE(1, 10);
  value.writeUInt32BE(1, 12);
  return value;
}

function data(sequence: number, text: string): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt32BE(sequence, 0);
  return Buffer.concat([head, Buffer.from(text)]);
}

const acknowledgement = Buffer.from([0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
const buffer = Buffer.alloc(2048);

function next(raw: number): Received | undefined | "timeout" {
  const length = receive(raw, buffer);
  return length > 0 ? decode(buffer.subarray(0, length)) : "timeout";
}

function serve(name: string): never {
  const raw = openRaw(IPPROTO_SCTP, 600_000);
  console.log("ready");
  const tags = new Map<string, number>();
  for (;;) {
    const packet = next(raw);
    if (packet === undefined || packet === "timeout" || packet.port !== PORT) continue;
    const client = `${packet.source}:${packet.sourcePort}`;
    const answer = (type: number, value: Buffer) =>
      sendRaw(
        raw,
        packet.source,
        encode({ from: PORT, to: packet.sourcePort }, tags.get(client) ?? 0, { type, value }),
      );
    if (packet.type === INIT) {
      tags.set(client, packet.value.readUInt32BE(0));
      const cookie = encodeChunk({ type: 0, value: Buffer.from("cookie00") });
      cookie[1] = STATE_COOKIE;
      answer(INIT_ACK, Buffer.concat([introduction(0x5e11e5), cookie]));
    }
    if (packet.type === COOKIE_ECHO && packet.tag === 0x5e11e5) answer(COOKIE_ACK, Buffer.alloc(0));
    if (packet.type === DATA && packet.tag === 0x5e11e5) {
      answer(SACK, acknowledgement);
      answer(DATA, data(1, `${name} ${packet.source} ${packet.value.subarray(12)}`));
    }
  }
}

function associate(host: string, text: string): string {
  const raw = openRaw(IPPROTO_SCTP, 5000);
  let tag = 0;
  const say = (type: number, value: Buffer) =>
    sendRaw(raw, host, encode({ from: CLIENT_PORT, to: PORT }, tag, { type, value }));
  const hear = (type: number): Received | undefined => {
    for (;;) {
      const packet = next(raw);
      if (packet === "timeout") return undefined;
      if (packet?.type === type && packet.source === host && packet.tag === 0xc11e47) return packet;
    }
  };
  try {
    say(INIT, introduction(0xc11e47));
    const welcome = hear(INIT_ACK);
    if (!welcome) return "none";
    tag = welcome.value.readUInt32BE(0);
    say(COOKIE_ECHO, welcome.value.subarray(20));
    if (!hear(COOKIE_ACK)) return "none";
    say(DATA, data(1, text));
    const answer = hear(DATA);
    say(SACK, acknowledgement);
    return answer ? answer.value.subarray(12).toString() : "none";
  } finally {
    close(raw);
  }
}

const [what, where = "", text = ""] = process.argv.slice(2);
if (what === "serve") serve(where);
console.log(associate(where, text));
process.exit();
