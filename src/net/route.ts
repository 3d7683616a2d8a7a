/** Which link the kernel's routes and rules choose, as messages of rtnetlink say it: pure. */
import { attribute, attributes } from "./netlink.ts";

const AF_INET = 2;
const NEW_ROUTE = 24;
const GET_ROUTE = 26;
const REQUEST = 1;
const UNICAST = 1;
const RTA = { destination: 1, source: 2, link: 4 } as const;
const WHOLE_ADDRESS = 32;
const HEADERS = 28;

/** Asks by which link packets from one address of this machine to another one leave. */
export function routeRequest(source: number, destination: number): Buffer {
  const header = Buffer.alloc(HEADERS);
  const address = (type: number, value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return attribute(type, bytes);
  };
  const body = Buffer.concat([address(RTA.destination, destination), address(RTA.source, source)]);
  header.writeUInt32LE(header.length + body.length, 0);
  header.writeUInt16LE(GET_ROUTE, 4);
  header.writeUInt16LE(REQUEST, 6);
  header.set([AF_INET, WHOLE_ADDRESS, WHOLE_ADDRESS], 16);
  return Buffer.concat([header, body]);
}

/** Number of the link; undefined for an answer that is no way to another machine, such as "unreachable". */
export function parseRoute(answer: Buffer): number | undefined {
  if (answer.length < HEADERS || answer.readUInt16LE(4) !== NEW_ROUTE) return undefined;
  if (answer[16] !== AF_INET || answer[23] !== UNICAST) return undefined;
  const link = attributes(answer.subarray(HEADERS, answer.readUInt32LE(0))).get(RTA.link);
  return link && link.length >= 4 ? link.readUInt32LE() : undefined;
}
