/** Many machines: a root, two clusters at other sites, one of them behind NAT, two workers each. The tests build on each other. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startLab, type TestLab } from "../support/lab.ts";
import { eventually, repository } from "../support/lab-host.ts";
import { descriptor } from "../support/machine.ts";

interface InstanceRow {
  readonly jobName?: string;
  readonly status: string;
  readonly cluster_name?: string;
}
interface WorkerRow {
  readonly hostname: string;
  readonly status: string;
  readonly instances: readonly { readonly jobName: string; readonly status: string }[];
}

const DELAY_MS = 20;
const site = (cluster: string) => [
  { name: cluster, role: "cluster" },
  ...[1, 2].map((number) => ({ name: `${cluster}w${number}`, role: "worker" })),
];
const topology = {
  link: { delay: `${DELAY_MS}ms` },
  sites: [
    { name: "hq", hosts: [{ name: "root", role: "root" }] },
    { name: "edge1", hosts: site("c1") },
    { name: "edge2", nat: true, hosts: site("c2").map((host) => ({ ...host, link: { delay: "1ms" } })) },
  ],
};
let lab: TestLab;

before(async () => {
  lab = await startLab({ topology });
  await lab.buildImage();
});
after(() => lab?.remove());

test("every host has its role, and every part has joined the one above it", async () => {
  const { hosts } = await lab.lab.status();
  assert.deepEqual(
    hosts.map(({ name, status }) => [name, status]),
    ["root", "c1", "c1w1", "c1w2", "c2", "c2w1", "c2w2"].map((name) => [name, "running"]),
  );
  const clusters = await lab.json<{ cluster_name: string; active: boolean; active_nodes: number }[]>(["cluster", "ls"]);
  assert.deepEqual(
    clusters.map(({ cluster_name, active, active_nodes }) => [cluster_name, active, active_nodes]).sort(),
    [
      ["c1", true, 2],
      ["c2", true, 2],
    ],
  );
});

test("packets between sites take the delay of their link, within a site they do not", async () => {
  const [across, within] = [await roundTripMs("c1w1", "root"), await roundTripMs("c1w1", "c1")];
  assert.ok(across >= 2 * DELAY_MS, `${across} ms across`);
  assert.ok(across > 4 * within, `${across} ms across, ${within} ms within`);
});

test("nothing dials a cluster behind NAT, nor does it need to", async () => {
  const connect = async (host: string) =>
    (await lab.run("root", ["busybox", "nc", "-w", "2", await lab.address(host), "10100", "-e", "true"])).exitCode;
  assert.equal(await connect("c1"), 0);
  assert.notEqual(await connect("c2"), 0);
});

test("services go to the clusters that they name", async () => {
  for (const [name, cluster] of [
    ["one", "c1"],
    ["two", "c2"],
  ] as const) {
    const input = descriptor(name, { constraints: [{ type: "direct", cluster }] });
    const { exitCode, stderr } = await lab.run("root", ["oak", "deploy", "-f", "-"], { input });
    assert.equal(exitCode, 0, stderr);
  }
  assert.equal((await workersOf("c1")).flatMap(({ instances }) => instances).length, 1);
  assert.equal((await workersOf("c2")).flatMap(({ instances }) => instances).length, 1);
});

test("without a root, a cluster moves the instances of a worker that is cut off", async () => {
  const lost = await Promise.all(["c1", "c2"].map(holderOf));
  await lab.lab.kill("root");
  await lab.lab.cut({ a: lost[0]!, b: "c1" });
  await lab.lab.kill(lost[1]!);
  for (const [index, cluster] of ["c1", "c2"].entries()) {
    const holder = await eventually(
      async () => {
        const now = await holderOf(cluster);
        return now !== lost[index] && (await tasks(now)).length === 1 ? now : undefined;
      },
      { withinMs: 60_000, everyMs: 500, what: `the instance of ${cluster} on another worker` },
    );
    assert.notEqual(holder, lost[index]);
  }
});

test("the root comes back and learns of it; healed, the worker drops what is not its own any more", async () => {
  await lab.lab.start("root", AbortSignal.timeout(30_000));
  const off = (await lab.lab.status()).hosts.find(({ status }) => status === "off")!.name;
  await lab.lab.start(off, AbortSignal.timeout(30_000));
  await lab.lab.heal();
  await eventually(
    async () => {
      const instances = await lab.json<InstanceRow[]>(["instance", "ls"]);
      const clusters = await lab.json<{ active_nodes: number }[]>(["cluster", "ls"]);
      assert.deepEqual(
        instances.map(({ status }) => status),
        ["RUNNING", "RUNNING"],
      );
      assert.deepEqual(
        clusters.map(({ active_nodes }) => active_nodes),
        [2, 2],
      );
      return true;
    },
    { withinMs: 45_000, everyMs: 500, what: "two running instances and four workers" },
  );
  for (const cluster of ["c1", "c2"]) {
    const all = await Promise.all([`${cluster}w1`, `${cluster}w2`].map(tasks));
    assert.equal(all.flat().length, 1, `one container in ${cluster}`);
  }
});

test("the commands work on it, and give the exit code of what they run", async () => {
  const options = ["--name", lab.name, "--state-dir", join(lab.folder, "..")];
  const oak = (...args: string[]) => lab.outside([join(repository, "bin/oak"), "lab", ...args]);
  const listed = await oak("ls", ...options, "-o", "json");
  assert.equal((JSON.parse(listed.stdout) as { hosts: unknown[] }).hosts.length, 7);
  const { exitCode, stdout } = await oak("exec", ...options, "c1w1", "--", "sh", "-c", "hostname; exit 7");
  assert.deepEqual([exitCode, stdout], [7, "c1w1\n"]);
  const again = await oak("up", ...options, "--clusters", "1");
  assert.deepEqual([again.exitCode, /exists, with another topology/.test(again.stderr)], [1, true]);
});

test("what a killed up has left, down removes", async () => {
  const name = `${lab.name}k`;
  const folder = join(lab.folder, "..", name);
  const options = ["--name", name, "--state-dir", join(lab.folder, "..")];
  const up = spawn(join(repository, "bin/oak"), ["lab", "up", ...options], { stdio: "ignore" });
  await eventually(() => processesOf(`${folder}/hosts`).length > 1, { everyMs: 5, what: "its first host" });
  up.kill("SIGKILL");
  await once(up, "exit");
  assert.notDeepEqual(processesOf(folder), []);
  const { exitCode, stderr } = await lab.outside([join(repository, "bin/oak"), "lab", "down", ...options]);
  assert.equal(exitCode, 0, stderr);
  assert.deepEqual(processesOf(folder), []);
  assert.deepEqual(globSync([`/sys/fs/cgroup/*.${name}.*`, `/sys/fs/cgroup/*/*.${name}.*`, folder]), []);
});

test("down leaves nothing: no process, namespace, link, mount, cgroup or file", async () => {
  const own = namespaceOf("self");
  const networks = new Set(
    processesOf(lab.folder)
      .map(namespaceOf)
      .filter((network) => network !== own),
  );
  assert.ok(networks.size >= 10, `${networks.size} network namespaces`);
  // By process, since the kernel uses the numbers of namespaces again.
  const inside = allProcesses()
    .filter((pid) => networks.has(namespaceOf(pid)))
    .map(identity)
    .filter((process) => process !== "");
  const gate = await lab.outside(["ip", "-o", "route", "get", await lab.address("root")]);
  const device = new RegExp(
    / dev (ol[0-9a-f]{8}) /.exec(gate.stdout)?.[1] ?? `no device of the lab in: ${gate.stdout}`,
  );
  const links = async () => (await lab.outside(["ip", "-o", "link"])).stdout;
  assert.match(await links(), device);
  await lab.lab.down();
  assert.deepEqual(processesOf(lab.folder), []);
  const remaining = new Set(allProcesses().map(identity));
  assert.deepEqual(
    inside.filter((process) => remaining.has(process)),
    [],
  );
  assert.doesNotMatch(await links(), device);
  assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(lab.folder));
  assert.deepEqual(globSync([`/sys/fs/cgroup/*.${lab.name}.*`, `/sys/fs/cgroup/*/*.${lab.name}.*`]), []);
  assert.deepEqual(globSync(lab.folder), []);
  assert.equal(await lab.lab.down(), false);
});

/** The best of five. */
async function roundTripMs(from: string, to: string): Promise<number> {
  const text = await lab.sh(from, `busybox ping -c 5 -i 0.1 ${await lab.address(to)}`);
  return Number(/min\/avg\/max = ([\d.]+)/.exec(text)?.[1]);
}

/** As the cluster itself sees them. */
function workersOf(cluster: string): Promise<WorkerRow[]> {
  return lab.json<WorkerRow[]>(["worker", "ls"], cluster);
}

/** The worker that has the cluster's only instance. */
async function holderOf(cluster: string): Promise<string> {
  const holders = (await workersOf(cluster)).filter(({ instances }) =>
    instances.some(({ status }) => status === "RUNNING"),
  );
  assert.equal(holders.length, 1);
  return holders[0]!.hostname;
}

async function tasks(worker: string): Promise<string[]> {
  const text = await lab.sh(worker, "ctr -n edge.io tasks ls");
  return [...text.matchAll(/^(\S+) +\d+ +RUNNING/gm)].map(([, id]) => id!);
}

function allProcesses(): string[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name));
}

function processesOf(folder: string): string[] {
  return allProcesses().filter((pid) => readAny(`/proc/${pid}/cmdline`).includes(folder));
}

/** Process id and start time; empty when it has ended. */
function identity(pid: string): string {
  const fields = readAny(`/proc/${pid}/stat`)
    .replace(/^.*\) /s, "")
    .split(" ");
  return fields.length > 19 && fields[0] !== "Z" ? `${pid} since ${fields[19]}` : "";
}

function namespaceOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return ""; // it ended while we looked
  }
}

function readAny(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
