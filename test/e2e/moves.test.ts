/** An instance follows its users to another site, of its own cluster or of another one; whoever asks it meanwhile notices nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RouteUpdate, ServiceRoute } from "../../src/protocol/route.ts";
import { startLab, type TestLab } from "../support/lab.ts";
import { eventually } from "../support/lab-host.ts";

/** One way, between the sites: within a site the promise holds, across it does not. */
const DELAY_MS = 30;
const NEAR_MS = DELAY_MS;
/** Where the users are said to be: each worker sends its packets to it where they are now. */
const USERS = "198.51.100.7";
interface Case {
  readonly title: string;
  /** That the second site's worker belongs to. */
  readonly cluster: "c1" | "c2";
  /** Where it moves from and to, in the words of its status. */
  readonly from: string;
  readonly to: string;
}
const CASES: readonly Case[] = [
  { title: "another worker of its cluster", cluster: "c1", from: 'worker "w1"', to: 'worker "w2"' },
  { title: "another cluster", cluster: "c2", from: 'cluster "c1"', to: 'cluster "c2"' },
];
const topology = (cluster: Case["cluster"]) => ({
  link: { delay: `${DELAY_MS}ms` },
  sites: [
    { name: "hq", hosts: [{ name: "root", role: "root" }] },
    {
      name: "edge1",
      hosts: [
        { name: "c1", role: "cluster" },
        { name: "w1", role: "worker" },
        { name: "u1", role: "none" },
      ],
    },
    {
      name: "edge2",
      hosts: [
        ...(cluster === "c2" ? [{ name: "c2", role: "cluster" }] : []),
        { name: "w2", role: "worker", cluster },
        { name: "u2", role: "none" },
      ],
    },
  ],
});
const SERVER = ["/bin/busybox", "sh", "-c", "cd /www; exec /bin/busybox httpd -f -p 80"];
const IDLE = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait"];
/** One connection after the other until told to end; then says how many were answered, and why others were not. */
const LOAD = `
const { request } = require("node:http");
const failures = [];
let answers = 0;
let going = true;
process.on("SIGTERM", () => { going = false; });
const host = process.argv[1];
const ask = () => new Promise((resolve) => {
  const began = new Date().toISOString();
  let phase = "connecting";
  const failed = (error) => { failures.push([error.message, "while", phase, "since", began].join(" ")); resolve(); };
  const call = request({ host, agent: false, timeout: 3000 }, (response) => {
    response.resume().on("end", () => { answers += 1; resolve(); }).on("error", failed);
  });
  call.on("socket", (socket) => socket.on("connect", () => { phase = "waiting for an answer"; }));
  call.on("timeout", () => call.destroy(new Error("no answer"))).on("error", failed).end();
});
(async () => {
  while (going) await ask();
  console.log(JSON.stringify({ answers, failures }));
})();
`;

interface InstanceRow {
  readonly status: string;
  readonly status_detail: string;
}
interface WorkerRow {
  readonly hostname: string;
  readonly instances: readonly { readonly jobName: string }[];
}
let lab: TestLab;

async function usersAre(host: "u1" | "u2"): Promise<void> {
  const rules = `
    table ip users
    delete table ip users
    table ip users {
      chain output {
        type nat hook output priority -150
        ip daddr ${USERS} dnat to ${await lab.address(host)}
      }
    }`;
  for (const worker of ["w1", "w2"]) {
    const { exitCode, stderr } = await lab.run(worker, ["nft", "-f", "-"], { input: rules });
    assert.equal(exitCode, 0, stderr);
  }
}

async function deploy(): Promise<void> {
  const common = {
    ...{ microservice_namespace: "e2e", virtualization: "container", memory: 0 },
    code: "oakestra.local/hello:latest",
  };
  const near = { type: "latency", target: USERS, threshold: NEAR_MS, rigidness: 0.9, convergence_time: 60 };
  const healthcheck = { type: "tcp", port: 80, interval: 1 };
  const microservices = [
    { ...common, microservice_name: "web", cmd: SERVER, constraints: [near], healthcheck },
    { ...common, microservice_name: "client", cmd: IDLE, constraints: [{ type: "direct", node: "w1" }] },
  ];
  const one = { application_name: "shop", application_namespace: "e2e", microservices };
  const input = JSON.stringify({ sla_version: "v2.0", applications: [one] });
  const { exitCode, stderr } = await lab.run("root", ["oak", "deploy", "-f", "-"], { input, timeoutMs: 120_000 });
  assert.equal(exitCode, 0, stderr);
}

async function instances(service: string): Promise<InstanceRow[]> {
  const { instance_list } = await lab.json<{ instance_list: InstanceRow[] }>(["service", "show", `shop.${service}`]);
  return instance_list;
}

/** The workers on which the web server is. */
async function holders({ cluster }: Case): Promise<string[]> {
  const clusters = [...new Set(["c1", cluster])];
  const workers = (await Promise.all(clusters.map((name) => lab.json<WorkerRow[]>(["worker", "ls"], name)))).flat();
  const hasIt = ({ instances }: WorkerRow) => instances.some(({ jobName }) => jobName.includes(".web."));
  return workers.filter(hasIt).map(({ hostname }) => hostname);
}

async function routeOf(worker: string, service: string): Promise<ServiceRoute> {
  return await eventually(
    async () => {
      const { tables } = JSON.parse(await lab.sh(worker, "cat /var/lib/oakestra/worker/routes.json")) as RouteUpdate;
      return tables.find(({ jobName, instances }) => jobName.includes(`.${service}.`) && instances[0]?.live);
    },
    { what: `a live instance of ${service} as ${worker} knows it` },
  );
}

async function loadDuring(address: string, work: () => Promise<void>) {
  const { live } = (await routeOf("w1", "client")).instances[0]!;
  const pidFile = "/run/load.pid";
  const enter = ["ip", "netns", "exec", `oak-${live!.sandbox}`];
  const script = ["sh", "-c", `echo $$ >${pidFile}; exec "$@"`, "sh", ...enter, process.execPath, "-e", LOAD];
  const running = lab.run("w1", [...script, address], { timeoutMs: 300_000 });
  await eventually(() => lab.sh("w1", `cat ${pidFile}`), { what: "the start of the load" });
  try {
    await work();
  } finally {
    await lab.sh("w1", `kill $(cat ${pidFile}); rm ${pidFile}`);
  }
  const { stdout, stderr } = await running;
  if (stdout === "") throw new Error(`The load said nothing: ${stderr}`);
  return JSON.parse(stdout) as { answers: number; failures: readonly string[] };
}

for (const one of CASES) {
  test(`an instance moves after its users to ${one.title}, no request fails meanwhile, and why is told`, async () => {
    lab = await startLab({ topology: topology(one.cluster) });
    try {
      await lab.buildImage();
      await follow(one);
    } finally {
      await lab.remove();
    }
  });
}

async function follow(one: Case): Promise<void> {
  await usersAre("u1");
  await deploy();
  assert.deepEqual(await holders(one), ["w1"]);
  const route = await routeOf("w1", "web");
  const statuses = new Set<string>();
  const containers = async (worker: string) => (await lab.sh(worker, "ctr -n edge.io tasks ls")).includes(".web.");
  const { answers, failures } = await loadDuring(route.roundRobin, async () => {
    await usersAre("u2");
    await eventually(
      async () => {
        const all = await instances("web");
        assert.equal(all.length, 1);
        statuses.add(all[0]!.status);
        return all[0]!.status_detail.includes(`moved from ${one.from}`);
      },
      { withinMs: 240_000, everyMs: 250, what: "the move" },
    );
    await eventually(async () => !(await containers("w1")), { withinMs: 30_000, what: "the end of the old one" });
  });
  assert.deepEqual(failures, []);
  assert.ok(answers > 100, `${answers} answers`);
  assert.deepEqual([...statuses], ["RUNNING"], "to the root it ran all the time");
  assert.deepEqual(await holders(one), ["w2"]);
  const explained = await lab.sh("root", "oak explain shop.web/0");
  const why = `latency to users ${USERS} was within ${NEAR_MS} ms in`;
  assert.match(
    explained,
    new RegExp(`${why}.*; moves to ${one.to}|moves to ${one.to} as soon as it runs there: ${why}`),
  );
  assert.match(explained, new RegExp(`moved from ${one.from}: ${why}`));
}
