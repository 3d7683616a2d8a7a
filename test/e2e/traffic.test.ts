/** Traffic while things change: two workers on one link, a client that never stops asking, a service that grows, shrinks and moves. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startLab, type TestLab } from "../support/lab.ts";
import { eventually } from "../support/lab-host.ts";

const SERVICE = "10.30.40.40";
/** Answers with its own name and the address that it sees of whoever asks. */
const WHO = [
  "#!/bin/sh",
  "printf 'Content-Type: text/plain\\r\\n\\r\\n'",
  "/bin/busybox hostname",
  "echo $REMOTE_ADDR",
].join("\n");
const SERVER = [
  ...["/bin/busybox", "sh", "-c"],
  `cd /www; /bin/busybox mkdir -p cgi-bin; echo "$0" >cgi-bin/who; /bin/busybox chmod +x cgi-bin/who; exec /bin/busybox httpd -f -p 80`,
  WHO,
];
const IDLE = ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/busybox sleep 100000 & wait"];
/** One connection after the other until told to end; then says how many were answered by whom, and how many were not. */
const LOAD = `
const { request } = require("node:http");
const answers = {}, failures = [];
let going = true;
process.on("SIGTERM", () => { going = false; });
const ask = () => new Promise((resolve) => {
  const call = request({ host: process.argv[1], path: "/cgi-bin/who", agent: false, timeout: 3000 }, (response) => {
    let text = "";
    response.on("data", (part) => { text += part; }).on("end", () => {
      const [server] = text.trim().split("\\n");
      answers[server] = (answers[server] ?? 0) + 1;
      resolve();
    }).on("error", (error) => { failures.push(error.message); resolve(); });
  });
  call.on("timeout", () => call.destroy(new Error("no answer"))).on("error", (error) => { failures.push(error.message); resolve(); }).end();
});
(async () => {
  const limit = Number(process.argv[2] ?? Infinity);
  for (let count = 0; going && count < limit; count++) await ask();
  console.log(JSON.stringify({ answers, failures }));
})();
`;

interface Load {
  readonly answers: Readonly<Record<string, number>>;
  readonly failures: readonly string[];
}
interface InstanceRow {
  readonly instance_number: number;
  readonly status: string;
  readonly publicip: string;
  readonly instance_ip: string;
}
let lab: TestLab;
/** Where the client runs: its worker, and the network namespace of its sandbox there. */
let client: { worker: string; namespace: string; address: string };

before(async () => {
  lab = await startLab({ clusters: 1, workers: 2 });
  await lab.buildImage();
  const common = {
    microservice_namespace: "e2e",
    virtualization: "container",
    memory: 0,
    code: "oakestra.local/hello:latest",
  };
  const healthcheck = { type: "tcp", port: 80, interval: 1 };
  const descriptor = {
    sla_version: "v2.0",
    applications: [
      {
        application_name: "load",
        application_namespace: "e2e",
        microservices: [
          { ...common, microservice_name: "web", cmd: SERVER, addresses: { rr_ip: SERVICE }, healthcheck },
          { ...common, microservice_name: "client", cmd: IDLE },
        ],
      },
    ],
  };
  const { exitCode, stderr } = await lab.run("root", ["oak", "deploy", "-f", "-"], {
    input: JSON.stringify(descriptor),
  });
  assert.equal(exitCode, 0, stderr);
  client = await findClient();
});
after(() => lab?.remove());

async function instances(service: string): Promise<InstanceRow[]> {
  const { instance_list } = await lab.json<{ instance_list: InstanceRow[] }>(["service", "show", service]);
  return instance_list;
}

async function findClient(): Promise<typeof client> {
  const [instance] = await instances("load.client");
  for (const worker of ["c1w1", "c1w2"]) {
    if ((await lab.address(worker)) !== instance!.publicip) continue;
    const pid = /instance\.0 +(\d+)/.exec(await lab.sh(worker, "ctr -n edge.io task ls | grep client"))![1]!;
    const namespace = (await lab.sh(worker, `ip netns identify ${pid}`)).trim();
    return { worker, namespace, address: instance!.instance_ip };
  }
  throw new Error(`No worker has the address ${instance!.publicip}`);
}

const asClient = (...args: string[]) => ["ip", "netns", "exec", client.namespace, ...args];

/** @param count of connections; without it, until the work is done */
async function loadDuring(work: () => Promise<void>): Promise<Load> {
  const pidFile = "/run/load.pid";
  const script = `echo $$ >${pidFile}; exec "$@"`;
  const running = lab.run(
    client.worker,
    ["sh", "-c", script, "sh", ...asClient(process.execPath, "-e", LOAD, SERVICE)],
    {
      timeoutMs: 120_000,
    },
  );
  await eventually(() => lab.sh(client.worker, `cat ${pidFile}`), { what: "the start of the load" });
  try {
    await work();
  } finally {
    await lab.sh(client.worker, `kill $(cat ${pidFile}); rm ${pidFile}`);
  }
  const { stdout, stderr } = await running;
  if (stdout === "") throw new Error(`The load said nothing: ${stderr}`);
  return JSON.parse(stdout) as Load;
}

async function scale(count: number): Promise<void> {
  await lab.sh("root", `oak scale load.web ${count}`);
  await eventually(async () => ((await instances("load.web")).length === count ? true : undefined), {
    what: `${count} instances`,
  });
}

test("connections go round: each of three instances on two workers gets its turn, exactly", async () => {
  await scale(3);
  const workers = new Set((await instances("load.web")).map(({ publicip }) => publicip));
  assert.equal(workers.size, 2, "the instances are spread over both workers");
  await eventually(
    async () => {
      const { stdout } = await lab.run(client.worker, asClient(process.execPath, "-e", LOAD, SERVICE, "300"));
      const { answers, failures } = JSON.parse(stdout) as Load;
      assert.deepEqual(failures, []);
      assert.deepEqual(Object.values(answers), [100, 100, 100]);
      return true;
    },
    { what: "an even spread once all three are known" },
  );
});

test("a server sees the instance address of its client, wherever it runs", async () => {
  for (const { instance_ip } of await instances("load.web")) {
    const answer = await lab.run(
      client.worker,
      asClient("busybox", "wget", "-q", "-O", "-", `http://${instance_ip}/cgi-bin/who`),
    );
    assert.equal(answer.stdout.trim().split("\n")[1], `[::ffff:${client.address}]`, answer.stderr);
  }
});

test("no request fails while the service grows from 3 to 6, shrinks to 2 and has one instance replaced", async () => {
  const { answers, failures } = await loadDuring(async () => {
    await scale(6);
    await scale(2);
    const [first] = await instances("load.web");
    await scale(3);
    await lab.sh("root", `oak instance rm load.web/${first!.instance_number}`);
    await eventually(async () => ((await instances("load.web")).length === 2 ? true : undefined), { what: "two left" });
  });
  assert.deepEqual(failures, []);
  assert.ok(Object.keys(answers).length >= 5, JSON.stringify(answers));
});

test("traffic flows on while every agent is killed, is dead, and starts again", async () => {
  const { failures, answers } = await loadDuring(async () => {
    for (const worker of ["c1w1", "c1w2"]) await lab.sh(worker, "kill -9 $(pgrep -f '[o]ak.cjs worker')");
    await lab.sh("root", "sleep 1");
    for (const worker of ["c1w1", "c1w2"]) await lab.lab.start(worker, AbortSignal.timeout(30_000));
    await scale(4);
  });
  assert.deepEqual(failures, []);
  assert.equal(Object.keys(answers).length, 4, JSON.stringify(answers));
});
