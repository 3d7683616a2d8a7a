/** Datagrams that no socket sends: from port 0, to where no answer can go. The kernel delivers them all the same. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import * as dns from "dns-packet";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { DnsServer } from "../../src/net/dns/dns-server.ts";
import { RttProber } from "../../src/net/rtt.ts";
import { close, openRaw, sendRaw } from "../support/blocking-sockets.ts";
import { isInside } from "./network-namespaces.ts";

const HERE = "127.0.0.1";
const PROBE_PORT = 50_904;
const IPPROTO_UDP = 17;

if (isInside(import.meta.filename)) defineTests();

function defineTests(): void {
  test("a name question from port 0 costs nothing, and the next question is answered", async (t) => {
    let asked = 0;
    const server = new DnsServer({
      answer: async () => ({ kind: "address", address: `10.30.0.${++asked}` }),
      isAllowed: () => true,
      upstreams: async () => [],
      ...{ log: silentLogger, port: 0 },
    });
    t.after(() => server.close());
    await server.listen([HERE]);
    const question = dns.encode({ type: "query", id: 7, questions: [{ name: "db", type: "A" }] });
    const port = server.portOf(HERE)!;
    for (const bytes of [question, Buffer.alloc(0), Buffer.from("junk")]) sendFromPortZero(port, bytes);
    const answer = dns.decode(await answerTo(t, port, question));
    assert.equal((answer.answers![0] as dns.StringAnswer).data, "10.30.0.1", "the first question that was looked at");
  });

  test("a probe from port 0 gets no answer and ends nothing, and the next probe is answered", async (t) => {
    const prober = new RttProber({
      ...{ address: HERE, port: PROBE_PORT, clock: systemClock, log: silentLogger },
      isPeer: () => true,
      onMeasured: () => {},
      onOther: () => {},
    });
    const stop = new AbortController();
    const ended = prober.run(stop.signal);
    t.after(async () => {
      stop.abort();
      await ended;
    });
    const request = Buffer.alloc(36);
    request.write("OAKP\x01\x01", "latin1");
    await answerTo(t, PROBE_PORT, request);
    for (const bytes of [request, Buffer.alloc(0), Buffer.from("junk")]) sendFromPortZero(PROBE_PORT, bytes);
    assert.equal((await answerTo(t, PROBE_PORT, request))[5], 2);
  });
}

/** The IP header is the kernel's; a checksum of 0 is none. */
function sendFromPortZero(port: number, bytes: Buffer): void {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(port, 2);
  header.writeUInt16BE(8 + bytes.length, 4);
  const raw = openRaw(IPPROTO_UDP, 1000);
  sendRaw(raw, HERE, Buffer.concat([header, bytes]));
  close(raw);
}

/** Asked again until it comes, since the other end may not listen yet. */
async function answerTo(t: TestContext, port: number, bytes: Buffer): Promise<Buffer> {
  const socket = createSocket("udp4");
  t.after(() => socket.close());
  const timer = setInterval(() => socket.send(bytes, port, HERE), 100);
  try {
    socket.send(bytes, port, HERE);
    const [answer] = await once(socket, "message", { signal: AbortSignal.timeout(5000) });
    return answer as Buffer;
  } finally {
    clearInterval(timer);
  }
}
