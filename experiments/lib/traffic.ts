/** What frames carry, as sums by kind: bytes with all headers from Ethernet on, and the messages in MQTT and WebSocket streams. Pure. */

export interface Sum {
  readonly frames: number;
  readonly bytes: number;
}

/** By direction and kind, such as `in MQTT`; messages as `out MQTT report` with the bytes of the message alone. */
export interface Sums {
  readonly frames: Readonly<Record<string, Sum>>;
  readonly messages: Readonly<Record<string, Sum>>;
}

type Direction = "in" | "out";

const TCP = 6;
const UDP = 17;
const STREAMS: Readonly<Record<number, "MQTT" | "uplink" | "join">> = { 10000: "uplink", 10003: "MQTT", 10100: "join" };
const MQTT_TYPES: Readonly<Record<number, string>> = { 4: "acknowledgement", 12: "ping", 13: "pong" };

export class Traffic {
  readonly #ownMac: string;
  readonly #frames = new Map<string, Sum>();
  readonly #messages = new Map<string, Sum>();
  readonly #streams = new Map<string, Stream>();

  constructor(ownMac: string) {
    this.#ownMac = ownMac;
  }

  get sums(): Sums {
    return { frames: Object.fromEntries(this.#frames), messages: Object.fromEntries(this.#messages) };
  }

  take(frame: Buffer): void {
    const source = frame.toString("hex", 6, 12).replace(/..(?!$)/g, "$&:");
    const direction = source === this.#ownMac ? "out" : "in";
    add(this.#frames, `${direction} ${this.#kindOf(frame, direction)}`, frame.length);
  }

  #kindOf(frame: Buffer, direction: Direction): string {
    const etherType = frame.readUInt16BE(12);
    if (etherType === 0x0806) return "ARP";
    if (etherType !== 0x0800) return "IPv6 of the kernel";
    const packet = frame.subarray(14, 14 + frame.readUInt16BE(16));
    const protocol = packet[9];
    const segment = packet.subarray((packet[0]! & 0x0f) * 4);
    if (protocol === UDP) return kindOfDatagram(segment);
    if (protocol !== TCP) return "other";
    const ports = [segment.readUInt16BE(0), segment.readUInt16BE(2)] as const;
    const kind = STREAMS[ports[0]] ?? STREAMS[ports[1]];
    if (kind === undefined) return "other";
    if (kind !== "join")
      this.#stream(packet, ports, kind).take(segment, (name, bytes) => {
        add(this.#messages, `${direction} ${kind} ${name}`, bytes);
      });
    return kind;
  }

  #stream(packet: Buffer, ports: readonly [number, number], kind: "MQTT" | "uplink"): Stream {
    const key = `${packet.toString("hex", 12, 20)} ${ports.join(" ")}`;
    const known = this.#streams.get(key);
    if (known) return known;
    const stream = new Stream(kind === "MQTT" ? mqttPacket : webSocketFrame);
    this.#streams.set(key, stream);
    return stream;
  }
}

const DATAGRAMS: Readonly<Record<number, "tunnel" | "probes" | "coordinates">> = {
  50103: "tunnel",
  50104: "probes",
  50105: "coordinates",
};

/** On its way an address translation may change one of the ports. That of probes also carries introductions: the sixth byte tells. */
function kindOfDatagram(segment: Buffer): string {
  const kind = DATAGRAMS[segment.readUInt16BE(2)] ?? DATAGRAMS[segment.readUInt16BE(0)] ?? "other";
  return kind === "probes" && segment[13]! > 2 ? "introductions" : kind;
}

/** A whole message at the beginning of the bytes, or undefined: there is more to come. */
type Parse = (bytes: Buffer) => { readonly name: string; readonly length: number } | undefined;

/** One direction of a connection. Begun to be watched in its middle, it is taken to be between two messages. */
class Stream {
  readonly #parse: Parse;
  #next: number | undefined;
  #rest = Buffer.alloc(0);

  constructor(parse: Parse) {
    this.#parse = parse;
  }

  take(segment: Buffer, onMessage: (name: string, bytes: number) => void): void {
    const sequence = segment.readUInt32BE(4);
    const isFirst = (segment[13]! & 0x02) !== 0;
    if (isFirst) {
      this.#next = (sequence + 1) >>> 0;
      this.#rest = Buffer.alloc(0);
      return;
    }
    const payload = segment.subarray((segment[12]! >> 4) * 4);
    if (payload.length === 0) return;
    // Sent again: counted as a frame, not as a message.
    if (this.#next !== undefined && ((sequence - this.#next) | 0) < 0) return;
    this.#next = (sequence + payload.length) >>> 0;
    this.#rest = Buffer.concat([this.#rest, payload]);
    for (let found = this.#parse(this.#rest); found; found = this.#parse(this.#rest)) {
      onMessage(found.name, found.length);
      this.#rest = this.#rest.subarray(found.length);
    }
  }
}

const mqttPacket: Parse = (bytes) => {
  let length = 0;
  let at = 1;
  for (; ; at++) {
    if (at >= bytes.length) return undefined;
    length += (bytes[at]! & 0x7f) * 128 ** (at - 1);
    if (bytes[at]! < 0x80) break;
  }
  const total = at + 1 + length;
  if (bytes.length < total) return undefined;
  const type = bytes[0]! >> 4;
  if (type !== 3) return { name: MQTT_TYPES[type] ?? `type ${type}`, length: total };
  const topicAt = at + 3;
  const topic = bytes.toString("utf8", topicAt, topicAt + bytes.readUInt16BE(at + 1));
  return { name: topic.split("/")[2] ?? topic, length: total };
};

const webSocketFrame: Parse = (bytes) => {
  // The handshake.
  if (/^(?:GET|HTTP)/.test(bytes.toString("latin1", 0, 4))) {
    const end = bytes.indexOf("\r\n\r\n");
    return end < 0 ? undefined : { name: "handshake", length: end + 4 };
  }
  if (bytes.length < 2) return undefined;
  const short = bytes[1]! & 0x7f;
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
  const isMasked = bytes[1]! >= 0x80;
  const dataAt = 2 + lengthBytes + (isMasked ? 4 : 0);
  if (bytes.length < dataAt) return undefined;
  const length =
    lengthBytes === 0 ? short : lengthBytes === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  const total = dataAt + length;
  if (bytes.length < total) return undefined;
  const opcode = bytes[0]! & 0x0f;
  if (opcode !== 1) return { name: { 8: "close", 9: "ping", 10: "pong" }[opcode] ?? `opcode ${opcode}`, length: total };
  const data = bytes.subarray(dataAt, total);
  const mask = bytes.subarray(dataAt - 4, dataAt);
  const text = isMasked ? Buffer.from(data.map((byte, index) => byte ^ mask[index % 4]!)) : data;
  return { name: (JSON.parse(text.toString()) as { type: string }).type, length: total };
};

function add(sums: Map<string, Sum>, key: string, bytes: number): void {
  const { frames = 0, bytes: before = 0 } = sums.get(key) ?? {};
  sums.set(key, { frames: frames + 1, bytes: before + bytes });
}
