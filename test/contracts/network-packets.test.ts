/** The packet paths of src/net/README.md, with real packets between real namespaces. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { exec } from "../../src/base/exec.ts";
import { type Logger, silentLogger } from "../../src/base/log.ts";
import { LinuxNetwork } from "../../src/net/linux-network.ts";
import type { Sandbox } from "../../src/net/network.ts";
import { eventually } from "../support/lab-host.ts";
import { ip, isInside, listen, makeOutside, OUTSIDE_ADDRESS, WORKER_ADDRESS } from "./network-namespaces.ts";

const A = "65f0c0ffee65f0c0ffee0001-0";
const B = "65f0c0ffee65f0c0ffee0001-1";
const BRIDGE_ADDRESS = "10.18.0.1";
const signal = new AbortController().signal;

/** Answers on TCP and UDP port 80 with its name and the client's address, and keeps TCP connections open. */
const SERVER = `
const name = process.argv[1];
const hello = (address) => name + " " + address.replace("::ffff:", "");
require("node:net").createServer((socket) => {
  socket.write(hello(socket.remoteAddress) + "\\n");
  socket.on("data", (chunk) => socket.write(chunk)).on("error", () => {});
}).listen(80, "0.0.0.0");
const udp = require("node:dgram").createSocket("udp4");
udp.on("message", (_, from) => udp.send(hello(from.address), from.port, from.address));
udp.bind(80, "0.0.0.0", () => console.log("ready"));
`;
/** Prints the first line that the server sends, or "none" after 400 ms. */
const CLIENT = `
const [protocol, host, port, source] = process.argv.slice(1);
const done = (text) => { console.log(String(text).split("\\n")[0]); process.exit(); };
setTimeout(() => done("none"), 400);
if (protocol === "tcp") {
  require("node:net").connect({ port: Number(port), host, localAddress: source || undefined })
    .on("data", done).on("error", (error) => done(error.code));
} else {
  const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", done).bind({ address: source }, () => socket.send("?", Number(port), host));
}
`;

if (isInside(import.meta.filename)) defineTests();

function defineTests(): void {
  const stateDir = mkdtempSync(join(tmpdir(), "oak-net-"));
  const children: ChildProcess[] = [];
  /** What the agent says of changes that others made. */
  const foreign: unknown[] = [];
  const log: Logger = {
    ...silentLogger,
    warn: ({ program }, message) => {
      if (message.startsWith("another program changed")) foreign.push(program);
    },
  };
  let network = makeNetwork();
  let a: Sandbox;
  let b: Sandbox;

  function makeNetwork(): LinuxNetwork {
    return new LinuxNetwork({ stateDir, subnet: "10.18.0.0/24", log, clock: systemClock });
  }

  function listed(): Sandbox[] {
    return network.list().toSorted((one, other) => one.instanceId.localeCompare(other.instanceId));
  }

  function run(where: Sandbox | "outside" | "worker", args: readonly string[]): ChildProcess {
    const name = typeof where === "string" ? where : where.namespacePath.slice("/run/netns/".length);
    const inside = name === "worker" ? args : ["ip", "netns", "exec", name, ...args];
    const child = spawn(inside[0]!, inside.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
    children.push(child);
    return child;
  }

  async function serve(where: Sandbox | "outside", name: string): Promise<void> {
    await firstLine(run(where, [process.execPath, "-e", SERVER, name]));
  }

  function ask(
    from: Sandbox | "outside" | "worker",
    host: string,
    port: number,
    options: { udp?: boolean; source?: string } = {},
  ): Promise<string> {
    const args = [options.udp ? "udp" : "tcp", host, String(port), options.source ?? ""];
    return firstLine(run(from, [process.execPath, "-e", CLIENT, ...args]));
  }

  before(async () => {
    await makeOutside();
    const umask = process.umask(0o077);
    await network.start(signal);
    process.umask(umask);
    a = await network.attach(A, signal);
    b = await network.attach(B, signal);
    await network.publish(
      A,
      [
        { hostPort: 8080, containerPort: 80, protocol: "tcp" },
        { hostPort: 5353, containerPort: 80, protocol: "udp" },
      ],
      signal,
    );
    await Promise.all([serve(a, "a"), serve(b, "b"), serve("outside", "outside")]);
  });

  after(async () => {
    for (const child of children) child.kill("SIGKILL");
    await network.stop({ purge: true });
    assert.deepEqual(await remains(), []);
    rmSync(stateDir, { recursive: true });
  });

  test("a host port is reached from outside, and the client's address is kept", async () => {
    assert.equal(await ask("outside", WORKER_ADDRESS, 8080), `a ${OUTSIDE_ADDRESS}`);
    assert.equal(await ask("outside", WORKER_ADDRESS, 5353, { udp: true }), `a ${OUTSIDE_ADDRESS}`);
  });

  test("a host port is reached from the worker itself, by each of its addresses", async () => {
    assert.equal(await ask("worker", "127.0.0.1", 8080), `a ${BRIDGE_ADDRESS}`);
    assert.equal(await ask("worker", "127.0.0.1", 5353, { udp: true }), `a ${BRIDGE_ADDRESS}`);
    assert.match(await ask("worker", WORKER_ADDRESS, 8080), /^a /);
    assert.match(await ask("worker", BRIDGE_ADDRESS, 8080), /^a /);
  });

  for (const [setting, meaning] of [
    ["0", "frames pass the bridge only"],
    ["1", "frames on the bridge pass the host's rules too"],
  ] as const) {
    test(`a host port is reached from another instance, and from the one that has it, when ${meaning}`, async () => {
      const file = "/proc/sys/net/bridge/bridge-nf-call-iptables";
      const before = readFileSync(file);
      writeFileSync(file, setting);
      for (const from of [b, a]) {
        assert.equal(await ask(from, WORKER_ADDRESS, 8080), `a ${BRIDGE_ADDRESS}`);
        assert.equal(await ask(from, BRIDGE_ADDRESS, 5353, { udp: true }), `a ${BRIDGE_ADDRESS}`);
      }
      assert.equal(await ask(a, b.address, 80), `b ${a.address}`);
      writeFileSync(file, before);
    });
  }

  test("instances of one worker reach each other, and see each other's address", async () => {
    assert.equal(await ask(a, b.address, 80), `b ${a.address}`);
    assert.equal(await ask(b, a.address, 80, { udp: true }), `a ${b.address}`);
  });

  test("any user of a container may read its resolv.conf, whatever the umask", () => {
    assert.equal(statSync(a.resolvConf).mode & 0o777, 0o644);
  });

  test("what leaves the worker has the worker's address", async () => {
    assert.equal(await ask(a, OUTSIDE_ADDRESS, 80), `outside ${WORKER_ADDRESS}`);
    assert.equal(await ask(a, OUTSIDE_ADDRESS, 80, { udp: true }), `outside ${WORKER_ADDRESS}`);
  });

  test("a packet with another source address, or another MAC, is dropped", async () => {
    const name = a.namespacePath.slice("/run/netns/".length);
    const spoofed = "10.18.0.77";
    await exec("ip", ["-n", name, "address", "add", `${spoofed}/32`, "dev", "eth0"]);
    assert.equal(await ask(a, b.address, 80, { source: spoofed }), "none");
    assert.equal(await ask(a, OUTSIDE_ADDRESS, 80, { udp: true, source: spoofed }), "none");
    await exec("ip", ["-n", name, "address", "delete", `${spoofed}/32`, "dev", "eth0"]);
    assert.equal(await ask(a, b.address, 80), `b ${a.address}`);
    const mac = readMac(await exec("ip", ["-n", name, "link", "show", "eth0"]));
    await exec("ip", ["-n", name, "link", "set", "eth0", "address", "02:6f:0a:12:00:63"]);
    assert.equal(await ask(a, b.address, 80), "none");
    await exec("ip", ["-n", name, "link", "set", "eth0", "address", mac]);
  });

  test("an instance does not reach what listens on the worker's loopback only", async () => {
    const server = await listen(9000, "127.0.0.1");
    const name = a.namespacePath.slice("/run/netns/".length);
    await exec("ip", ["-n", name, "address", "delete", "127.0.0.1/8", "dev", "lo"]);
    await exec("ip", ["netns", "exec", name, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet"]);
    await exec("ip", ["-n", name, "route", "add", "127.0.0.1", "via", BRIDGE_ADDRESS, "dev", "eth0", "onlink"]);
    assert.equal(await ask(a, "127.0.0.1", 9000, { source: a.address }), "none");
    assert.equal(await ask("worker", "127.0.0.1", 9000), "worker");
    await exec("ip", ["-n", name, "route", "delete", "127.0.0.1"]);
    await exec("ip", ["-n", name, "address", "add", "127.0.0.1/8", "dev", "lo"]);
    server.close();
  });

  test("outside reaches published ports only", async () => {
    await exec("ip", ["-n", "outside", "route", "add", "10.18.0.0/24", "via", WORKER_ADDRESS]);
    assert.equal(await ask("outside", a.address, 80), "none");
    await exec("ip", ["-n", "outside", "route", "delete", "10.18.0.0/24"]);
  });

  test("links of instances have the MTU of the link that leads out", async () => {
    const name = a.namespacePath.slice("/run/netns/".length);
    assert.match(await exec("ip", ["-n", name, "link", "show", "eth0"]), /mtu 1400 /);
  });

  test("a resolver on another loopback address is no holder, and its port is left alone there", async () => {
    const server = await listen(8053, "127.0.0.53");
    await network.publish(B, [{ hostPort: 8053, containerPort: 80, protocol: "tcp" }], signal);
    assert.equal(await ask("worker", "127.0.0.53", 8053), "worker");
    assert.match(await ask("worker", "127.0.0.1", 8053), /^b /);
    server.close();
    await network.unpublish(B, signal);
  });

  test("connections flow on while the agent is away, and a new one adopts sandboxes and ports", async () => {
    const before = listed();
    const client = run("outside", [process.execPath, "-e", TALKER, WORKER_ADDRESS, "8080"]);
    assert.equal(await say(client, "first"), "first");
    await network.stop({ purge: false });
    assert.equal(await say(client, "second"), "second");
    network = makeNetwork();
    await network.start(signal);
    assert.deepEqual(listed(), before);
    assert.equal(await say(client, "third"), "third");
    assert.deepEqual(await network.attach(A, signal), a);
    assert.equal(await ask("outside", WORKER_ADDRESS, 8080), `a ${OUTSIDE_ADDRESS}`);
    const taken = network.publish(B, [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }], signal);
    await assert.rejects(taken, { code: "PORT_BUSY", message: new RegExp(A) });
  });

  test("tables that another program flushed come back with the next change", async () => {
    await exec("nft", ["flush", "ruleset"]);
    await network.publish(B, [{ hostPort: 8081, containerPort: 80, protocol: "tcp" }], signal);
    assert.equal(await ask("outside", WORKER_ADDRESS, 8080), `a ${OUTSIDE_ADDRESS}`);
    assert.equal(await ask("outside", WORKER_ADDRESS, 8081), `b ${OUTSIDE_ADDRESS}`);
    await network.unpublish(B, signal);
    assert.notEqual(await ask("outside", WORKER_ADDRESS, 8081), `b ${OUTSIDE_ADDRESS}`);
  });

  test("rules and single elements that another program removed come back by themselves, at once", async () => {
    const damage = async (command: string) => {
      foreign.length = 0;
      await exec("nft", command.split(" "));
      // The look at everything every half minute would find some of this as well.
      await eventually(() => foreign.includes("nft"), { withinMs: 10_000, what: `the repair after "${command}"` });
      assert.equal(await ask("outside", WORKER_ADDRESS, 8080), `a ${OUTSIDE_ADDRESS}`, command);
    };
    for (const command of ["flush ruleset", "delete table ip oakestra"]) await damage(command);
    const talker = run("outside", [process.execPath, "-e", TALKER, WORKER_ADDRESS, "8080"]);
    for (const command of [
      "delete element ip oakestra host_ports { tcp . 8080 }",
      "flush set ip oakestra sandboxes",
      "insert rule ip oakestra forward drop",
    ]) {
      assert.equal(await say(talker, "before"), "before");
      await damage(command);
      assert.equal(await say(talker, "after"), "after", command);
    }
    await exec("nft", ["add table ip other; add chain ip other c; delete table ip other"]);
    foreign.length = 0;
    await network.publish(B, [{ hostPort: 8082, containerPort: 80, protocol: "tcp" }], signal);
    await network.unpublish(B, signal);
    await systemClock.sleep(500);
    assert.deepEqual(foreign, [], "what we change ourselves, and what is not ours, is no reason for a repair");
  });

  test("an agent that died in the middle leaves orphans, which the next one removes", async () => {
    await network.stop({ purge: false });
    await exec("ip", ["netns", "add", "oak-10.18.0.50"]);
    await ip("link add oak0a120033 type veth peer name orphan");
    network = makeNetwork();
    await network.start(signal);
    await eventually(async () => !(await remains()).some((name) => /10\.18\.0\.50|0a120033/.test(name)));
    assert.deepEqual(
      listed().map(({ instanceId }) => instanceId),
      [A, B],
    );
  });

  test("a second worker on the machine is refused before it changes anything", async () => {
    // The first one may make more of them meanwhile.
    const linkNames = async () => (await exec("ip", ["-brief", "link", "show"])).match(/^\S+/gm) ?? [];
    const before = await linkNames();
    const second = new LinuxNetwork({ stateDir, subnet: "10.18.4.0/24", log: silentLogger, clock: systemClock });
    await assert.rejects(second.start(signal), /Another worker runs on this machine/);
    const after = new Set(await linkNames());
    assert.deepEqual(
      before.filter((name) => !after.has(name)),
      [],
    );
  });

  test("a subnet that the host routes elsewhere is refused, naming the route", async () => {
    await ip("route add 10.44.0.0/16 via 198.51.100.2");
    const other = new LinuxNetwork({ stateDir, subnet: "10.44.8.0/22", log: silentLogger, clock: systemClock });
    await assert.rejects(other.start(signal), { code: "NET_CLASH", message: /10\.44\.0\.0\/16 dev up0.*"subnet"/ });
    await ip("route delete 10.44.0.0/16");
  });

  test("100 sandboxes come and go without a trace", async () => {
    await network.attach("warm-0", signal);
    await network.detach("warm-0", signal);
    const before = await settledRemains();
    const descriptorsBefore = openDescriptors();
    for (let round = 0; round < 25; round++) {
      await Promise.all(
        [0, 1, 2, 3].map(async (number) => {
          const instanceId = `cycle-${round}-${number}`;
          await network.attach(instanceId, signal);
          await network.publish(instanceId, [{ hostPort: 9100 + number, containerPort: 80, protocol: "tcp" }], signal);
          await network.detach(instanceId, signal);
        }),
      );
    }
    assert.equal((await settledRemains()).length, before.length);
    await eventually(() => openDescriptors() <= descriptorsBefore);
  });

  /** Once nothing is on its way in or out any more: the same at two looks. */
  async function settledRemains(): Promise<string[]> {
    return eventually(async () => {
      const first = await steadyRemains();
      await systemClock.sleep(500);
      const second = await steadyRemains();
      return first.length === second.length ? second : undefined;
    });
  }

  /** Kernel objects of ours, once the warm pool is full: with the worker's own there are three links more than namespaces. */
  async function steadyRemains(): Promise<string[]> {
    const full = network.list().length + 2;
    return eventually(async () => {
      const names = await remains();
      const count = (kind: string) => names.filter((name) => name.startsWith(kind)).length;
      return count("namespace ") === full && count("link ") === full + 3 ? names : undefined;
    });
  }
}

/** Keeps one connection, sends it what comes on standard input, and prints what comes back. */
const TALKER = `
const socket = require("node:net").connect(Number(process.argv[2]), process.argv[1]);
socket.once("data", () => { socket.on("data", (chunk) => process.stdout.write(chunk)); process.stdout.write("connected\\n"); });
process.stdin.on("data", (chunk) => socket.write(chunk));
`;
const connected = new WeakSet<ChildProcess>();

async function say(talker: ChildProcess, word: string): Promise<string> {
  if (!connected.has(talker)) await firstLine(talker);
  connected.add(talker);
  talker.stdin!.write(`${word}\n`);
  return firstLine(talker);
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error("no output within 5 s")), 5000);
    child.stdout!.once("data", (chunk: Buffer) => {
      clearTimeout(limit);
      resolve(chunk.toString().trim());
    });
    child.once("error", reject);
  });
}

/** Of this process, and of the long-lived `ip`: a namespace that is kept open is never destroyed. */
function openDescriptors(): number {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ");
  const longLived = children.filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("ip\0-force"));
  assert.equal(longLived.length, 1);
  return [String(process.pid), ...longLived].reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
}

function readMac(link: string): string {
  return /link\/ether (\S+)/.exec(link)![1]!;
}

async function remains(): Promise<string[]> {
  const [links, ruleset] = await Promise.all([exec("ip", ["-brief", "link"]), exec("nft", ["list", "ruleset"])]);
  return [
    ...readdirSync("/run/netns")
      .filter((name) => name.startsWith("oak-"))
      .map((name) => `namespace ${name}`),
    ...links
      .split("\n")
      .filter((line) => line.startsWith("oak"))
      .map((line) => `link ${line.split(/[ @]/)[0]}`),
    ...ruleset
      .split("\n")
      .filter((line) => /oakestra|"oak0a|10\.18\./.test(line))
      .flatMap((line) => line.split("}, ")),
  ];
}
