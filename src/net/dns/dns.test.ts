import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Socket as TcpSocket } from "node:net";
import { type TestContext, test } from "node:test";
import * as dns from "dns-packet";
import fc from "fast-check";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { encodeAnswer, nameServers, parseQuery } from "./dns-message.ts";
import { DnsServer, type DnsServerOptions } from "./dns-server.ts";
import { frame, MessageReader } from "./dns-stream.ts";

const HERE = "127.0.0.1";
const question = (name: string, type: dns.RecordType = "A", more: Partial<dns.Packet> = {}) =>
  dns.encode({ type: "query", id: 7, flags: dns.RECURSION_DESIRED, questions: [{ name, type }], ...more });

const names: DnsServerOptions["answer"] = async ({ name }) => {
  if (name === "db") return { kind: "address", address: "10.30.0.1" };
  if (name.endsWith("in-addr.arpa")) return { kind: "pointer", name: "any.rr.db.prod.shop.prod" };
  if (name === "slow") return systemClock.sleep(300).then(() => ({ kind: "none" }) as const);
  if (name === "broken") throw new Error("a defect");
  return { kind: name === "nothing" ? "none" : "forward" };
};

async function startServer(t: TestContext, more: Partial<DnsServerOptions> = {}) {
  const server = new DnsServer({
    ...{ answer: names, isAllowed: (source) => source === HERE, upstreams: async () => [], log: silentLogger, port: 0 },
    ...more,
  });
  t.after(() => server.close());
  // The port that is free for UDP may be in use for TCP, on a machine with many connections.
  for (let tries = 1; server.portOf(HERE) === undefined; tries++) {
    await server.listen([HERE]).catch((error) => assert.ok(tries < 20, error));
  }
  return server;
}

/** Sends over UDP and gives the answers of a while. */
async function collect(t: TestContext, server: DnsServer, queries: readonly Buffer[], count: number, whileMs = 2000) {
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  const answers: dns.DecodedPacket[] = [];
  socket.on("message", (message) => answers.push(dns.decode(message)));
  for (const query of queries) socket.send(query, server.portOf(HERE)!, HERE);
  for (const end = performance.now() + whileMs; answers.length < count && performance.now() < end; ) {
    await systemClock.sleep(5);
  }
  return answers;
}

async function ask(t: TestContext, server: DnsServer, query: Buffer) {
  const [answer] = await collect(t, server, [query], 1);
  assert.ok(answer, "an answer");
  return answer;
}

async function eventually(isTrue: () => boolean): Promise<void> {
  for (const end = performance.now() + 5000; !isTrue(); await systemClock.sleep(5)) assert.ok(performance.now() < end);
}

const code = (answer: object) => (answer as { rcode: string }).rcode;

async function startUpstream(
  t: TestContext,
  respond: (query: dns.DecodedPacket, socket: Socket) => dns.Packet | undefined,
) {
  const socket = createSocket("udp4");
  socket.bind(0, HERE);
  await once(socket, "listening");
  const seen: dns.DecodedPacket[] = [];
  socket.on("message", (message, { port, address }) => {
    const query = dns.decode(message);
    seen.push(query);
    const answer = respond(query, socket);
    if (answer)
      socket.send(
        dns.encode({ type: "response", id: query.id!, questions: query.questions!, ...answer }),
        port,
        address,
      );
  });
  t.after(() => socket.close());
  return { port: socket.address().port, seen };
}

test("names of ours are answered, over UDP, with a short time to live", async (t) => {
  const server = await startServer(t);
  const answer = await ask(t, server, question("db"));
  assert.deepEqual(answer.answers, [{ name: "db", type: "A", ttl: 5, class: "IN", flush: false, data: "10.30.0.1" }]);
  assert.ok(answer.id === 7 && answer.flag_aa && answer.flag_ra && answer.flag_rd);
  const reverse = await ask(t, server, question("1.0.30.10.in-addr.arpa", "PTR"));
  assert.equal((reverse.answers![0] as dns.StringAnswer).data, "any.rr.db.prod.shop.prod");
});

test("our names have nothing but an A record, and what does not exist is NXDOMAIN for any type", async (t) => {
  const server = await startServer(t);
  for (const type of ["AAAA", "MX", "TXT", "HTTPS"] as dns.RecordType[]) {
    const query = type === ("HTTPS" as string) ? question("db", "UNKNOWN_65" as dns.RecordType) : question("db", type);
    const answer = await ask(t, server, query);
    assert.deepEqual([code(answer), answer.answers], ["NOERROR", []], type);
  }
  for (const type of ["A", "AAAA"] as const) {
    assert.equal(code(await ask(t, server, question("nothing", type))), "NXDOMAIN");
  }
  assert.equal(code(await ask(t, server, question("broken"))), "SERVFAIL");
});

test("an EDNS question gets an EDNS answer", async (t) => {
  const server = await startServer(t);
  const edns = { type: "OPT", name: ".", udpPayloadSize: 4096, extendedRcode: 0, ednsVersion: 0, flags: 0 } as const;
  const answer = await ask(t, server, question("db", "A", { additionals: [{ ...edns, flag_do: false, options: [] }] }));
  assert.equal(answer.additionals?.[0]?.type, "OPT");
  assert.equal((await ask(t, server, question("db"))).additionals?.length, 0);
});

test("over TCP several questions of one connection are answered in order", async (t) => {
  const server = await startServer(t);
  const socket = connect(server.portOf(HERE)!, HERE);
  t.after(() => socket.destroy());
  const both = Buffer.concat([frame(question("db")), frame(question("nothing"))]);
  socket.write(both.subarray(0, 5));
  await systemClock.sleep(20);
  socket.write(both.subarray(5));
  const reader = new MessageReader(65_535);
  const answers: dns.DecodedPacket[] = [];
  for await (const chunk of socket) {
    answers.push(...reader.push(chunk as Buffer).map((message) => dns.decode(message)));
    if (answers.length === 2) break;
  }
  assert.deepEqual(answers.map(code), ["NOERROR", "NXDOMAIN"]);
});

test("other names are the host's resolvers' to answer: the next when one is silent, closed or in trouble", async (t) => {
  const data = "192.0.2.7";
  const upstream = await startUpstream(t, ({ questions }) => {
    if (questions![0]!.name === "gone.example") return { flags: 3 };
    return { answers: [{ type: "A", name: "www.example", ttl: 60, data }] };
  });
  // Nobody listens on 127.0.0.2; its refusal comes at once.
  const server = await startServer(t, { upstreams: async () => ["127.0.0.2", HERE], upstreamPort: upstream.port });
  const answer = await ask(t, server, question("www.example"));
  assert.equal(answer.id, 7);
  assert.equal((answer.answers![0] as dns.StringAnswer).data, data);
  assert.equal(code(await ask(t, server, question("gone.example"))), "NXDOMAIN");
  assert.equal(code(await ask(t, server, question("db"))), "NOERROR");
  assert.equal(upstream.seen.length, 2, "names of ours stay here");
});

test("a resolver to which there is no way is passed over", async (t) => {
  // The kernel refuses a connection to it at once, as it does without a route.
  const server = await startServer(t, { upstreams: async () => ["255.255.255.255", "not-an-address.invalid"] });
  assert.equal(code(await ask(t, server, question("example.org"))), "SERVFAIL");
});

test("without an answer from anywhere it is SERVFAIL, and an answer with a wrong id is none", async (t) => {
  assert.equal(code(await ask(t, await startServer(t), question("www.example"))), "SERVFAIL");
  const liar = await startUpstream(t, ({ id }) => ({ id: (id! + 1) & 0xffff }));
  const server = await startServer(t, { upstreams: async () => [HERE], upstreamPort: liar.port });
  const [answer] = await collect(t, server, [question("www.example")], 1, 3500);
  assert.equal(code(answer!), "SERVFAIL");
});

test("a truncated answer goes to a UDP asker as it is, and is fetched over TCP for a TCP asker", async (t) => {
  const upstream = await startUpstream(t, () => ({ flags: dns.TRUNCATED_RESPONSE }));
  const big = Array.from(
    { length: 200 },
    (_, n) => ({ type: "A", name: "big.example", ttl: 1, data: `192.0.2.${n}` }) as const,
  );
  const overTcp = createServer((socket) => {
    const reader = new MessageReader(4096);
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      for (const message of reader.push(chunk as Buffer)) {
        const { id, questions } = dns.decode(message);
        socket.write(frame(dns.encode({ type: "response", id: id!, questions: questions!, answers: big })));
      }
    });
  }).listen(upstream.port, HERE);
  t.after(() => overTcp.close());
  await once(overTcp, "listening");
  const server = await startServer(t, { upstreams: async () => [HERE], upstreamPort: upstream.port });
  assert.ok((await ask(t, server, question("big.example"))).flag_tc);
  const socket = connect(server.portOf(HERE)!, HERE);
  t.after(() => socket.destroy());
  socket.write(frame(question("big.example")));
  const reader = new MessageReader(65_535);
  for await (const chunk of socket) {
    const [message] = reader.push(chunk as Buffer);
    if (!message) continue;
    assert.equal(dns.decode(message).answers?.length, 200);
    break;
  }
});

test("strangers, junk, answers and oversized questions get nothing, and the server goes on", async (t) => {
  const server = await startServer(t);
  const twice = question("db", "A", {
    questions: [
      { type: "A", name: "db" },
      { type: "A", name: "db" },
    ],
  });
  const junk = [
    Buffer.alloc(0),
    Buffer.from("junk"),
    Buffer.alloc(5000),
    dns.encode({ type: "response", id: 1 }),
    twice,
  ];
  const chaos = question("db", "A", { questions: [{ type: "A", name: "db", class: "CH" }] });
  assert.deepEqual(await collect(t, server, [...junk, chaos], 1, 150), []);
  const socket = connect(server.portOf(HERE)!, HERE);
  socket.on("error", () => {});
  socket.write(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
  await once(socket, "close");
  assert.equal(code(await ask(t, server, question("db"))), "NOERROR");
  const strict = await startServer(t, { isAllowed: () => false });
  assert.deepEqual(await collect(t, strict, [question("db")], 1, 150), []);
});

test("one asker has at most 64 questions in flight", async (t) => {
  const server = await startServer(t);
  const answers = await collect(t, server, Array<Buffer>(200).fill(question("slow")), 65, 600);
  assert.equal(answers.length, 64);
  assert.equal(code(await ask(t, server, question("db"))), "NOERROR");
});

test("a sandbox that holds connections open, and eight that do, leave room for others", async (t) => {
  const server = await startServer(t, { isAllowed: () => true });
  const join = async (source: string) => {
    const socket = connect({ host: HERE, port: server.portOf(HERE)!, localAddress: source });
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  };
  const isAnswered = async (socket: TcpSocket) => {
    socket.write(frame(question("db")));
    const [chunk] = await Promise.race([once(socket, "data"), once(socket, "close").then(() => [])]);
    return chunk !== undefined;
  };
  const greedy: TcpSocket[] = [];
  for (let count = 0; count < 17; count++) greedy.push(await join("127.0.0.11"));
  await eventually(() => greedy[0]!.destroyed);
  assert.ok(await isAnswered(greedy[16]!), "its oldest has made room for its newest");
  assert.ok(!greedy[1]!.destroyed);
  for (let other = 12; other <= 18; other++) for (let count = 0; count < 16; count++) await join(`127.0.0.${other}`);
  const modest = await join("127.0.0.19");
  assert.ok(await isAnswered(modest));
});

test("eight sandboxes whose questions no resolver answers leave room for the questions of another one", async (t) => {
  const silent = await startUpstream(t, () => undefined);
  const server = await startServer(t, {
    ...{ isAllowed: () => true, upstreams: async () => [HERE], upstreamPort: silent.port },
  });
  for (let source = 11; source <= 18; source++) {
    const socket = createSocket("udp4");
    t.after(() => socket.close());
    socket.bind(0, `127.0.0.${source}`);
    await once(socket, "listening");
    for (let count = 0; count < 64; count++) socket.send(question("www.example"), server.portOf(HERE)!, HERE);
    // No more at once than a socket's buffer takes.
    await eventually(() => silent.seen.length === 64 * (source - 10));
  }
  assert.equal(code(await ask(t, server, question("db"))), "NOERROR");
});

test("listen() serves exactly the addresses that it is given, and says which one it cannot", async (t) => {
  const server = await startServer(t);
  await server.listen([HERE, "127.0.0.3"]);
  const port = server.portOf("127.0.0.3");
  assert.ok(port);
  await server.listen([HERE]);
  assert.equal(server.portOf("127.0.0.3"), undefined);
  await assert.rejects(server.listen(["203.0.113.9"]), { code: "DNS_UNAVAILABLE", message: /203\.0\.113\.9/ });
});

test("whatever bytes arrive, parseQuery() does not throw, and what it takes can be answered", () => {
  const valid = question("a.b.c", "AAAA");
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 4 }), (changes) => {
      const bytes = Buffer.from(valid);
      for (const [offset, value] of changes) bytes[offset] = value;
      const query = parseQuery(bytes);
      if (query) assert.ok(encodeAnswer(query, { kind: "address", address: "10.30.0.1" }).length >= 12);
    }),
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => void parseQuery(Buffer.from(bytes))));
});

test("nameServers() reads a resolv.conf", () => {
  assert.deepEqual(nameServers("# x\nnameserver 1.1.1.1\n search a\n\tnameserver  fe80::1\n#nameserver 2\n"), [
    "1.1.1.1",
    "fe80::1",
  ]);
});
