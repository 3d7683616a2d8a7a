/** DNS messages (RFC 1035, RFC 6891) as far as a small server needs them. Pure. */
import * as dns from "dns-packet";

export interface DnsQuery {
  /** As asked, letter case kept, without the final dot. */
  readonly name: string;
  /** `A`, `AAAA`, `PTR` … */
  readonly type: string;
  readonly packet: dns.DecodedPacket;
  readonly bytes: Buffer;
}

export type DnsAnswer =
  /** An A record; of any other type the name has nothing. */
  | { readonly kind: "address"; readonly address: string }
  /** A PTR record. */
  | { readonly kind: "pointer"; readonly name: string }
  /** There is no such name. */
  | { readonly kind: "none" }
  /** Whether there is one cannot be told at the moment. */
  | { readonly kind: "failed" };

/** Addresses of services last; short, so that a name that moves is soon found again. */
const TTL_SECONDS = 5;
const SERVFAIL = 2;
const NXDOMAIN = 3;
const OPCODE = 0x7800;
const RESPONSE_CODE = 0x0f;
const HEADER_BYTES = 12;
/** As recommended for EDNS: never fragmented. */
const UDP_PAYLOAD_BYTES = 1232;

/** An ordinary question, one of class IN; undefined for everything else, which deserves no answer. */
export function parseQuery(bytes: Buffer): DnsQuery | undefined {
  if (bytes.length < HEADER_BYTES || (bytes.readUInt16BE(2) & OPCODE) !== 0) return undefined;
  try {
    const packet = dns.decode(bytes);
    const [question, ...others] = packet.questions ?? [];
    if (packet.flag_qr || !question || others.length > 0 || question.class !== "IN") return undefined;
    return { name: question.name, type: question.type, packet, bytes };
  } catch {
    return undefined;
  }
}

export function encodeAnswer({ name, type, packet }: DnsQuery, answer: DnsAnswer): Buffer {
  const code = answer.kind === "none" ? NXDOMAIN : answer.kind === "failed" ? SERVFAIL : 0;
  const isEdns = packet.additionals?.some((record) => record.type === "OPT") ?? false;
  return dns.encode({
    type: "response",
    id: packet.id,
    flags: dns.AUTHORITATIVE_ANSWER | dns.RECURSION_AVAILABLE | (packet.flag_rd ? dns.RECURSION_DESIRED : 0) | code,
    questions: packet.questions,
    answers: records(name, type, answer),
    additionals: isEdns ? [edns()] : [],
  });
}

function records(name: string, type: string, answer: DnsAnswer): dns.Answer[] {
  const isAsked = (own: string) => type === own || type === "ANY";
  if (answer.kind === "address" && isAsked("A")) return [{ type: "A", name, ttl: TTL_SECONDS, data: answer.address }];
  if (answer.kind === "pointer" && isAsked("PTR")) return [{ type: "PTR", name, ttl: TTL_SECONDS, data: answer.name }];
  return [];
}

function edns(): dns.Answer {
  return {
    ...{ type: "OPT", name: ".", udpPayloadSize: UDP_PAYLOAD_BYTES, extendedRcode: 0 },
    ...{ ednsVersion: 0, flags: 0, flag_do: false, options: [] },
  };
}

/** The same message with another id. */
export function withId(bytes: Buffer, id: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt16BE(id, 0);
  return copy;
}

export function isResponseTo(id: number, bytes: Buffer): boolean {
  return bytes.length >= HEADER_BYTES && bytes.readUInt16BE(0) === id && (bytes.readUInt16BE(2) & 0x8000) !== 0;
}

export function isTruncated(bytes: Buffer): boolean {
  return (bytes.readUInt16BE(2) & dns.TRUNCATED_RESPONSE) !== 0;
}

/** An answer that tells: the name, or that there is none. Anything else is a server's trouble, and another may do better. */
export function isConclusive(bytes: Buffer): boolean {
  const code = bytes.readUInt16BE(2) & RESPONSE_CODE;
  return code === 0 || code === NXDOMAIN;
}

/** The name servers of a resolv.conf. */
export function nameServers(resolvConf: string): string[] {
  return [...resolvConf.matchAll(/^[ \t]*nameserver[ \t]+(\S+)/gm)].map(([, address]) => address!);
}
