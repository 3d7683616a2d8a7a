/** What a service address costs, beside what it is made of. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ip, isInside } from "../../test/contracts/network-namespaces.ts";
import { type LabWorker, makeSegments, makeWorker, removeLab, type Sandbox } from "../../test/support/overlay-lab.ts";
import { BARE, enterBare, makeBareHosts } from "../lib/bare-hosts.ts";
import { keep, median, spread, table, verdict } from "../lib/report.ts";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, ms: { type: "string", default: "400" } },
});
const BENCH = join(import.meta.dirname, "socket-bench.ts");
const KINDS = ["stream", "stream1", "rtt", "connect"] as const;
type Kind = (typeof KINDS)[number];

/** 10.97.3.2 is a service of one container. */
const PEER_RULES = [
  "table ip peer",
  "chain ip peer raw { type filter hook prerouting priority -300; udp dport 4799 notrack; }",
  "chain ip peer out { type filter hook output priority -300; udp dport 4799 notrack; }",
  "chain ip peer nat { type nat hook prerouting priority -100; ip daddr 10.97.3.2 dnat to 10.97.2.2; }",
]
  .map((line) => `add ${line}`)
  .join("\n");

interface Path {
  readonly name: string;
  readonly from: readonly string[];
  readonly to: string;
  /** Done before each measurement. */
  readonly prepare?: () => Promise<void>;
}

if (isInside(import.meta.filename)) {
  try {
    await measureAll();
  } finally {
    removeLab();
  }
  process.exit();
}

async function measureAll(): Promise<void> {
  await makeSegments();
  const workers = await Promise.all([makeWorker(1, "a"), makeWorker(2, "a")]);
  const [one, two] = workers as [LabWorker, LabWorker];
  const subnets = ["10.18.0.0/26", "10.18.0.64/26"];
  for (const [index, { agent, address }] of workers.entries()) {
    await agent.configure({ subnets: [subnets[index]!], address });
    await agent.start();
  }
  const sandboxes = await Promise.all([one.agent.attach("11"), one.agent.attach("12"), two.agent.attach("21")]);
  const addresses = sandboxes.map(({ address }) => address);
  const [client, local, remote] = sandboxes as [(typeof sandboxes)[0], (typeof sandboxes)[0], (typeof sandboxes)[0]];
  await one.agent.setIdentity("11", "10.30.1.11");
  const services = [
    {
      id: "local",
      roundRobin: "10.30.5.1",
      closest: "10.30.6.1",
      instances: [{ address: "10.30.1.12", sandbox: local.address }],
    },
    {
      id: "remote",
      roundRobin: "10.30.5.2",
      closest: "10.30.6.2",
      instances: [{ address: "10.30.1.21", sandbox: remote.address }],
    },
  ];
  const peer = (index: number, path: "plain" | "vxlan") => [
    { id: `worker-${index}`, address: workers[index]!.address, subnets: [subnets[index]!], path },
  ];
  const setPath = async (path: "plain" | "vxlan") => {
    await one.agent.setRoutes({ services, peers: peer(1, path) });
    await two.agent.setRoutes({ services, peers: peer(0, path) });
  };
  await setPath("plain");
  await makeBareHosts();
  await makePods();
  const program = (...args: string[]) => ["nice", "-n", "-20", process.execPath, ...process.execArgv, BENCH, ...args];
  for (const sandbox of [local, remote]) {
    const worker = sandbox === local ? one : two;
    await new Promise((resolve) => worker.spawn(sandbox, program("serve")).stdout!.once("data", resolve));
  }
  const bareServers = await Promise.all(["bare2", "pod2"].map((namespace) => serveIn(namespace, program("serve"))));
  // Both ends know each other's MAC by then, so that plain routes are in use.
  await new Promise((resolve) => setTimeout(resolve, 2500));

  const inSandbox = one.enterArgs(client);
  const bare = enterBare(1);
  const pod = ["ip", "netns", "exec", "pod1"];
  await measurePaths([
    { name: "direct veth", from: bare, to: BARE.veth },
    { name: "underlay", from: bare, to: BARE.segment },
    { name: "bare VXLAN", from: bare, to: BARE.vxlan },
    { name: "plain route, containers", from: pod, to: "10.97.3.2", prepare: () => setPods("plain") },
    { name: "VXLAN, containers", from: pod, to: "10.97.3.2", prepare: () => setPods("vxlan") },
    { name: "service, same worker", from: inSandbox, to: "10.30.5.1" },
    { name: "service, plain route", from: inSandbox, to: "10.30.5.2", prepare: () => setPath("plain") },
    { name: "service, VXLAN", from: inSandbox, to: "10.30.5.2", prepare: () => setPath("vxlan") },
  ]);
  for (const server of bareServers) server.kill("SIGKILL");
  await setPath("plain");
  await measureScale(one, { inSandbox, addresses, routes: { services, peers: peer(1, "plain") } });
  await measureRoundRobin(one, client);
  await measureFirstPackets(one, { client, addresses, routes: { services, peers: peer(1, "plain") } });
}

/**
 * A container behind each of the bare hosts, and on the first one rules for a service address: one translation, the least that whoever
 * offers such addresses has to do.
 */
async function makePods(): Promise<void> {
  for (const number of [1, 2]) {
    await ip(`netns add pod${number}`, `link add pod0 netns bare${number} type veth peer name eth0 netns pod${number}`);
    await ipIn(
      `pod${number}`,
      "link set lo up",
      `address add 10.97.${number}.2/24 dev eth0`,
      "link set eth0 mtu 1450 up",
      `route add default via 10.97.${number}.1`,
    );
    await ipIn(`bare${number}`, `address add 10.97.${number}.1/24 dev pod0`, "link set pod0 mtu 1450 up");
    await run(["ip", "netns", "exec", `bare${number}`, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    await run(["ip", "netns", "exec", `bare${number}`, "nft", PEER_RULES]);
  }
}

async function setPods(path: "plain" | "vxlan"): Promise<void> {
  for (const number of [1, 2]) {
    const other = 3 - number;
    const via = path === "plain" ? `192.0.2.10${other} dev und0` : `10.98.0.${other} dev vx`;
    await ipIn(`bare${number}`, `route replace 10.97.${other}.0/24 via ${via}`);
  }
}

async function ipIn(namespace: string, ...commands: readonly string[]): Promise<void> {
  for (const command of commands) await run(["ip", "-n", namespace, ...command.split(" ")]);
}

async function serveIn(namespace: string, program: readonly string[]): Promise<ChildProcess> {
  const server = spawn("ip", ["netns", "exec", namespace, ...program], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => server.stdout.once("data", resolve));
  return server;
}

async function measurePaths(paths: readonly Path[]): Promise<void> {
  const samples = new Map(
    paths.map(({ name }) => [name, { stream: [], stream1: [], rtt: [], connect: [] } as Record<Kind, number[]>]),
  );
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const { name, from, to, prepare } of paths) {
      await prepare?.();
      for (const kind of KINDS) samples.get(name)![kind].push(Number(await bench(from, kind, to)));
    }
  }
  const middle = (name: string, kind: Kind) => median(samples.get(name)![kind]);
  const ratio = (name: string, base: string, kind: Kind) => middle(name, kind) / middle(base, kind);
  table([
    ["path", "TCP Gbit/s", "both ends on one processor", "RTT of 64 B, µs", "new connection, µs"],
    ...paths.map(({ name }) => {
      const { stream, stream1, rtt, connect } = samples.get(name)!;
      return [name, spread(stream, 1), spread(stream1, 1), spread(rtt, 1), spread(connect, 1)];
    }),
  ]);
  for (const [name, base] of [
    ["service, VXLAN", "bare VXLAN"],
    ["service, plain route", "underlay"],
    ["service, VXLAN", "VXLAN, containers"],
    ["service, plain route", "plain route, containers"],
  ] as const) {
    const stream = ratio(name, base, "stream");
    const stream1 = ratio(name, base, "stream1");
    const rtt = ratio(name, base, "rtt");
    verdict(
      `${name}: ${stream.toFixed(2)} × ${base} in throughput, ${stream1.toFixed(2)} on one processor (at least 0.95)`,
      stream >= 0.95 && stream1 >= 0.95,
    );
    verdict(`${name}: ${rtt.toFixed(2)} × ${base} in RTT (at most 1.15)`, rtt <= 1.15);
  }
  keep(import.meta.url, Object.fromEntries(samples));
}

interface Scale {
  readonly inSandbox: readonly string[];
  readonly addresses: readonly string[];
  readonly routes: Parameters<LabWorker["agent"]["fill"]>[2];
}

async function measureScale(worker: LabWorker, { inSandbox, addresses, routes }: Scale): Promise<void> {
  const counts = [10, 10_000];
  const samples = counts.map(
    () => ({ load: [], update: [], rtt: [], connect: [], memory: [] }) as Record<string, number[]>,
  );
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const [index, count] of counts.entries()) {
      const { load, update, rtt, connect, memory } = samples[index]!;
      load!.push(await worker.agent.fill(count, addresses, routes));
      update!.push(...(await worker.agent.update(40, addresses)));
      rtt!.push(Number(await bench(inSandbox, "rtt", "10.30.5.1")));
      connect!.push(Number(await bench(inSandbox, "connect", "10.30.5.1")));
      memory!.push((await worker.agent.cost()).memoryMiB);
    }
  }
  table([
    ["services × 3", "load, ms", "update of one, ms", "RTT, µs", "new connection, µs", "agent RSS, MiB"],
    ...samples.map(({ load, update, rtt, connect, memory }, index) => [
      String(counts[index]),
      spread(load!),
      spread(update!, 2),
      spread(rtt!, 1),
      spread(connect!, 1),
      spread(memory!),
    ]),
  ]);
  const middle = (index: number, what: string) => median(samples[index]![what]!);
  for (const [what, name] of [
    ["rtt", "the RTT"],
    ["connect", "the time of a new connection"],
  ] as const) {
    const ratio = middle(1, what) / middle(0, what);
    verdict(`10,000 services: ${ratio.toFixed(2)} × ${name} with 10 (at most 1.1)`, ratio <= 1.1);
  }
  verdict(
    `update of one of 10,000 services: ${middle(1, "update").toFixed(2)} ms (less than 5)`,
    middle(1, "update") < 5,
  );
  await worker.agent.setRoutes(routes);
}

interface FirstPackets extends Omit<Scale, "inSandbox"> {
  readonly client: Sandbox;
}

async function measureFirstPackets(worker: LabWorker, { client, addresses, routes }: FirstPackets): Promise<void> {
  const asker = await worker.enter(client, "client");
  const server = await worker.enter({ ...client, namespacePath: `/run/netns/oak-${addresses[1]}` }, "server");
  await worker.agent.fill(0, addresses, routes);
  await worker.agent.answerMisses([addresses[1]!]);
  const timed = async (host: string) => {
    const startedAt = performance.now();
    const answer = await asker.ask({ host });
    if (!answer.startsWith("server")) throw new Error(`${host} answered ${answer}`);
    return performance.now() - startedAt;
  };
  const first: number[] = [];
  const known: number[] = [];
  for (let number = 1; number <= 30; number++) {
    first.push(await timed(`10.30.60.${number}`));
    known.push(await timed(`10.30.60.${number}`));
  }
  table([
    ["connection and first answer, ms", "median (range)"],
    ["first packet unknown, held and delivered", spread(first.slice(5), 2)],
    ["known", spread(known.slice(5), 2)],
  ]);
  console.log(`the miss path adds ${(median(first.slice(5)) - median(known.slice(5))).toFixed(2)} ms`);
  for (const { process: child } of [asker, server]) child.kill();
}

async function measureRoundRobin(worker: LabWorker, client: Sandbox): Promise<void> {
  const names = Array.from({ length: 9 }, (_, index) => `rr${index}`);
  const sandboxes = await Promise.all(names.map((name) => worker.agent.attach(name)));
  const servers = await Promise.all(sandboxes.map((sandbox, index) => worker.enter(sandbox, names[index]!)));
  const instances = sandboxes.map(({ address }, index) => ({ address: `10.30.4.${index + 1}`, sandbox: address }));
  await worker.agent.setRoutes({
    services: [{ id: "rr", roundRobin: "10.30.5.9", closest: "10.30.6.9", instances }],
    peers: [],
  });
  const asker = await worker.enter(client, "client");
  const { answers, failures } = await asker.askMany("10.30.5.9", 9000);
  const counts = Object.values(answers);
  const isEven = counts.length === 9 && failures.length === 0 && Math.max(...counts) - Math.min(...counts) <= 2;
  verdict(`9,000 connections over nine servers: ${counts.join(" ")}, ${failures.length} failed (± 1 each)`, isEven);
  for (const { process: child } of [asker, ...servers]) child.kill();
}

/** Round trips on one processor, both ends: less depends on where the kernel puts them. Throughput takes what there is. */
function bench(from: readonly string[], kind: Kind, host: string): Promise<string> {
  return run([...from, "nice", "-n", "-20", process.execPath, ...process.execArgv, BENCH, kind, host, options.ms]);
}

function run(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(args[0]!, args.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.on("data", (chunk) => {
      output += chunk;
    });
    child.on("exit", (code) =>
      code === 0 ? resolve(output.trim()) : reject(new Error(`${args.join(" ")} ended with ${code}`)),
    );
  });
}
