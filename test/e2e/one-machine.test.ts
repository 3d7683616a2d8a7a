/** One machine, from `oak up` to nothing left, through bin/oak alone. The tests build on each other, in order. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, labHostProblem } from "../support/lab-host.ts";
import { descriptor, type Machine, readExample, residue, startMachine } from "../support/machine.ts";

const problem = labHostProblem();
let machine: Machine;
const five = [
  "hello.demo.web.demo.instance.0",
  ...[0, 1, 2, 3].map((number) => `ticker.demo.ticker.demo.instance.${number}`),
];

before(async () => {
  assert.equal(problem, undefined, `no lab host can be made here: it ${problem}`);
  // A disk of its own, so that it can be filled.
  machine = await startMachine(
    "one",
    "mkdir -p /var/lib/oakestra && mount -t tmpfs -o size=24m,mode=700 none /var/lib/oakestra",
  );
});
after(() => machine?.host.stop());

test("the example runs, and answers on its host port, from the machine and from outside", async () => {
  const { exitCode, stdout, stderr } = await machine.oak(["deploy", "-f", "examples/hello/sla.yaml"]);
  assert.equal(exitCode, 0, stderr);
  assert.match(stdout, /hello\.web\/0 +RUNNING/);
  const page = await machine.sh("busybox wget -q -O - http://127.0.0.1:8080/");
  assert.match(page, /hello/i);
  const outside = await fetch(`http://${machine.host.address}:8080/`);
  assert.equal(await outside.text(), page);
});

test("a second deployment of the same name is refused with the remedy", async () => {
  const { exitCode, stderr } = await machine.oak(["deploy", "-f", "examples/hello/sla.yaml"]);
  assert.equal(exitCode, 1);
  assert.match(stderr, /hello.*oak app rm hello\.demo/s);
});

test("a service is scaled up and down, and its output can be read", async () => {
  assert.equal((await machine.oak(["deploy", "-f", "-"], readExample("ticker/sla.yaml"))).exitCode, 0);
  const { exitCode, stderr } = await machine.oak(["scale", "ticker", "5"]);
  assert.equal(exitCode, 0, stderr);
  assert.equal((await machine.containers()).length, 6);
  const logs = await eventually(
    async () => {
      const { stdout } = await machine.oak(["logs", "ticker/4"]);
      return stdout.length > 0 ? stdout : undefined;
    },
    { what: "output of ticker/4" },
  );
  assert.match(logs, /\d\d:\d\d:\d\d/);
  const interrupted = "timeout --preserve-status -s INT 2 bin/oak logs -f ticker || echo ended with $?";
  assert.match(await machine.sh(interrupted), /ticker\.ticker\/3 \| .*\d\d:\d\d:\d\d.*ended with 130/s);
  assert.equal((await machine.oak(["scale", "ticker", "4"])).exitCode, 0);
  await eventually(async () => (await machine.containers()).length === 5, { what: "the end of one instance" });
});

test("kill -9 of oak up leaves five instances alone, and the next one adopts them", async () => {
  const before = await machine.containers();
  assert.equal(before.length, 5);
  await machine.sh("kill -9 $(head -1 /run/oakestra/oak.pid)");
  assert.match(await machine.sh("busybox wget -q -O - http://127.0.0.1:8080/"), /hello/i);
  await machine.startUp();
  await eventually(
    async () => {
      const instances = await machine.json<{ status: string }[]>("instance", "ls");
      return instances.length === 5 && instances.every(({ status }) => status === "RUNNING");
    },
    { what: "five running instances" },
  );
  assert.deepEqual(await machine.containers(), before);
});

test("a second oak up, and one whose port is taken, say so", async () => {
  const second = await machine.oak(["up"]);
  assert.equal(second.exitCode, 1);
  assert.match(second.stderr, /runs here already, as process \d+/);
  const other = await machine.oak(["root", "--state-dir", "/root/other"]);
  assert.equal(other.exitCode, 1);
  assert.match(other.stderr, /10000.*listens there/s);
  const locked = await machine.oak(["root", "--state-dir", "/var/lib/oakestra", "--port", "0"]);
  assert.equal(locked.exitCode, 1);
  assert.match(locked.stderr, /in use by another oak \(process \d+\)/);
});

test("a one-shot service is done when it ends well, and failed when it does not", async () => {
  assert.equal((await machine.oak(["deploy", "-f", "examples/one-shot/sla.yaml"])).exitCode, 0);
  assert.match((await machine.oak(["logs", "once"])).stdout, /^hello, edge$/m);
  assert.equal((await machine.oak(["app", "rm", "once"])).exitCode, 0);
  const fails = descriptor("fails", { one_shot: true, cmd: ["/bin/busybox", "sh", "-c", "echo oh no; exit 3"] });
  const { exitCode, stderr } = await machine.oak(["deploy", "-f", "-"], fails);
  assert.equal(exitCode, 1);
  assert.match(stderr, /oh no/);
  assert.match(stderr, /exit code 3/);
});

test("each wrong input has its own answer, and leaves nothing behind", async () => {
  const busybox = (script: string) => ({ cmd: ["/bin/busybox", "sh", "-c", script] });
  const cases: [string, string, number, RegExp][] = [
    ["broken YAML", "sla_version: [", 2, /standard input:\d+:\d+/],
    ["a name with a dot", descriptor("a.b"), 2, /"a\.b" is not a valid name/],
    ["negative memory", descriptor("neg", { memory: -1 }), 2, /memory/],
    ["no such image", descriptor("noimage", { code: "oakestra.local/none:latest" }), 1, /oakestra\.local\/none/],
    ["no such command", descriptor("nocmd", { cmd: ["/bin/none"] }), 1, /\/bin\/none/],
    ["memory below the minimum", descriptor("lowmem", { memory: 1 }), 1, /memory/i],
    ["a host port that an instance has", descriptor("port1", { port: "8080:80" }), 1, /8080.*hello/],
    ["more memory than there is", descriptor("huge", { memory: 1_000_000 }), 1, /memory/i],
    ["another architecture", descriptor("arch", { arch: ["s390x"] }), 1, /s390x|architecture/],
    ["a crash", descriptor("crash", { ...busybox("echo good bye; exit 7"), stop_grace: 1 }), 1, /good bye/],
  ];
  for (const [what, input, expected, message] of cases) {
    const { exitCode, stderr } = await machine.oak(["deploy", "-f", "-"], input);
    assert.equal(exitCode, expected, `${what}: ${stderr}`);
    assert.match(stderr, message, what);
  }
  await awaitResidue(five);
  const names = (await machine.json<{ application_name: string }[]>("app", "ls")).map((app) => app.application_name);
  assert.deepEqual(names.sort(), ["hello", "ticker"]);
});

test("a host port that a process of the machine holds is refused, naming it", async () => {
  const listener = machine.host.start("listener", [
    process.execPath,
    "-e",
    'require("node:net").createServer().listen(8099)',
  ]);
  await eventually(() => machine.sh("ss -ltn | grep :8099"), { what: "a listener on 8099" });
  const { exitCode, stderr } = await machine.oak(["deploy", "-f", "-"], descriptor("port2", { port: "8099:80" }));
  listener.child.kill();
  assert.equal(exitCode, 1);
  assert.match(stderr, /8099.*process \d+/);
});

test("a full disk refuses changes, and nothing else suffers", async () => {
  await machine.sh("dd if=/dev/zero of=/var/lib/oakestra/fill bs=64k 2>/dev/null || true");
  const { exitCode, stderr } = await machine.oak(["deploy", "-f", "-"], descriptor("full"));
  assert.equal(exitCode, 1, stderr);
  // Whoever died of it is of interest, more than that nobody answers.
  if (!/full/.test(stderr)) assert.fail(stderr + (await machine.sh("tail -20 /var/lib/oakestra/oak.log")));
  assert.match(await machine.sh("busybox wget -q -O - http://127.0.0.1:8080/"), /hello/i);
  await machine.sh("rm /var/lib/oakestra/fill");
  const again = await machine.oak(["deploy", "-f", "-"], descriptor("full"));
  assert.equal(again.exitCode, 0, again.stderr);
  assert.equal((await machine.oak(["app", "rm", "full"])).exitCode, 0);
});

test("containerd stopped midway: what runs runs on, what is wanted waits, and starts when it is back", async () => {
  const before = await eventually(
    async () => {
      const containers = await machine.containers();
      return containers.some(({ id }) => id.startsWith("full")) ? undefined : containers;
    },
    { what: "the end of full/0" },
  );
  await machine.sh("pkill -x containerd; while pgrep -x containerd >/dev/null; do sleep 0.05; done");
  assert.match(await machine.sh("busybox wget -q -O - http://127.0.0.1:8080/"), /hello/i);
  const { exitCode } = await machine.oak(["deploy", "--detach", "-f", "-"], descriptor("later"));
  assert.equal(exitCode, 0);
  await machine.startContainerd();
  await eventually(
    async () => {
      const instances = await machine.json<{ status: string }[]>("instance", "ls", "later");
      return instances[0]?.status === "RUNNING";
    },
    { what: "later/0 running", withinMs: 40_000 },
  );
  const now = await machine.containers();
  assert.deepEqual(
    now.filter(({ id }) => !id.startsWith("later")),
    before,
  );
  assert.equal((await machine.oak(["app", "rm", "later"])).exitCode, 0);
});

test("removed applications leave nothing", async () => {
  const { exitCode, stderr } = await machine.oak(["app", "rm", "hello", "ticker"]);
  assert.equal(exitCode, 0, stderr);
  await awaitResidue([]);
});

test("oak down leaves instances running; with --purge nothing stays, packet rules included", async () => {
  assert.equal((await machine.oak(["deploy", "-f", "examples/hello/sla.yaml"])).exitCode, 0);
  const down = await machine.oak(["down"]);
  assert.equal(down.exitCode, 0, down.stderr);
  assert.match(down.stderr, /Instances keep running/);
  assert.equal((await machine.containers()).length, 1);
  const purge = await machine.oak(["down", "--purge", "--state"]);
  assert.equal(purge.exitCode, 0, purge.stderr);
  assert.doesNotMatch(purge.stderr, /warn/i, "nothing is left of the one before that could be in the way");
  assert.equal((await machine.containers()).length, 0);
  assert.doesNotMatch(await machine.sh("nft list ruleset; ip -o link"), /oak/i);
});

/** Waits until the machine holds these containers, with what belongs to them, and nothing more. */
async function awaitResidue(containers: readonly string[]): Promise<void> {
  await eventually(
    async () => {
      const { shims, ...rest } = await residue(machine);
      const hostPorts = containers.filter((id) => id.startsWith("hello")).map(() => "8080");
      assert.deepEqual(rest, { containers, tasks: containers, snapshots: containers.length, hostPorts });
      assert.equal(shims === 0, containers.length === 0);
      return true;
    },
    { what: "nothing left", withinMs: 15_000 },
  );
}
