import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAddress } from "../addressing/subnet.ts";
import { type Connection, connectionRequest, liberalRequest, parseConnection, TCP, UDP } from "./connection.ts";

const address = (text: string) => parseAddress(text)!;
const original = {
  source: address("10.18.0.2"),
  destination: address("10.30.5.2"),
  sourcePort: 37566,
  destinationPort: 5201,
};
const connection: Connection = {
  protocol: TCP,
  original,
  reply: {
    source: address("10.18.0.66"),
    destination: address("10.30.1.11"),
    sourcePort: 5201,
    destinationPort: 37566,
  },
  mark: 0x0a1e0001,
  isEstablished: true,
};

test("parseConnection() reads what the kernel says of a translated TCP connection", () => {
  assert.deepEqual(parseConnection(message()), connection);
});

test("parseConnection() takes for established only what both sides have opened and nobody ends, reads or renumbers", () => {
  const states = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  assert.deepEqual(
    states.filter((state) => parseConnection(message({ state }))?.isEstablished),
    [3],
  );
  const isEstablished = (parts: Parts) => parseConnection(message(parts))?.isEstablished;
  assert.equal(isEstablished({ status: CONFIRMED }), false, "no answer yet");
  assert.equal(isEstablished({ status: SEEN_REPLY }), false, "not in the table yet");
  assert.equal(isEstablished({ status: SEEN_REPLY | CONFIRMED | (1 << 9) }), false, "dying");
  assert.equal(isEstablished({ status: SEEN_REPLY | CONFIRMED | (1 << 6) }), false, "sequence numbers are changed");
  assert.equal(isEstablished({ status: SEEN_REPLY | CONFIRMED | (1 << 13) }), false, "a helper reads it");
  assert.equal(isEstablished({ protocol: UDP, status: SEEN_REPLY | CONFIRMED }), true, "UDP");
  assert.equal(isEstablished({ protocol: UDP, status: CONFIRMED }), false, "nobody has answered");
  assert.equal(isEstablished({ protocol: 132 }), false, "SCTP");
});

test("parseConnection() is undefined for other messages: an error, IPv6, a protocol without ports", () => {
  const error = Buffer.alloc(36);
  error.writeUInt32LE(36, 0);
  error.writeUInt16LE(2, 4);
  error.writeInt32LE(-2, 16);
  assert.equal(parseConnection(error), undefined);
  const six = message();
  six[16] = 10;
  assert.equal(parseConnection(six), undefined);
  assert.equal(parseConnection(message({ ports: false })), undefined);
});

test("parseConnection() never throws, whatever is cut off or wrong", () => {
  const whole = message();
  for (let length = 0; length < whole.length; length++) parseConnection(whole.subarray(0, length));
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, value, length) => {
      const broken = Buffer.from(whole);
      broken[at] = value;
      parseConnection(broken.subarray(0, length));
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      parseConnection(Buffer.concat([whole.subarray(0, 20), bytes]));
    }),
  );
});

test("connectionRequest() asks for one connection by its addresses and ports", () => {
  assert.equal(
    connectionRequest(UDP, original).toString("hex"),
    [
      ["48000000", "0101", "0100", "00000000", "00000000", "02", "00", "0000"],
      ["3400", "0180"],
      ["1400", "0180", "0800", "0100", "0a120002", "0800", "0200", "0a1e0502"],
      ["1c00", "0280", "0500", "0100", "11000000", "0600", "0200", "92be0000", "0600", "0300", "14510000"],
    ]
      .flat()
      .join(""),
  );
});

test("liberalRequest() changes nothing but how strictly both directions are judged, and wants an answer", () => {
  const request = liberalRequest(connection);
  assert.equal(request.readUInt32LE(0), request.length);
  assert.equal(request.readUInt16LE(4), 0x0100, "a change, since it does not say that it may create");
  assert.equal(request.readUInt16LE(6), 5);
  const tuple = connectionRequest(TCP, original).subarray(20);
  assert.deepEqual(request.subarray(20, 20 + tuple.length), tuple);
  assert.equal(
    request.subarray(20 + tuple.length).toString("hex"),
    ["1800", "0480", "1400", "0180", "0600", "0400", "08080000", "0600", "0500", "08080000"].join(""),
  );
});

const SEEN_REPLY = 1 << 1;
const CONFIRMED = 1 << 3;

interface Parts {
  readonly protocol?: number;
  readonly state?: number;
  readonly status?: number;
  readonly ports?: boolean;
}

/** Put together by hand, as a kernel of the series 6 sends it. */
function message({ protocol = TCP, state = 3, status = SEEN_REPLY | CONFIRMED, ports = true }: Parts = {}): Buffer {
  const tuple = (type: string, source: string, destination: string, pair: readonly [string, string]) => {
    const numbers = `0500 0100 ${hex(protocol, 1)} 000000 0600 0200 ${pair[0]} 0000 0600 0300 ${pair[1]} 0000`;
    const layer4 = ports ? `1c00 0280 ${numbers}` : `0c00 0280 0500 0100 ${hex(protocol, 1)} 000000`;
    const length = ports ? "3400" : "2400";
    return `${length} ${type} 1400 0180 0800 0100 ${source} 0800 0200 ${destination} ${layer4}`;
  };
  const body = bytes(
    [
      tuple("0180", "0a120002", "0a1e0502", ["92be", "1451"]),
      tuple("0280", "0a120042", "0a1e010b", ["1451", "92be"]),
      `0800 0300 ${hex(status, 4)}`,
      "0800 0700 00069780",
      protocol === TCP ? `1000 0480 0c00 0180 0500 0100 ${hex(state, 1)} 000000` : "",
      "0800 0800 0a1e0001",
    ].join(" "),
  );
  const header = bytes("00000000 0001 0000 00000000 00000000 02 00 0000");
  header.writeUInt32LE(header.length + body.length, 0);
  return Buffer.concat([header, body]);
}

function hex(value: number, length: number): string {
  return value.toString(16).padStart(2 * length, "0");
}

function bytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
}
