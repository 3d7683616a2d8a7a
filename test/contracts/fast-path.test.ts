/** The fast path of src/net/README.md, with real packets between two workers: that flows take it, and that nobody can tell but by speed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseAddress } from "../../src/addressing/subnet.ts";
import { exec } from "../../src/base/exec.ts";
import type { ServiceRoutes } from "../../src/net/overlay.ts";
import { eventually } from "../support/eventually.ts";
import {
  type FlowClient,
  type LabWorker,
  makeSegments,
  makeWorker,
  removeLab,
  type Sandbox,
} from "../support/overlay-lab.ts";
import { isInside } from "./network-namespaces.ts";

type Path = "plain" | "vxlan";

const SUBNETS = ["10.18.0.0/26", "10.18.0.64/26"];
const RAW_SENDER = join(import.meta.dirname, "../support/raw-sender.ts");
/** More than the idle time of flow.bpf.c. */
const LONG_PAUSE_MS = 16_000;
const UDP = 17;
/** Protocol of a raw socket that is given whole packets. */
const RAW = 255;

if (isInside(import.meta.filename)) defineTests();

function defineTests(): void {
  let workers: LabWorker[] = [];
  let one: LabWorker;
  let two: LabWorker;
  const sandboxes = new Map<string, Sandbox>();
  const clients = new Map<string, FlowClient>();
  let lastFlow = 0;
  let lastPort = 20_000;

  const client = (name: string) => clients.get(name)!;
  const addressOf = (name: string) => sandboxes.get(name)!.address;
  const newPort = () => ++lastPort;

  /** `near` is served on the first worker, `far` on the second, `pair` by two there, `other` by the first of these. */
  const HOSTS = { near: "10.30.5.1", far: "10.30.5.2", pair: "10.30.5.3", other: "10.30.5.4", brief: "10.30.5.5" };
  const MEMBERS = { near: ["12"], far: ["21"], pair: ["21", "22"], other: ["21"] };

  function services(members: Partial<Record<keyof typeof HOSTS, readonly string[]>> = {}): ServiceRoutes[] {
    return Object.entries({ ...MEMBERS, ...members }).map(([id, names]) => {
      const host = HOSTS[id as keyof typeof HOSTS];
      return {
        id,
        roundRobin: host,
        closest: host.replace("10.30.5.", "10.30.6."),
        instances: names.map((name) => ({
          address: `${host.replace("10.30.5.", "10.30.10")}.${name}`,
          sandbox: addressOf(name),
        })),
      };
    });
  }

  async function setRoutes(
    path: Path,
    { members, addresses }: { members?: Parameters<typeof services>[0]; addresses?: readonly string[] } = {},
  ): Promise<void> {
    for (const [index, { agent }] of workers.entries()) {
      const other = 1 - index;
      const address = addresses?.[other] ?? workers[other]!.address;
      const peer = { id: `worker-${other}`, address, subnets: [SUBNETS[other]!], path };
      await agent.setRoutes({ services: services(members), peers: [peer] });
    }
  }

  /** Neighbours are known for a while before packets go that way. */
  async function usePath(path: Path): Promise<void> {
    await setRoutes(path);
    const way = path === "plain" ? /dev up0/ : /dev oakvx/;
    for (const [index, worker] of workers.entries()) {
      await eventually(async () => way.test(await worker.run("ip", "route", "show", SUBNETS[1 - index]!)), {
        what: `a route of worker ${index + 1} by ${path}`,
      });
    }
  }

  async function setUp(worker: LabWorker, address = worker.address): Promise<void> {
    await worker.agent.configure({ subnets: [SUBNETS[worker.number - 1]!], address });
    for (const name of sandboxes.keys()) {
      if (name.startsWith(String(worker.number))) await worker.agent.setIdentity(name, `10.30.1.${name}`);
    }
  }

  async function addSandbox(name: string): Promise<void> {
    const worker = workers[Number(name[0]) - 1]!;
    await worker.agent.setIdentity(name, `10.30.1.${name}`);
    const sandbox = await worker.agent.attach(name);
    sandboxes.set(name, sandbox);
    clients.set(name, await worker.enterFlows(sandbox, name));
  }

  async function open(name: string, host: string, localPort?: number): Promise<{ id: number; server: string }> {
    const id = ++lastFlow;
    return { id, server: await client(name).open(id, { host, ...(localPort === undefined ? {} : { localPort }) }) };
  }

  async function openUdp(name: string, host: string, localPort?: number): Promise<number> {
    const id = ++lastFlow;
    await client(name).openUdp(id, { host, ...(localPort === undefined ? {} : { localPort }) });
    return id;
  }

  /** Packets that the worker's IP layer has forwarded: those on the fast path never get there. */
  async function forwarded({ run }: LabWorker | { run: LabWorker["run"] }): Promise<number> {
    const [names, values] = (await run("cat", "/proc/net/snmp")).split("\n").map((line) => line.split(" ")) as [
      string[],
      string[],
    ];
    return Number(values[names.indexOf("ForwDatagrams")]);
  }

  async function sentBy(worker: LabWorker, name: string): Promise<number> {
    const [link] = JSON.parse(await worker.run("ip", "-stats", "-json", "link", "show", name));
    return link.stats64.tx.packets;
  }

  const reader = (worker: LabWorker) => ({ run: (...args: string[]) => worker.run(...args) });

  /** Of a thousand round trips: how many packets the rules of each worker saw. */
  async function seenByRules(name: string, id: number): Promise<number[]> {
    assert.equal(await client(name).roundTrips(id, 60), "same");
    const before = await Promise.all(workers.map((worker) => forwarded(reader(worker))));
    assert.equal(await client(name).roundTrips(id, 1000), "same");
    const now = await Promise.all(workers.map((worker) => forwarded(reader(worker))));
    return now.map((count, index) => count - before[index]!);
  }

  /** Few of 2,000: one each way every two seconds, as the connection table wants it. An agent that has just started takes its time. */
  async function assertFast(name: string, id: number): Promise<void> {
    const isFast = async () => {
      const seen = await seenByRules(name, id);
      if (seen.every((count) => count < 100)) return true;
      throw new Error(`of 2,000 packets the rules of the workers saw ${seen.join(" and ")}`);
    };
    await eventually(isFast, { withinMs: 5000, what: "the fast path" });
  }

  async function tracked(...filter: string[]): Promise<string> {
    return await one.run("sh", "-c", 'conntrack -L "$@" 2>/dev/null', "sh", ...filter);
  }

  before(async () => {
    await makeSegments();
    workers = await Promise.all([makeWorker(1, "a"), makeWorker(2, "a")]);
    [one, two] = workers as [LabWorker, LabWorker];
    for (const worker of workers) {
      await setUp(worker);
      await worker.agent.start();
      const state = await worker.agent.fastPath();
      assert.ok(
        state.on,
        `these tests need a kernel with the fast path, and this one has none: ${JSON.stringify(state)}`,
      );
    }
    for (const name of ["11", "12", "21", "22"]) await addSandbox(name);
    await usePath("vxlan");
  });
  after(removeLab);

  test("packets of a flow hardly meet the rules, by tunnel, by plain route and on the same worker", async () => {
    const far = await open("11", HOSTS.far);
    const before = await sentBy(one, "oakvx");
    await assertFast("11", far.id);
    assert.ok((await sentBy(one, "oakvx")) - before < 150, "the tunnel's own link sends what the rules have seen");
    const near = await open("11", HOSTS.near);
    await assertFast("11", near.id);
    const itself = await open("12", HOSTS.near);
    await assertFast("12", itself.id);
    await usePath("plain");
    const plain = await open("11", HOSTS.far);
    await assertFast("11", plain.id);
    assert.deepEqual(
      [far, near, itself, plain].map(({ server }) => server),
      ["21", "12", "12", "21"],
    );
  });

  test("connections of the worker itself are left alone", async () => {
    const host = await one.enterFlows("host", "host");
    for (const path of ["vxlan", "plain"] as const) {
      await usePath(path);
      for (const [id, service] of [HOSTS.far, HOSTS.near].entries()) {
        assert.match(await host.open(id, { host: service }), /^(?:21|12)$/);
        assert.equal(await host.roundTrips(id, 300), "same", `${path} ${service}`);
        await host.end(id, "reset");
      }
    }
    host.process.kill();
  });

  test("megabytes and datagrams of every size arrive as they were sent, there and back", async () => {
    const lengths = Array.from({ length: 280 }, (_, index) => 1 + index * 5);
    for (const [path, service] of [
      ["vxlan", HOSTS.far],
      ["plain", HOSTS.far],
      ["plain", HOSTS.near],
    ] as const) {
      await usePath(path);
      const { id } = await open("11", service);
      assert.equal(await client("11").roundTrips(id, 60), "same");
      for (let round = 0; round < 3; round++) assert.equal(await client("11").transfer(id, 4 << 20), "same", path);
      await assertFast("11", id);
      const udp = await openUdp("11", service);
      const before = await forwarded(reader(one));
      const server = service === HOSTS.near ? "12" : "21";
      assert.deepEqual(await client("11").datagrams(udp, lengths), [server]);
      const seen = (await forwarded(reader(one))) - before;
      assert.ok(seen < 150, `the rules saw ${seen} of 560 datagrams`);
      const mixed = lengths.flatMap((length) => (length % 7 === 0 ? [length, 4000] : []));
      assert.deepEqual(await client("11").datagrams(udp, mixed), [server]);
    }
  });

  test("after an orderly end the connection table knows of it, and the same port leads where the rules say", async () => {
    await usePath("vxlan");
    const localPort = newPort();
    const servers: string[] = [];
    for (let round = 0; round < 6; round++) {
      const { id, server } = await open("11", HOSTS.pair, localPort);
      servers.push(server);
      assert.equal(await client("11").roundTrips(id, 100), "same");
      await client("11").end(id, "close");
      const entry = await tracked("-p", "tcp", "--orig-port-src", String(localPort));
      assert.match(entry, / (?:TIME_WAIT|CLOSE|LAST_ACK) .*dst=10\.30\.5\.3 /);
    }
    const [first, second] = servers[0] === "21" ? ["21", "22"] : ["22", "21"];
    assert.deepEqual(servers, [first, second, first, second, first, second]);
  });

  test("after a reset the connection table forgets it in seconds, and the same port can be used again at once", async () => {
    await usePath("vxlan");
    const localPort = newPort();
    for (let round = 0; round < 6; round++) {
      const { id, server } = await open("11", HOSTS.pair, localPort);
      assert.match(server, /^2[12]$/);
      assert.equal(await client("11").roundTrips(id, 100), "same");
      await client("11").end(id, "reset");
      const entry = await tracked("-p", "tcp", "--orig-port-src", String(localPort));
      // The kernel keeps the state's name where it has not seen the acknowledgement that the reset fits, and ends it all the same.
      const [, seconds] = /^tcp +6 (\d+) .*dst=10\.30\.5\.3 /.exec(entry) ?? [];
      assert.ok(Number(seconds) <= 10, entry);
    }
  });

  test("a connection goes on when its path changes, on both sides or one, and is fast again", async () => {
    const { id } = await open("11", HOSTS.far);
    for (const path of ["plain", "vxlan", "plain"] as const) {
      const [peer] = [{ id: "worker-1", address: two.address, subnets: [SUBNETS[1]!], path }];
      await one.agent.setRoutes({ services: services(), peers: [peer] });
      assert.equal(await client("11").roundTrips(id, 100), "same", `half ${path}`);
      await usePath(path);
      assert.equal(await client("11").roundTrips(id, 100), "same", path);
      await assertFast("11", id);
    }
  });

  test("clients of a server that is flushed are refused at once, on another worker and on the same one, and others go on", async () => {
    await addSandbox("14");
    const { id: stays } = await open("11", HOSTS.far);
    assert.equal(await client("11").roundTrips(stays, 100), "same");
    for (const [members, victim] of [
      [["21", "22"], "22"],
      [["21", "14"], "14"],
    ] as const) {
      await setRoutes("vxlan", { members: { brief: members } });
      const both = [await open("11", HOSTS.brief), await open("11", HOSTS.brief)];
      for (const { id } of both) assert.equal(await client("11").roundTrips(id, 100), "same");
      await setRoutes("vxlan", { members: { brief: ["21"] } });
      if (victim === "14") await one.agent.detach(victim);
      else await one.agent.flush(addressOf(victim));
      for (const { id, server } of both) {
        const outcome = await client("11").roundTrips(id, 100);
        assert.equal(outcome, server === victim ? "ECONNRESET (after 0)" : "same");
      }
    }
    client("14").process.kill();
    assert.equal(await client("11").roundTrips(stays, 100), "same");
  });

  test("a flow passes the rules when the agent is killed or has the fast path switched off, and is fast again with the next agent", async () => {
    await usePath("vxlan");
    const { id } = await open("11", HOSTS.far);
    await assertFast("11", id);
    const killAgent = async () => {
      const { process: child } = one.agent;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    };
    const restart = async () => {
      await one.startAgent();
      await setUp(one);
      await one.agent.setRoutes({
        services: services(),
        peers: [{ id: "worker-1", address: two.address, subnets: [SUBNETS[1]!], path: "vxlan" }],
      });
      await one.agent.start();
    };
    await killAgent();
    const [dead] = await seenByRules("11", id);
    assert.ok(dead! >= 2000, `without an agent the rules saw ${dead} of 2,000 packets`);
    Object.assign(process.env, { OAK_FAST_PATH: "off" });
    await restart();
    Reflect.deleteProperty(process.env, "OAK_FAST_PATH");
    assert.deepEqual(await one.agent.fastPath(), { on: false, reason: "switched off by a setting" });
    const [off] = await seenByRules("11", id);
    assert.ok(off! >= 2000, `switched off the rules saw ${off} of 2,000 packets`);
    await killAgent();
    await restart();
    await assertFast("11", id);
  });

  test("addresses and ports of a known flow do not help another sandbox, nor another machine", async () => {
    await usePath("plain");
    const [port, serverPort] = [newPort(), 80];
    const id = await openUdp("11", HOSTS.far, port);
    assert.deepEqual(await client("11").datagrams(id, Array(60).fill(8)), ["21"]);
    const node = [process.execPath, ...process.execArgv, RAW_SENDER, String(RAW)];
    const there = { source: addressOf("11"), target: HOSTS.far, ports: [port, serverPort] } as const;
    await one.inSandbox(addressOf("12"), ...node, HOSTS.far, udpPacket(there), "40");
    const instance = "10.30.1.11";
    const back = { source: addressOf("21"), target: instance, ports: [serverPort, port] } as const;
    await runHere("ip", "route", "add", instance, "via", one.address, "dev", "sega");
    await runHere(...node, instance, udpPacket(back), "40");
    await runHere("ip", "route", "delete", instance);
    assert.deepEqual(await client("11").datagrams(id, Array(60).fill(8)), ["21"]);
    for (const name of ["11", "21"]) assert.equal(await client(name).countReceived("forged"), 0, name);
    // The same from where they may come from.
    await one.inSandbox(addressOf("11"), ...node, HOSTS.far, udpPacket(there), "1");
    await eventually(async () => (await client("21").countReceived("forged")) === 1);
  });

  test("a datagram that is too long for the tunnel is told to its sender, which then sends fragments", async () => {
    await usePath("vxlan");
    const id = await openUdp("11", HOSTS.far);
    assert.deepEqual(await client("11").datagrams(id, Array(60).fill(100)), ["21"]);
    assert.deepEqual(await client("11").datagrams(id, [1460]), ["none"]);
    assert.match(await one.inSandbox(addressOf("11"), "ip", "route", "get", HOSTS.far), /mtu 1450/);
    // Its answer is too long as well, and the server learns that now.
    await client("11").datagrams(id, [1460]);
    assert.deepEqual(await client("11").datagrams(id, [1460, 100, 1460]), ["21"]);
  });

  test("tunnels of instances among themselves pass: what cannot be put into a tunnel once more takes the rules", async () => {
    await usePath("vxlan");
    // Without an instance's address, so that answers have the addresses that the other end's tunnel expects.
    const ends = await Promise.all([one.agent.attach("nested-1"), two.agent.attach("nested-2")]);
    for (const [index, { address }] of ends.entries()) {
      const worker = workers[index]!;
      const link = `link add nested type vxlan id 7 dstport 4789 srcport 4789 4790 local ${address} remote ${ends[1 - index]!.address} dev eth0`;
      for (const command of [link, `address add 172.31.9.${index + 1}/24 dev nested`, "link set nested mtu 1350 up"])
        await worker.inSandbox(address, "ip", ...command.split(" "));
    }
    const [near, far] = [await one.enterFlows(ends[0]!, "nested-1"), await two.enterFlows(ends[1]!, "nested-2")];
    const flow = await near.open(1, { host: "172.31.9.2" });
    assert.equal(flow, "nested-2");
    for (let round = 0; round < 4; round++) assert.equal(await near.roundTrips(1, 50), "same");
    for (const { process: child } of [near, far]) child.kill();
    await Promise.all([one.agent.detach("nested-1"), two.agent.detach("nested-2")]);
  });

  test("where the host has a policy for outgoing packets, such as IPsec, tunnel packets are left to its own way out", async () => {
    await usePath("vxlan");
    const { id } = await open("11", HOSTS.far);
    await assertFast("11", id);
    const selector = ["dir", "out", "dst", two.address, "proto", "udp", "dport", "50103"];
    await one.run("ip", "xfrm", "policy", "add", ...selector, "action", "allow");
    await one.agent.check();
    const [seen] = await seenByRules("11", id);
    assert.ok(seen! >= 900, `the rules of the worker saw ${seen} packets of 1,000 round trips`);
    await one.run("ip", "xfrm", "policy", "delete", ...selector);
    await one.agent.check();
    await assertFast("11", id);
  });

  test("after a long pause flows go on as the rules say, and nothing of what was known before is left", async () => {
    const { id } = await open("11", HOSTS.far);
    assert.equal(await client("11").roundTrips(id, 100), "same");
    const [port, silentPort] = [newPort(), newPort()];
    const udp = await openUdp("11", HOSTS.pair, port);
    const [first] = await client("11").datagrams(udp, Array(100).fill(8));
    const silent = await openUdp("11", HOSTS.far, silentPort);
    await client("11").sendSilently(silent, 100);
    await client("11").closeUdp(silent);
    await new Promise((resolve) => setTimeout(resolve, LONG_PAUSE_MS));
    for (const forgotten of [port, silentPort]) {
      await one.run("conntrack", "-D", "-p", "udp", "--orig-port-src", String(forgotten));
    }
    assert.deepEqual(await client("11").datagrams(udp, Array(100).fill(8)), [first === "21" ? "22" : "21"]);
    // The server never answered: its answers to the next flow of that port are the next flow's.
    const other = await openUdp("11", HOSTS.other, silentPort);
    assert.deepEqual(await client("11").datagrams(other, Array(100).fill(8)), ["21"]);
    await assertFast("11", id);
  });

  test("flows that are fast, forgotten and known again many times do not become slow", async () => {
    const { id } = await open("11", HOSTS.far);
    for (let round = 0; round < 12; round++) {
      assert.equal(await client("11").roundTrips(id, 100), "same");
      for (const { agent } of workers) await agent.flush("10.18.0.60");
    }
    for (const count of await seenByRules("11", id)) assert.ok(count < 500, `the rules saw ${count} of 2,000 packets`);
  });

  test("a flood of flows costs the agent little", async () => {
    const before = await one.agent.cost();
    const { id } = await open("11", HOSTS.far);
    await assertFast("11", id);
    await client("12").floodFlows(HOSTS.far, 5000, 20);
    const startedAt = performance.now();
    await one.agent.freeAddresses();
    assert.ok(performance.now() - startedAt < 500, "the agent answers");
    const now = await one.agent.cost();
    assert.ok(now.cpuMs - before.cpuMs < 1500, `${now.cpuMs - before.cpuMs} ms of CPU`);
    assert.ok(now.memoryMiB - before.memoryMiB < 40, `${now.memoryMiB - before.memoryMiB} MiB`);
    await assertFast("11", id);
  });

  test("tunnel packets leave by the link that the host's routes say, which need not be that of the worker's address", async () => {
    await usePath("vxlan");
    const { id } = await open("11", HOSTS.far);
    await assertFast("11", id);
    await runHere("ip", "link", "add", "port11", "type", "veth", "peer", "name", "up1", "netns", one.pid);
    await runHere("ip", "link", "set", "port11", "master", "sega", "up");
    await one.run("ip", "link", "set", "up1", "up");
    // Answers may come by either link: a loose check of sources lets them pass, on links with an address.
    await one.run("ip", "address", "add", "198.51.100.1/32", "dev", "up1");
    for (const link of ["up0", "up1"]) {
      await one.run("sh", "-c", 'echo 2 >"/proc/sys/net/ipv4/conf/$1/rp_filter"', "sh", link);
    }
    await one.run("ip", "route", "add", two.address, "dev", "up1");
    await one.agent.check();
    const before = await sentBy(one, "up1");
    await assertFast("11", id);
    assert.ok((await sentBy(one, "up1")) - before >= 1000);
    await one.run("ip", "route", "delete", two.address, "dev", "up1");
    await one.agent.check();
    const after = await sentBy(one, "up1");
    await assertFast("11", id);
    assert.ok((await sentBy(one, "up1")) - after < 100);
  });

  test("a connection goes on when its server's worker moves to another address", async () => {
    await usePath("vxlan");
    const { id } = await open("11", HOSTS.far);
    await assertFast("11", id);
    await two.run("ip", "address", "delete", `${two.address}/24`, "dev", "up0");
    await two.run("ip", "address", "add", "192.0.2.22/24", "dev", "up0");
    await two.run("ip", "route", "replace", "default", "via", "192.0.2.254");
    await setUp(two, "192.0.2.22");
    await setRoutes("vxlan", { addresses: [one.address, "192.0.2.22"] });
    await assertFast("11", id);
  });
}

async function runHere(...[program = "", ...args]: string[]): Promise<void> {
  await exec(program, args);
}

/** In hexadecimal; without a checksum of UDP. */
function udpPacket({
  source,
  target,
  ports,
}: {
  source: string;
  target: string;
  ports: readonly [number, number];
}): string {
  const body = Buffer.from("forged");
  const packet = Buffer.alloc(28 + body.length);
  packet[0] = 0x45;
  packet.writeUInt16BE(packet.length, 2);
  packet[8] = 64;
  packet[9] = UDP;
  packet.writeUInt32BE(parseAddress(source)!, 12);
  packet.writeUInt32BE(parseAddress(target)!, 16);
  packet.writeUInt16BE(ports[0], 20);
  packet.writeUInt16BE(ports[1], 22);
  packet.writeUInt16BE(8 + body.length, 24);
  body.copy(packet, 28);
  return packet.toString("hex");
}
