/** Protocols other than TCP and UDP through service addresses, and what a sandbox tries but may not: raw packets, two workers. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Routes } from "../../src/net/overlay.ts";
import { eventually } from "../support/eventually.ts";
import {
  type LabWorker,
  makeSegments,
  makeWorker,
  removeLab,
  type Sandbox,
  type SandboxClient,
} from "../support/overlay-lab.ts";
import { isInside, listen } from "./network-namespaces.ts";

const SUBNETS = ["10.18.0.0/26", "10.18.0.64/26"];
const CLIENT = "10.30.1.1";
const SERVICE = "10.30.5.1";
const ROUTER = "192.0.2.254";
/** Of what is to be answered. */
const timeoutMs = 5000;
const RAW_SENDER = join(import.meta.dirname, "../support/raw-sender.ts");
const SCTP_PEER = join(import.meta.dirname, "../support/sctp-peer.ts");

if (isInside(import.meta.filename)) defineTests();

function defineTests(): void {
  let workers: LabWorker[] = [];
  let client: Sandbox;
  let asker: SandboxClient;
  let servers: Sandbox[] = [];

  const node = (...args: string[]) => [process.execPath, ...process.execArgv, ...args];
  const routes = (worker: number, members: readonly Sandbox[], path: "plain" | "vxlan" = "vxlan"): Routes => ({
    services: [
      {
        ...{ id: "service", roundRobin: SERVICE, closest: "10.30.6.1" },
        instances: members.map(({ address }, index) => ({ address: `10.30.1.${10 + index}`, sandbox: address })),
      },
    ],
    peers: [
      { id: `worker-${1 - worker}`, address: workers[1 - worker]!.address, subnets: [SUBNETS[1 - worker]!], path },
    ],
  });
  const setAll = async (members: readonly Sandbox[]) => {
    for (const [index, { agent }] of workers.entries()) await agent.setRoutes(routes(index, members));
  };

  before(async () => {
    await makeSegments();
    workers = await Promise.all([makeWorker(1, "a"), makeWorker(2, "b")]);
    for (const [index, { agent, address }] of workers.entries()) {
      await agent.configure({
        subnets: [SUBNETS[index]!],
        address,
        guardedPorts: [10003],
        guardedHosts: [ROUTER],
      });
      await agent.start();
    }
    const [one, two] = workers as [LabWorker, LabWorker];
    await one.agent.setIdentity("client", CLIENT);
    client = await one.agent.attach("client");
    asker = await one.enter(client, "client");
    servers = [await one.agent.attach("near"), await two.agent.attach("far")];
    await setAll([]);
    for (const [index, name] of ["near", "far"].entries()) {
      const server = workers[index]!.spawn(servers[index]!, node(SCTP_PEER, "serve", name));
      await once(server.stdout!, "data");
    }
  });
  after(removeLab);

  test("an SCTP association through a service address, on the same worker and through the tunnel: the server sees the instance address", async () => {
    for (const [index, name] of ["near", "far"].entries()) {
      await setAll([servers[index]!]);
      const said = await workers[0]!.inSandbox(
        client.address,
        ...node(SCTP_PEER, "associate", SERVICE, `hello ${name}`),
      );
      assert.equal(said.trim(), `${name} ${CLIENT} hello ${name}`);
      const tracked = await workers[0]!.run("conntrack", "-L", "-p", "sctp");
      assert.match(
        tracked,
        new RegExp(`ESTABLISHED src=${client.address} dst=${SERVICE} .* src=${servers[index]!.address} `),
      );
      await workers[0]!.run("conntrack", "-D", "-p", "sctp");
    }
  });

  /** From the client's sandbox. */
  const sendRaw = (protocol: number, host: string, bytes: Buffer, count = 1) =>
    workers[0]!.inSandbox(
      client.address,
      ...node(RAW_SENDER, String(protocol), host, bytes.toString("hex"), String(count)),
    );

  test("first packets of any protocol wait for an unknown address to become known", async () => {
    const [{ agent, misses }] = workers as [LabWorker];
    await setAll([]);
    misses.length = 0;
    const said = workers[0]!.inSandbox(client.address, ...node(SCTP_PEER, "associate", "10.30.7.1", "early"));
    await eventually(() => misses.length > 0);
    const { services, peers } = routes(0, [servers[1]!]);
    await agent.setRoutes({ services: [{ ...services[0]!, roundRobin: "10.30.7.1" }], peers });
    assert.equal((await said).trim(), `far ${CLIENT} early`);
    assert.deepEqual(misses, ["10.30.7.1"]);
  });

  test("packets that are odd, to unknown addresses, do not disturb the agent", async () => {
    const [{ agent, misses }] = workers as [LabWorker];
    misses.length = 0;
    await sendRaw(253, "10.30.8.1", Buffer.alloc(0));
    await sendRaw(6, "10.30.8.2", Buffer.alloc(3));
    await sendRaw(17, "10.30.8.3", Buffer.alloc(60_000));
    await sendRaw(RAW, "10.30.8.4", ipPacket({ source: client.address, target: "10.30.8.4", isFragment: true }));
    await sendRaw(253, "10.30.8.5", Buffer.from("the last"));
    await eventually(() => misses.includes("10.30.8.5"));
    await agent.refuse("10.30.8.5");
    await setAll([servers[1]!]);
    await assertReached();
  });

  test("packets with another's source address are dropped before the connection table sees them, of whatever protocol", async () => {
    await setAll(servers);
    await workers[0]!.run("nft", watching("ip protocol 252"));
    for (const source of [servers[0]!.address, "10.30.1.10", "198.51.100.7", "10.18.0.1", workers[1]!.address]) {
      for (const target of [SERVICE, servers[0]!.address, servers[1]!.address, ROUTER]) {
        await sendRaw(RAW, target, ipPacket({ source, target }), 20);
      }
    }
    await assertNothingSeen(workers[0]!);
    await assertReached();
  });

  test("a flood to unknown addresses leaves no trace in the connection table", async () => {
    const before = await trackedConnections();
    await asker.flood("10.30.90", 20_000);
    assert.ok((await trackedConnections()) - before < 50);
  });

  test("nothing that only workers send gets out of a sandbox, whole or in fragments, nor to its own worker", async () => {
    const [own, other] = workers as [LabWorker, LabWorker];
    await own.run("nft", watching(`ip saddr ${client.address} udp dport 50103-50105`));
    await other.run("nft", watching(`ip saddr ${own.address} udp dport 50103-50105`));
    for (const host of [other.address, own.address, "10.18.0.1"]) {
      for (const port of [50103, 50104, 50105]) {
        for (const length of [100, 6000]) await asker.ask({ host, port, udp: true, length, timeoutMs: 50 });
      }
    }
    for (const worker of [own, other]) await assertNothingSeen(worker);
  });

  test("through the tunnel come only packets of peers to sandboxes: nothing else gets past its arrival, and junk does no harm", async () => {
    const [one, two] = workers as [LabWorker, LabWorker];
    await setAll([servers[1]!]);
    const send = (frame: Buffer) =>
      two.run(...node(RAW_SENDER, "17", one.address, udpTo(50103, frame).toString("hex")));
    const source = servers[1]!.address;
    const packetTo = (target: string) => ipPacket({ source, target });
    await one.run("nft", watching('iifname "oakvx" ip protocol 252', -140));
    for (const target of [one.address, ROUTER, "127.0.0.1", "198.51.100.7", SERVICE, "10.30.8.9"]) {
      await send(vxlan({ to: one.address, from: two.address, packet: packetTo(target) }));
    }
    const fine = { to: one.address, from: two.address, packet: packetTo(servers[0]!.address) };
    await send(vxlan({ ...fine, from: "192.0.2.77" }));
    await send(vxlan({ ...fine, id: 1 }));
    for (const length of [0, 7, 8, 21, 900]) await send(randomBytes(length));
    assert.match(await one.run("nft", "list", "table", "ip", "seen"), /counter packets 0 /);
    await send(vxlan(fine));
    await eventually(async () => /counter packets 1 /.test(await one.run("nft", "list", "table", "ip", "seen")));
    await one.run("nft", "delete table ip seen");
    await assertReached();
  });

  test("guarded ports of the cluster's hosts are closed for instances, by TCP and UDP, and open for workers", async (t) => {
    const server = await listen(10003);
    const open = await listen(10004);
    const udp = createSocket("udp4");
    udp.on("message", (_, { port, address }) => udp.send("worker", port, address)).bind(10003);
    await once(udp, "listening");
    t.after(() => {
      for (const one of [server, open, udp]) one.close();
    });
    const host = await workers[0]!.enterHost("host");
    assert.equal(await host.ask({ host: ROUTER, port: 10003, timeoutMs }), "worker");
    assert.equal(await asker.ask({ host: ROUTER, port: 10003, timeoutMs }), "ECONNREFUSED");
    assert.equal(await host.ask({ host: ROUTER, port: 10003, udp: true, timeoutMs }), "worker");
    // The kernel gives no more than some of these errors in a second: then there is no answer.
    const refused = await asker.ask({ host: ROUTER, port: 10003, udp: true });
    assert.match(refused, /^(?:ECONNREFUSED|none)$/);
    assert.equal(await asker.ask({ host: ROUTER, port: 10004, timeoutMs }), "worker", "others are not guarded");
    host.process.kill();
  });

  test("two workers that have swapped their subnets reach each other's new instances", async () => {
    asker.process.kill();
    for (const [index, { agent, address }] of workers.entries()) {
      for (const { instanceId } of await agent.list()) await agent.detach(instanceId);
      await agent.configure({ subnets: [SUBNETS[1 - index]!], address });
    }
    const swapped = await Promise.all(
      workers.map(async ({ agent }, index) => {
        await agent.setIdentity(`new-${index}`, `10.30.2.${index}`);
        return agent.attach(`new-${index}`);
      }),
    );
    for (const [index, { address }] of swapped.entries()) {
      assert.equal(address.startsWith("10.18.0.") && Number(address.split(".")[3]) >= 64, index === 0, address);
    }
    for (const [index, { agent }] of workers.entries()) {
      const instances = swapped.map(({ address }, number) => ({ address: `10.30.2.${number}`, sandbox: address }));
      const peers = routes(index, []).peers.map((peer) => ({ ...peer, subnets: [SUBNETS[index]!] }));
      await agent.setRoutes({
        services: [{ id: "new", roundRobin: "10.30.5.9", closest: "10.30.6.9", instances }],
        peers,
      });
    }
    const [one, two] = await Promise.all(workers.map((worker, index) => worker.enter(swapped[index]!, `new-${index}`)));
    assert.equal(await one!.ask({ host: "10.30.2.1", timeoutMs }), "new-1 10.30.2.0");
    assert.equal(await two!.ask({ host: "10.30.2.0", timeoutMs }), "new-0 10.30.2.1");
    for (const { process: child } of [one!, two!]) child.kill();
  });

  /** A table that counts what matches; by default what is left after `raw_sandbox`, before the connection table. */
  function watching(match: string, priority = -290): string {
    const chain = `type filter hook prerouting priority ${priority}; ${match} counter`;
    return `add table ip seen; add chain ip seen c { ${chain}; }`;
  }

  async function assertNothingSeen(worker: LabWorker): Promise<void> {
    assert.match(await worker.run("nft", "list", "table", "ip", "seen"), /counter packets 0 /);
    await worker.run("nft", "delete table ip seen");
  }

  async function trackedConnections(): Promise<number> {
    return Number(await workers[0]!.run("conntrack", "-C"));
  }

  async function assertReached(): Promise<void> {
    const said = await workers[0]!.inSandbox(client.address, ...node(SCTP_PEER, "associate", SERVICE, "still"));
    assert.match(said, / still$/m);
    await workers[0]!.run("conntrack", "-D", "-p", "sctp");
  }
}

/** Protocol of a raw socket that is given whole packets. */
const RAW = 255;

/** Of 40 bytes, with a protocol that nobody knows. */
function ipPacket({ source, target, isFragment = false }: { source: string; target: string; isFragment?: boolean }) {
  const packet = Buffer.alloc(40);
  packet[0] = 0x45;
  packet.writeUInt16BE(packet.length, 2);
  // Offset 64, and no more to come: the beginning never does.
  packet.writeUInt16BE(isFragment ? 8 : 0, 6);
  packet[8] = 64;
  packet[9] = 252;
  for (const [index, byte] of source.split(".").entries()) packet[12 + index] = Number(byte);
  for (const [index, byte] of target.split(".").entries()) packet[16 + index] = Number(byte);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += packet.readUInt16BE(at);
  packet.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 10);
  return packet;
}

/** With a UDP header; a checksum of 0 is none. */
function udpTo(port: number, bytes: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(port, 0);
  header.writeUInt16BE(port, 2);
  header.writeUInt16BE(8 + bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

/** As the worker `from` would send it to the worker `to`: their MACs follow from their addresses. */
function vxlan({ to, from, packet, id = 50103 }: { to: string; from: string; packet: Buffer; id?: number }): Buffer {
  const macOf = (address: string) => [0x02, 0x18, ...address.split(".").map(Number)];
  const header = Buffer.alloc(8);
  header[0] = 8;
  header.writeUInt32BE(id << 8, 4);
  return Buffer.concat([header, Buffer.from([...macOf(to), ...macOf(from), 8, 0]), packet, Buffer.alloc(6)]);
}
