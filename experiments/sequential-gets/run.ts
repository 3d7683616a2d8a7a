/** GETs one after the other through a service address, beside what it is made of. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { exec } from "../../src/base/exec.ts";
import { isInside } from "../../test/contracts/network-namespaces.ts";
import { type LabWorker, makeSegments, makeWorker, removeLab, type Sandbox } from "../../test/support/overlay-lab.ts";
import { BARE, enterBare, makeBareHosts } from "../lib/bare-hosts.ts";
import { keep, median, spread, table, verdict } from "../lib/report.ts";

const { values: options } = parseArgs({
  options: { rounds: { type: "string", default: "15" }, count: { type: "string", default: "100" } },
});
const PROGRAM = [process.execPath, ...process.execArgv, join(import.meta.dirname, "gets.ts")];
const serve = (port: number) => [...PROGRAM, "serve", String(port)];
const KINDS = ["new", "kept"] as const;
type Kind = (typeof KINDS)[number];
/** Of each service. */
const SERVERS = [1, 9] as const;
const BARE_PORTS = Array.from({ length: 9 }, (_, index) => 80 + index);
const ONE = "direct veth, 1 server";
const NINE = "direct veth, 9 servers";
const SUBNETS = ["10.18.0.0/26", "10.18.0.64/26"] as const;

interface Path {
  readonly name: string;
  readonly from: readonly string[];
  /** Servers that are asked in turn. */
  readonly to: readonly string[];
  /** What has as many servers without any of ours. */
  readonly base: string;
  /** Done before each measurement. */
  readonly prepare?: () => Promise<void>;
}
/** Of each path and kind: the median of each round, microseconds. */
type Samples = ReadonlyMap<string, Record<Kind, number[]>>;

if (isInside(import.meta.filename)) {
  const bareServers: ChildProcess[] = [];
  try {
    const paths = await makePaths(bareServers);
    report(paths, await measure(paths));
  } finally {
    for (const server of bareServers) server.kill("SIGKILL");
    removeLab();
  }
  process.exit();
}

async function makePaths(bareServers: ChildProcess[]): Promise<Path[]> {
  await makeSegments();
  const workers = await Promise.all([makeWorker(1, "a"), makeWorker(2, "a")]);
  for (const [index, { agent, address }] of workers.entries()) {
    await agent.configure({ subnets: [SUBNETS[index]!], address });
    await agent.start();
  }
  const [one] = workers as [LabWorker, LabWorker];
  const client = await one.agent.attach("client");
  await one.agent.setIdentity("client", "10.30.9.1");
  const servers = await Promise.all(workers.map(startServers));
  const services = servers.flatMap((sandboxes, worker) =>
    SERVERS.map((count) => ({
      id: `${count} on worker ${worker}`,
      roundRobin: `10.30.1${worker}.${count}`,
      closest: `10.30.2${worker}.${count}`,
      closestTarget: sandboxes[0]!.address,
      instances: instanceAddresses(count, worker).map((address, index) => ({
        ...{ address, sandbox: sandboxes[index]!.address },
      })),
    })),
  );
  const setPath = async (path: "plain" | "vxlan") => {
    for (const [index, { agent }] of workers.entries()) {
      const other = 1 - index;
      const peer = { id: `worker-${other}`, address: workers[other]!.address, subnets: [SUBNETS[other]!], path };
      await agent.setRoutes({ services, peers: [peer] });
    }
  };
  await setPath("plain");
  await makeBareHosts();
  for (const port of BARE_PORTS) {
    bareServers.push(await startServer((args) => spawn(args[0]!, args.slice(1)), [...enterBare(2), ...serve(port)]));
  }
  await plainRoute(one, workers[1]!);
  return listPaths(one.enterArgs(client), setPath);
}

function listPaths(from: readonly string[], setPath: (path: "plain" | "vxlan") => Promise<void>): Path[] {
  const bare = (name: string, host: string): Path[] => [
    { name: `${name}, 1 server`, from: enterBare(1), to: [`${host}:${BARE_PORTS[0]}`], base: ONE },
    { name: `${name}, 9 servers`, from: enterBare(1), to: BARE_PORTS.map((port) => `${host}:${port}`), base: NINE },
  ];
  const through = (name: string, worker: 0 | 1, prepare: () => Promise<void>): Path[] => [
    { name: `${name}, 1 server`, from, to: [`10.30.1${worker}.1`], base: ONE, prepare },
    { name: `${name}, 9 servers`, from, to: [`10.30.1${worker}.9`], base: NINE, prepare },
    { name: `${name}, 9 by instance address`, from, to: instanceAddresses(9, worker), base: NINE, prepare },
    { name: `${name}, closest of 9`, from, to: [`10.30.2${worker}.9`], base: ONE, prepare },
  ];
  return [
    ...bare("direct veth", BARE.veth),
    ...bare("bare segment", BARE.segment),
    ...bare("bare VXLAN", BARE.vxlan),
    ...through("same worker", 0, () => setPath("plain")),
    ...through("plain route", 1, () => setPath("plain")),
    ...through("VXLAN", 1, () => setPath("vxlan")),
  ];
}

function instanceAddresses(count: number, worker: number): string[] {
  return Array.from({ length: count }, (_, index) => `10.30.${30 + 2 * count + worker}.${index + 1}`);
}

async function startServers(worker: LabWorker, index: number): Promise<Sandbox[]> {
  const names = Array.from({ length: Math.max(...SERVERS) }, (_, number) => `server-${index}-${number}`);
  const sandboxes = await Promise.all(names.map((name) => worker.agent.attach(name)));
  await Promise.all(sandboxes.map((sandbox) => startServer((args) => worker.spawn(sandbox, args), serve(80))));
  return sandboxes;
}

async function startServer(start: (args: string[]) => ChildProcess, args: string[]): Promise<ChildProcess> {
  const server = start(args);
  await once(server.stdout!, "data", { signal: AbortSignal.timeout(10_000) });
  return server;
}

/** A plain route is used once both ends have known each other's MAC for a while. */
async function plainRoute(from: LabWorker, to: LabWorker): Promise<void> {
  const subnet = SUBNETS[to.number - 1]!;
  for (let tries = 0; tries < 50; tries++) {
    if ((await from.run("ip", "route", "show", subnet)).includes("dev up0")) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${from.address} still has no plain route to ${to.address}`);
}

async function measure(paths: readonly Path[]): Promise<Samples> {
  const samples: Samples = new Map(paths.map(({ name }) => [name, { new: [], kept: [] }]));
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const { name, from, to, prepare } of paths) {
      await prepare?.();
      for (const kind of KINDS) {
        const args = [...from, ...PROGRAM, "get", to.join(), options.count, kind];
        const durations = JSON.parse(await exec(args[0]!, args.slice(1))) as number[];
        samples.get(name)![kind].push(median(durations));
      }
    }
  }
  return samples;
}

function report(paths: readonly Path[], samples: Samples): void {
  /** Median over the rounds of the ratio within a round. */
  const ratio = (name: string, base: string, kind: Kind) =>
    median(samples.get(name)![kind].map((duration, round) => duration / samples.get(base)![kind][round]!));
  table([
    ["path", "GET on a new connection, µs", "× veth", "GET on one that is kept, µs", "× veth"],
    ...paths.map(({ name, base }) => [
      name,
      ...KINDS.flatMap((kind) => [spread(samples.get(name)![kind], 1), ratio(name, base, kind).toFixed(2)]),
    ]),
  ]);
  for (const path of ["same worker", "plain route", "VXLAN"]) {
    for (const [what, base, kind] of [
      ["9 servers", "9 by instance address", "new"],
      ["closest of 9", "1 server", "new"],
      ["9 servers", "1 server", "kept"],
    ] as const) {
      const cost = ratio(`${path}, ${what}`, `${path}, ${base}`, kind);
      verdict(`${path}, ${kind} connections: ${what} ${cost.toFixed(2)} × ${base} (at most 1.1)`, cost <= 1.1);
    }
  }
  keep(import.meta.url, Object.fromEntries(samples));
}
