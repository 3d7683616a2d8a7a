/** One of nine servers is killed under load: who notices, and for how long. Two workers, the real product. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startLab, type TestLab } from "../support/lab.ts";
import { eventually } from "../support/lab-host.ts";

const SERVERS = 9;
const SERVICE = "10.30.40.41";
const WORKERS = ["c1w1", "c1w2"];
const IDLE = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait"];
/** No shell above the server: killing the container's process is killing what listens. */
const SERVER = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"];

/**
 * Opens two connections to each server, with half a request on each, and says so; then new connections, eight at a time and each
 * after a short pause, until told to end. Then the halves are completed.
 */
const CLIENT = `
const { get } = require("node:http");
const { connect } = require("node:net");
const [host, halves] = process.argv.slice(1);
const failures = [];
let done = 0, going = true;
const half = () => new Promise((resolve, reject) => {
  const socket = connect(80, host, () => socket.write("GET / HTTP/1.0\\r\\n", () => resolve(finish)));
  const answer = new Promise((settle) => {
    socket.on("error", (error) => settle(error.code)).on("data", (text) => settle(String(text).slice(9, 12))).on("end", () => settle("EOF"));
  });
  socket.on("error", reject);
  const finish = () => { socket.write("\\r\\n"); return answer; };
});
const one = () => new Promise((resolve) => {
  const beganAt = Date.now();
  get({ host, agent: false, timeout: 3000 }, (response) => {
    response.resume().on("end", () => { done += 1; resolve(); });
  }).on("timeout", function () { this.destroy(new Error("timeout")); })
    .on("error", (error) => { failures.push({ beganAt, why: error.code ?? error.message }); resolve(); });
});
const loop = async () => { while (going) { await one(); await new Promise((resolve) => setTimeout(resolve, 2)); } };
(async () => {
  const finishers = [];
  for (let count = 0; count < Number(halves); count++) finishers.push(await half());
  const ended = new Promise((resolve) => process.on("SIGTERM", resolve));
  const loops = Promise.all(Array.from({ length: 8 }, loop));
  setTimeout(() => console.log("going"), 500);
  await ended;
  going = false;
  await loops;
  const answers = await Promise.all(finishers.map((finish) => finish()));
  console.log(JSON.stringify({ done, failures, answers }));
  process.exit();
})();
`;

/** Says when it is watching, and then when the kernel's tables lose an address, epoch ms: the workers have one clock. */
const WATCHER = `
const { spawn, spawnSync } = require("node:child_process");
const [sandbox] = process.argv.slice(1);
const monitor = spawn("nft", ["monitor"], { stdio: ["ignore", "pipe", "inherit"] });
let text = "", isWatching = false;
const poke = setInterval(() => spawnSync("nft", ["add table ip poke; delete table ip poke"]), 50);
monitor.stdout.on("data", (part) => {
  const now = Date.now();
  text += part;
  clearInterval(poke);
  if (!isWatching) console.log("watching");
  isWatching = true;
  if (!text.split("\\n").some((line) => line.startsWith("delete element ip oakestra") && line.includes(sandbox))) return;
  console.log(now);
  monitor.kill();
  process.exit();
});
`;

interface Task {
  readonly worker: string;
  readonly pid: string;
  readonly sandbox: string;
}
interface Load {
  readonly done: number;
  readonly failures: readonly { readonly beganAt: number; readonly why: string }[];
  readonly answers: readonly string[];
}

let lab: TestLab;

before(async () => {
  lab = await startLab({ clusters: 1, workers: WORKERS.length });
  await lab.buildImage();
  const common = {
    ...{ microservice_namespace: "e2e", virtualization: "container", memory: 0 },
    code: "oakestra.local/hello:latest",
  };
  // So rare a check tells nothing of a death: only the exit itself does.
  const healthcheck = { type: "tcp", port: 80, interval: 300 };
  const microservices = [
    { ...common, microservice_name: "web", cmd: SERVER, addresses: { rr_ip: SERVICE }, healthcheck },
    { ...common, microservice_name: "client", cmd: IDLE },
  ];
  const application = { application_name: "kill", application_namespace: "e2e", microservices };
  const input = JSON.stringify({ sla_version: "v2.0", applications: [application] });
  const { exitCode, stderr } = await lab.run("root", ["oak", "deploy", "-f", "-"], { input });
  assert.equal(exitCode, 0, stderr);
  await lab.sh("root", `oak scale kill.web ${SERVERS}`);
});
after(() => lab?.remove());

/** All servers take their turns, as the worker knows. */
async function allTakeTurns(worker: string): Promise<void> {
  const count = `nft list map ip oakestra hotinst | grep -o '${SERVICE} \\. [0-9]*' | sort -u | wc -l`;
  await eventually(async () => Number(await lab.sh(worker, count)) === SERVERS, {
    ...{ what: `${SERVERS} in the tables`, withinMs: 60_000 },
  });
}

/** Every running server, or the client. */
async function tasksOf(service: "web" | "client"): Promise<Task[]> {
  const found = await Promise.all(
    WORKERS.map(async (worker) => {
      const tasks = await lab.sh(worker, "ctr -n edge.io task ls");
      const pids = [...tasks.matchAll(new RegExp(`^kill\\.e2e\\.${service}\\.\\S+ +(\\d+) +RUNNING`, "gm"))];
      const identified = pids.map(async ([, pid]) => {
        const namespace = await lab.sh(worker, `ip netns identify ${pid}`);
        return { worker, pid: pid!, sandbox: namespace.trim().slice("oak-".length) };
      });
      return await Promise.all(identified);
    }),
  );
  return found.flat();
}

/** Starts a program on a worker; its output so far, and its end. */
function start(worker: string, label: string, args: readonly string[]) {
  const file = `/tmp/${label}`;
  const script = `"$@" >${file} 2>&1 & echo $! >${file}.pid; wait`;
  const ended = lab.run(worker, ["sh", "-c", script, "sh", ...args], { timeoutMs: 90_000 });
  const says = (pattern: RegExp) =>
    eventually(async () => pattern.exec(await lab.sh(worker, `cat ${file}`))?.[0], { what: `${label}: ${pattern}` });
  return { ended, says, stop: () => lab.sh(worker, `kill $(cat ${file}.pid)`) };
}

for (const where of ["the client's worker", "another worker"] as const) {
  test(`when one of nine servers is killed on ${where}, only what was under way to it fails, and connections of the moment until it is out of the tables`, async (t) => {
    const [client] = await tasksOf("client");
    await allTakeTurns(client!.worker);
    const servers = await tasksOf("web");
    const victim = servers.find(({ worker }) => (worker === client!.worker) === (where === "the client's worker"));
    assert.ok(client && victim && servers.length === SERVERS, JSON.stringify(servers));
    const inClient = ["ip", "netns", "exec", `oak-${client.sandbox}`];
    const load = start(client.worker, `load-${victim.pid}`, [
      ...inClient,
      ...[process.execPath, "-e", CLIENT, SERVICE, String(2 * SERVERS)],
    ]);
    await load.says(/going/);
    const watcher = start(client.worker, `watcher-${victim.pid}`, [process.execPath, "-e", WATCHER, victim.sandbox]);
    await watcher.says(/watching/);
    const killedAt = Number(await lab.sh(victim.worker, `date +%s%3N; kill -9 ${victim.pid}`));
    const goneAt = Number(await watcher.says(/^\d+$/m));
    await allTakeTurns(client.worker);
    await lab.sh(client.worker, "sleep 0.5");
    await load.stop();
    await Promise.all([load.ended, watcher.ended]);
    const { done, failures, answers } = JSON.parse(await load.says(/^\{.*\}$/m)) as Load;
    const when = failures.map(({ beganAt, why }) => `${why} of one begun at ${beganAt - killedAt} ms`);
    t.diagnostic(
      `${failures.length} of ${done + failures.length} failed, out of the tables at ${goneAt - killedAt} ms`,
    );
    for (const line of when) t.diagnostic(line);
    assert.equal(answers.filter((answer) => answer === "200").length, 2 * SERVERS - 2, answers.join(" "));
    assert.ok(
      failures.every(({ beganAt }) => beganAt <= goneAt),
      `out of the tables at ${goneAt - killedAt} ms: ${when.join(", ")}`,
    );
    assert.ok(done > 10 * SERVERS, `${done} answered`);
  });
}
