/** Entries of the kernel's connection table, as messages of ctnetlink say them: pure. */
import { attribute, attributes, NESTED } from "./netlink.ts";

export interface Tuple {
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

export interface Connection {
  readonly protocol: number;
  /** As the first packet was. */
  readonly original: Tuple;
  /** As answers arrive: with the addresses that the connection was translated to. */
  readonly reply: Tuple;
  readonly mark: number;
  /** Both sides have spoken, and nobody has begun to end it. */
  readonly isEstablished: boolean;
}

export const TCP = 6;
export const UDP = 17;

const AF_INET = 2;
/** Subsystem ctnetlink. */
const CTNETLINK = 1 << 8;
const NEW = CTNETLINK | 0;
const GET = CTNETLINK | 1;
const REQUEST = 1;
const ACK = 4;
const CTA = { original: 1, reply: 2, status: 3, protocolInfo: 4, mark: 8 } as const;
const TUPLE = { addresses: 1, protocol: 2 } as const;
const ADDRESS = { source: 1, destination: 2 } as const;
const PROTOCOL = { number: 1, sourcePort: 2, destinationPort: 3 } as const;
const TCP_INFO = 1;
const TCP_STATE = 1;
const TCP_FLAGS = { original: 4, reply: 5 } as const;
const STATE_ESTABLISHED = 3;
/** Sequence numbers outside the window that was seen are no reason to call a packet invalid. */
const BE_LIBERAL = 0x08;
const STATUS = {
  seenReply: 1 << 1,
  confirmed: 1 << 3,
  sequenceAdjust: 1 << 6,
  dying: 1 << 9,
  helper: 1 << 13,
} as const;

/** Asks for the connection that a packet with these addresses belongs to, in either direction. */
export function connectionRequest(protocol: number, tuple: Tuple): Buffer {
  return message(GET, REQUEST, tupleAttribute(CTA.original, protocol, tuple));
}

/** Lets the connection go on although the kernel has not seen all of it. */
export function liberalRequest({ protocol, original }: Connection): Buffer {
  const flags = Buffer.from([BE_LIBERAL, BE_LIBERAL]);
  const both = [attribute(TCP_FLAGS.original, flags), attribute(TCP_FLAGS.reply, flags)];
  const info = attribute(NESTED | CTA.protocolInfo, attribute(NESTED | TCP_INFO, Buffer.concat(both)));
  return message(NEW, REQUEST | ACK, Buffer.concat([tupleAttribute(CTA.original, protocol, original), info]));
}

/** Undefined for an answer that is not a connection of IPv4 with ports, such as "there is none". */
export function parseConnection(answer: Buffer): Connection | undefined {
  if (answer.length < 20 || answer.readUInt16LE(4) !== NEW || answer[16] !== AF_INET) return undefined;
  const found = attributes(answer.subarray(20, answer.readUInt32LE(0)));
  const original = parseTuple(found.get(CTA.original));
  const reply = parseTuple(found.get(CTA.reply));
  if (!original || !reply) return undefined;
  const status = wordOf(found.get(CTA.status)) ?? 0;
  const { protocol } = original;
  const tcp = attributes(attributes(found.get(CTA.protocolInfo)).get(TCP_INFO)).get(TCP_STATE)?.[0];
  const isAlive = (status & STATUS.confirmed) !== 0 && (status & STATUS.dying) === 0;
  // What a helper reads must pass it.
  const isPlain = (status & (STATUS.helper | STATUS.sequenceAdjust)) === 0;
  const hasAnswered = (status & STATUS.seenReply) !== 0;
  const isOpen = hasAnswered && (protocol === UDP || (protocol === TCP && tcp === STATE_ESTABLISHED));
  return {
    protocol,
    original: original.tuple,
    reply: reply.tuple,
    mark: wordOf(found.get(CTA.mark)) ?? 0,
    isEstablished: isAlive && isPlain && isOpen,
  };
}

function parseTuple(content: Buffer | undefined): { readonly protocol: number; readonly tuple: Tuple } | undefined {
  const parts = attributes(content);
  const addresses = attributes(parts.get(TUPLE.addresses));
  const ports = attributes(parts.get(TUPLE.protocol));
  const [source, destination] = [wordOf(addresses.get(ADDRESS.source)), wordOf(addresses.get(ADDRESS.destination))];
  const [sourcePort, destinationPort] = [
    portOf(ports.get(PROTOCOL.sourcePort)),
    portOf(ports.get(PROTOCOL.destinationPort)),
  ];
  const protocol = ports.get(PROTOCOL.number)?.[0];
  if (protocol === undefined || source === undefined || destination === undefined) return undefined;
  if (sourcePort === undefined || destinationPort === undefined) return undefined;
  return { protocol, tuple: { source, destination, sourcePort, destinationPort } };
}

function wordOf(content: Buffer | undefined): number | undefined {
  return content && content.length >= 4 ? content.readUInt32BE() : undefined;
}

function portOf(content: Buffer | undefined): number | undefined {
  return content && content.length >= 2 ? content.readUInt16BE() : undefined;
}

function tupleAttribute(type: number, protocol: number, tuple: Tuple): Buffer {
  const address = (kind: number, value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return attribute(kind, bytes);
  };
  const port = (kind: number, value: number) => {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16BE(value);
    return attribute(kind, bytes);
  };
  const addresses = [address(ADDRESS.source, tuple.source), address(ADDRESS.destination, tuple.destination)];
  const ports = [
    attribute(PROTOCOL.number, Buffer.from([protocol])),
    port(PROTOCOL.sourcePort, tuple.sourcePort),
    port(PROTOCOL.destinationPort, tuple.destinationPort),
  ];
  return attribute(
    NESTED | type,
    Buffer.concat([
      attribute(NESTED | TUPLE.addresses, Buffer.concat(addresses)),
      attribute(NESTED | TUPLE.protocol, Buffer.concat(ports)),
    ]),
  );
}

function message(type: number, flags: number, content: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt32LE(header.length + content.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(flags, 6);
  header[16] = AF_INET;
  return Buffer.concat([header, content]);
}
