import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAddress, parseSubnet } from "../../addressing/subnet.ts";
import type { Connection } from "../connection.ts";
import { initialState, type KernelPeer, type KernelState } from "../kernel-state.ts";
import { checksumDifference, flowEntries, type Surroundings } from "./flow-entries.ts";

const address = (text: string) => parseAddress(text)!;
const CLIENT = address("10.18.0.2");
const NEIGHBOUR = address("10.18.0.3");
const CLIENT_INSTANCE = address("10.30.1.11");
const SERVICE = address("10.30.5.1");
const REMOTE = address("10.18.0.66");
const FAR = address("10.18.0.130");
const HOST = address("10.18.0.1");
const LINKS: Readonly<Record<string, { index: number; mtu: number }>> = {
  oak0a120002: { index: 2, mtu: 1500 },
  oak0a120003: { index: 3, mtu: 1400 },
  oakvx: { index: 4, mtu: 1450 },
  up0: { index: 5, mtu: 1500 },
};
const plainPeer: KernelPeer = {
  ...{ id: "worker-2", number: 2, address: address("192.0.2.2"), subnets: [parseSubnet("10.18.0.64/26")] },
  ...{ path: "plain", neighbour: { link: "up0", mac: "aa:bb:cc:00:00:02" } },
};
const farPeer: KernelPeer = {
  ...{ id: "worker-3", number: 3, address: address("203.0.113.3"), subnets: [parseSubnet("10.18.0.128/26")] },
  path: "vxlan",
};
const empty = initialState({
  serviceRange: parseSubnet("10.30.0.0/16"),
  ranges: [{ first: address("10.18.0.0"), last: address("10.30.255.255") }],
  gateway: HOST,
  guardedPorts: [],
  hasFastPath: true,
});

test("both ends here: packets of each go into the other's sandbox, with the addresses of the rules", () => {
  const entries = flowEntries(connection({ server: NEIGHBOUR }), around());
  assert.deepEqual(entries.map(readWithout), [
    {
      ...{ arrives: "10.18.0.2:1000 > 10.30.5.1:80 tcp", on: 2, sender: "02:6f:0a:12:00:02" },
      ...{ leaves: "10.30.1.11 > 10.18.0.3", action: "sandbox", link: 3, mtu: 1400, nextHop: "0.0.0.0" },
      ...{ outer: "0.0.0.0 > 0.0.0.0", ethernet: "02:6f:0a:12:00:03 < 02:18:00:00:00:01" },
    },
    {
      ...{ arrives: "10.18.0.3:80 > 10.30.1.11:1000 tcp", on: 3, sender: "02:6f:0a:12:00:03" },
      ...{ leaves: "10.30.5.1 > 10.18.0.2", action: "sandbox", link: 2, mtu: 1500, nextHop: "0.0.0.0" },
      ...{ outer: "0.0.0.0 > 0.0.0.0", ethernet: "02:6f:0a:12:00:02 < 02:18:00:00:00:01" },
    },
  ]);
});

test("a sandbox that talks to itself through a service is one of them", () => {
  const entries = flowEntries(connection({ server: CLIENT }), around()).map(read);
  assert.deepEqual(
    entries.map(({ on, link }) => [on, link]),
    [
      [2, 2],
      [2, 2],
    ],
  );
});

test("to a peer by plain route: its address is the next hop, and its answers may come by either way", () => {
  const [there, ...back] = flowEntries(connection({ server: REMOTE }), around()).map(readWithout);
  assert.deepEqual(there, {
    ...{ arrives: "10.18.0.2:1000 > 10.30.5.1:80 tcp", on: 2, sender: "02:6f:0a:12:00:02" },
    ...{ leaves: "10.30.1.11 > 10.18.0.66", action: "neighbour", link: 5, mtu: 1500, nextHop: "192.0.2.2" },
    ...{ outer: "0.0.0.0 > 0.0.0.0", ethernet: "00:00:00:00:00:00 < 00:00:00:00:00:00" },
  });
  assert.deepEqual(
    back.map(({ arrives, on, sender, leaves, link }) => [arrives, on, sender, leaves, link]),
    [
      ["10.18.0.66:80 > 10.30.1.11:1000 tcp", 4, "02:18:c0:00:02:02", "10.30.5.1 > 10.18.0.2", 2],
      ["10.18.0.66:80 > 10.30.1.11:1000 tcp", 5, "aa:bb:cc:00:00:02", "10.30.5.1 > 10.18.0.2", 2],
    ],
  );
});

test("to a peer by tunnel: outer addresses, the tunnel's MACs, and room for its headers on the link that it leaves by", () => {
  const [there, ...back] = flowEntries(connection({ server: FAR, protocol: 17 }), around()).map(readWithout);
  assert.deepEqual(there, {
    ...{ arrives: "10.18.0.2:1000 > 10.30.5.1:80 udp", on: 2, sender: "02:6f:0a:12:00:02" },
    ...{ leaves: "10.30.1.11 > 10.18.0.130", action: "tunnel", link: 6, mtu: 1450, nextHop: "0.0.0.0" },
    ...{ outer: "192.0.2.1 > 203.0.113.3", ethernet: "02:18:cb:00:71:03 < 02:18:c0:00:02:01" },
  });
  assert.deepEqual(
    back.map(({ on, sender }) => [on, sender]),
    [[4, "02:18:cb:00:71:03"]],
  );
  const narrow = flowEntries(connection({ server: FAR }), around({ exitTo: () => ({ index: 6, mtu: 1300 }) })).map(
    read,
  );
  assert.equal(narrow[0]!.mtu, 1250);
});

test("a peer on a common link is reached by tunnel while its path says so", () => {
  const state = { ...stateOf(), peers: [{ ...plainPeer, path: "vxlan" as const }, farPeer] };
  const entries = flowEntries(connection({ server: REMOTE }), around({ state })).map(read);
  assert.equal(entries[0]!.action, "tunnel");
  assert.deepEqual(
    entries.slice(1).map(({ on }) => on),
    [4, 5],
  );
});

test("from a peer: the connection's mark says which, since its instance address does not, and nothing is translated", () => {
  for (const [peer, action] of [
    [plainPeer, "neighbour"],
    [farPeer, "tunnel"],
  ] as const) {
    const entries = flowEntries(incoming(CLIENT_INSTANCE, 0x0a1e0000 + peer.number), around()).map(read);
    const back = entries.pop()!;
    assert.ok(entries.length > 0);
    for (const { arrives, leaves, link, difference } of entries) {
      assert.equal(arrives, "10.30.1.11:1000 > 10.18.0.2:80 tcp");
      assert.deepEqual([leaves, link, difference], ["10.30.1.11 > 10.18.0.2", 2, 0]);
    }
    assert.equal(back.arrives, "10.18.0.2:80 > 10.30.1.11:1000 tcp");
    assert.equal(back.action, action);
  }
});

test("connections that the rules must go on with have no entries", () => {
  const none = (one: Connection, what: string) => assert.deepEqual(flowEntries(one, around()), [], what);
  const base = connection({ server: REMOTE });
  const { original, reply } = base;
  none(connection({ server: REMOTE, client: HOST, mark: 0x0a1e0002 }), "the worker's own, marked by who answered");
  none(connection({ server: NEIGHBOUR, client: HOST }), "the worker's own to a sandbox of its");
  none(connection({ server: address("198.51.100.7") }), "to the world");
  none(connection({ server: HOST }), "to the worker itself");
  none({ ...base, reply: { ...reply, destinationPort: 1001 } }, "another source port");
  none({ ...base, original: { ...original, destinationPort: 8080 } }, "another destination port");
  none(incoming(address("198.51.100.7"), 0), "from outside, by a published port");
  none(incoming(CLIENT_INSTANCE, 0x0a1e0009), "from a peer that is gone");
  none(incoming(CLIENT_INSTANCE, 0x0b1e0002), "with another program's mark");
});

test("a direction without its links has no entry: the other one is not harmed", () => {
  const without = (...names: string[]) =>
    around({ linkNamed: (name) => (names.includes(name) ? undefined : LINKS[name]) });
  const actions = (server: number, surroundings: Surroundings) =>
    flowEntries(connection({ server }), surroundings).map((entry) => read(entry).action);
  assert.deepEqual(actions(REMOTE, without("up0")), ["sandbox"]);
  assert.deepEqual(actions(FAR, around({ exitTo: () => undefined })), ["sandbox"]);
  assert.deepEqual(actions(FAR, around({ underlay: undefined })), ["sandbox"]);
  assert.deepEqual(actions(FAR, without("oakvx")), []);
  assert.deepEqual(actions(NEIGHBOUR, without("oak0a120003")), []);
});

test("key and flow are laid out as flow.bpf.c reads them", () => {
  const [{ key, flow } = assert.fail()] = flowEntries(connection({ server: FAR }), around());
  assert.equal(
    key.toString("hex"),
    ["0a120002", "0a1e0501", "03e8", "0050", "02000000", "026f0a120002", "06", "00"].join(""),
  );
  assert.equal(
    flow.toString("hex"),
    [
      ["00".repeat(16), "0a1e010b", "0a120082", "fc890000"],
      ["02000000", "06000000", "aa050000"],
      ["00000000", "c0000201", "cb007103"],
      ["0218cb007103", "0218c0000201", "00".repeat(8)],
    ]
      .flat()
      .join(""),
  );
});

test("checksumDifference() added to a checksum gives that of the changed packet, also where one of them is zero", () => {
  const word = fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0, 0xffffffff, 0x0000ffff, 0xffff0000));
  const property = fc.property(fc.tuple(word, word), fc.tuple(word, word), fc.uint8Array(), (before, after, rest) => {
    const difference = checksumDifference(before, after);
    assert.ok(difference >= 0 && difference < 0xffff);
    // A pseudo-header has a protocol and a length, which are never both zero.
    const tail = Buffer.concat([Buffer.from([0, 17, 0, 8]), Buffer.from(rest), Buffer.alloc(rest.length % 2)]);
    const sumOf = (words: readonly number[]) => onesComplementSum(Buffer.concat([wordsOf(words), tail]));
    assert.equal(0xffff - fold(sumOf(before) + difference), 0xffff - sumOf(after));
  });
  fc.assert(property, { numRuns: 2000 });
});

test("checksumDifference() is zero where nothing need be added", () => {
  assert.equal(checksumDifference([CLIENT, SERVICE], [CLIENT, SERVICE]), 0);
  assert.equal(checksumDifference([CLIENT, SERVICE], [SERVICE, CLIENT]), 0);
  assert.equal(checksumDifference([0, 0], [0, 0]), 0);
  assert.equal(checksumDifference([0xffffffff], [0]), 0);
});

interface Ends {
  readonly server: number;
  readonly client?: number;
  readonly protocol?: number;
  readonly mark?: number;
}

/** From a client here to the service, as the rules have translated it. */
function connection({ server, client = CLIENT, protocol = 6, mark = 0 }: Ends): Connection {
  return {
    protocol,
    original: { source: client, destination: SERVICE, sourcePort: 1000, destinationPort: 80 },
    reply: { source: server, destination: CLIENT_INSTANCE, sourcePort: 80, destinationPort: 1000 },
    mark,
    isEstablished: true,
  };
}

/** From elsewhere to the sandbox here: its own worker has translated it. */
function incoming(client: number, mark: number): Connection {
  return {
    protocol: 6,
    original: { source: client, destination: CLIENT, sourcePort: 1000, destinationPort: 80 },
    reply: { source: CLIENT, destination: client, sourcePort: 80, destinationPort: 1000 },
    mark,
    isEstablished: true,
  };
}

function stateOf(): KernelState {
  return { ...empty, sandboxes: [CLIENT, NEIGHBOUR], peers: [plainPeer, farPeer] };
}

function around(changes: Partial<Surroundings> = {}): Surroundings {
  const underlay = address("192.0.2.1");
  const exitTo = () => ({ index: 6, mtu: 1500 });
  return {
    ...{ state: stateOf(), underlay, exitTo, linkNamed: (name) => LINKS[name] },
    ...changes,
  };
}

function read({ key, flow }: { readonly key: Buffer; readonly flow: Buffer }) {
  const ip = (bytes: Buffer, at: number) => bytes.subarray(at, at + 4).join(".");
  const mac = (bytes: Buffer, at: number) =>
    bytes
      .toString("hex", at, at + 6)
      .match(/../g)!
      .join(":");
  const protocol = key[22] === 6 ? "tcp" : "udp";
  return {
    arrives: `${ip(key, 0)}:${key.readUInt16BE(8)} > ${ip(key, 4)}:${key.readUInt16BE(10)} ${protocol}`,
    on: key.readUInt32LE(12),
    sender: mac(key, 16),
    leaves: `${ip(flow, 16)} > ${ip(flow, 20)}`,
    difference: flow.readUInt32LE(24),
    action: [undefined, "sandbox", "tunnel", "neighbour"][flow.readUInt32LE(28)],
    link: flow.readUInt32LE(32),
    mtu: flow.readUInt32LE(36),
    nextHop: ip(flow, 40),
    outer: `${ip(flow, 44)} > ${ip(flow, 48)}`,
    ethernet: `${mac(flow, 52)} < ${mac(flow, 58)}`,
  };
}

/** Its difference is asserted in bytes, and as a property. */
function readWithout(entry: Parameters<typeof read>[0]) {
  const { difference: _, ...rest } = read(entry);
  return rest;
}

function wordsOf(words: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * words.length);
  for (const [index, word] of words.entries()) bytes.writeUInt32BE(word, 4 * index);
  return bytes;
}

/** As RFC 1071 says it, of 16-bit words in this machine's order. */
function onesComplementSum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16LE(at);
  return fold(sum);
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}
