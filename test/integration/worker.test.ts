/** The worker in a machine of its own, with real containers and packets, killed where it hurts. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import type { InstanceStatus } from "../../src/protocol/instance.ts";
import type { DesiredInstance } from "../../src/protocol/mqtt.ts";
import { buildImage } from "../../src/runtime/image-build.ts";
import { desiredInstance } from "../../src/worker/builders.fake.ts";
import { type FakeCluster, startFakeCluster } from "../../src/worker/cluster.fake.ts";
import {
  eventually,
  type LabHost,
  labHostProblem,
  type Running,
  repository,
  startLabHost,
} from "../support/lab-host.ts";

const IMAGE = "oakestra.local/hello:latest";

let host: LabHost;
let cluster: FakeCluster;
let archive: string;
let worker: Running | undefined;

before(async () => {
  assert.equal(labHostProblem(), undefined, "these tests need a machine that can run containers");
  host = await startLabHost({ name: "worker" });
  archive = join(host.folder, "hello.tar");
  await buildImage(join(repository, "examples/hello/image.yaml"), archive);
  host.start("containerd", ["containerd"]);
  await eventually(async () => (await host.run(["ctr", "version"])).exitCode === 0, { what: "containerd" });
  cluster = await startFakeCluster(host.gateway);
  worker = startWorker(archive);
  await settled();
});

afterEach(async (context) => {
  if ("passed" in context && !context.passed) context.diagnostic(host.log("worker").split("\n").slice(-60).join("\n"));
  worker ??= startWorker();
  await cluster.want();
  await settled();
});

after(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await host?.stop();
});

function startWorker(...more: string[]): Running {
  const program = join(repository, "test/integration/worker-program.ts");
  const args = [process.execPath, "--disable-warning=ExperimentalWarning", program];
  return host.start("worker", [...args, cluster.url, "/var/lib/oakestra/worker", ...more]);
}

async function killWorker(signal: NodeJS.Signals): Promise<void> {
  const running = worker!;
  worker = undefined;
  process.kill(running.pid(), signal);
  await running.ended;
}

const hello = (instanceNumber: number, workload: Partial<DesiredInstance["workload"]> = {}) =>
  desiredInstance({ instanceNumber, workload: { image: IMAGE, ...workload } });
const statusOf = ({ instanceId }: DesiredInstance) => cluster.instances.get(instanceId);
const until = (instance: DesiredInstance, status: InstanceStatus) =>
  eventually(() => statusOf(instance)?.status === status, { what: `${status} of ${instance.instanceId}`, everyMs: 5 });

async function lines(...args: string[]): Promise<string[]> {
  const { stdout } = await host.run(args);
  return stdout.split("\n").filter((line) => line.trim() !== "");
}

const containers = () => lines("ctr", "-n", "edge.io", "container", "ls", "-q");

/** Nothing of any instance is left; what is warm may stay. */
async function settled(): Promise<void> {
  await eventually(
    async () => {
      const snapshots = await lines("ctr", "-n", "edge.io", "snapshot", "ls");
      const active = snapshots.filter((line) => / Active\s*$/.test(line));
      const owned = (await lines("ip", "-o", "link")).filter((line) => line.includes("alias"));
      const left = [...(await containers()), ...active, ...owned, ...cluster.instances.keys()];
      assert.deepEqual(left, []);
      return true;
    },
    { what: "an empty machine", withinMs: 30_000 },
  );
}

test("an instance serves its host port, and survives the agent's restart", async () => {
  const web = hello(0, { ports: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] });
  await cluster.want(web);
  await until(web, "RUNNING");
  const page = () => fetch(`http://${host.address}:8080/`).then((response) => response.text());
  const text = await eventually(page, { what: "the page", everyMs: 5 });
  const before = await lines("ctr", "-n", "edge.io", "task", "ls");
  const inside = ["ctr", "-n", "edge.io", "task", "exec", "--exec-id", "look", "shop.prod.web.prod.instance.0"];
  assert.ok(
    (await lines(...inside, "/bin/sh", "-c", "cat /etc/hosts")).some((line) => /^10\.[\d.]+\tweb-0$/.test(line)),
  );
  await killWorker("SIGTERM");
  assert.equal(cluster.presence, '{"online":false}');
  assert.equal(await page(), text, "the kernel forwards without us");
  worker = startWorker();
  await eventually(() => cluster.presence === '{"online":true}');
  await until(web, "RUNNING");
  assert.deepEqual(await lines("ctr", "-n", "edge.io", "task", "ls"), before);
  assert.equal(await page(), text);
});

test("a killed container is DEAD with its exit code and last output, then runs again", async () => {
  const web = hello(1, { command: ["/bin/sh", "-c", "echo last words; sleep 1; exit 3"] });
  await cluster.want(web);
  await until(web, "DEAD");
  assert.equal(statusOf(web)?.exitCode, 3);
  assert.equal(statusOf(web)?.logTail, "last words\n");
  assert.match(statusOf(web)!.detail, /^ended with exit code 3; starts again in 1 s$/);
  await until(web, "RUNNING");
});

test("a container beyond its memory is named so, and a wrong command is FAILED with the reason", async () => {
  const greedy = hello(2, {
    command: ["/bin/sh", "-c", "x=aaaaaaaa; while :; do x=$x$x; done"],
    memoryBytes: 16 * 1024 * 1024,
  });
  const wrong = hello(3, { command: ["/bin/no-such-thing"] });
  await cluster.want(greedy, wrong);
  await until(wrong, "FAILED");
  assert.match(statusOf(wrong)!.detail, /no-such-thing/);
  await eventually(() => statusOf(greedy)?.detail.includes("out of memory, limit 16 MB"), { what: "out of memory" });
});

test("a one-shot that ended well is COMPLETED, leaves nothing, and never runs again", async () => {
  const job = hello(4, { command: ["/bin/sh", "-c", "echo done"], oneShot: true });
  await cluster.want(job);
  await until(job, "COMPLETED");
  await eventually(async () => (await containers()).length === 0, { what: "no container" });
  await killWorker("SIGKILL");
  worker = startWorker();
  await eventually(() => cluster.presence === '{"online":true}');
  await systemClock.sleep(300);
  assert.equal(statusOf(job)?.status, "COMPLETED");
  assert.deepEqual(await containers(), []);
});

test("a worker killed in the middle of starting and of removing ends where it should", async () => {
  let number = 10;
  for (const delayMs of [0, 30, 60, 120]) {
    const instances = Array.from({ length: 4 }, (_, index) =>
      hello(number + index, { ports: [{ hostPort: 9000 + index, containerPort: 80, protocol: "tcp" }] }),
    );
    number += instances.length;
    await eventually(() => cluster.presence === '{"online":true}', { what: "the link" });
    await cluster.want(...instances);
    await systemClock.sleep(delayMs);
    await killWorker("SIGKILL");
    worker = startWorker();
    for (const instance of instances) await until(instance, "RUNNING");
    assert.equal((await containers()).length, instances.length);
    await cluster.want();
    await systemClock.sleep(delayMs);
    await killWorker("SIGKILL");
    worker = startWorker();
    await settled();
  }
});

test("a machine that boots without a link starts everything from disk", async () => {
  const web = hello(50);
  await cluster.want(web);
  await until(web, "RUNNING");
  await killWorker("SIGKILL");
  // As after a power cut: no process, no namespace, no link.
  await host.run(["ctr", "-n", "edge.io", "task", "kill", "-a", "-s", "SIGKILL", "shop.prod.web.prod.instance.50"]);
  await host.run(["ctr", "-n", "edge.io", "task", "rm", "-f", "shop.prod.web.prod.instance.50"]);
  for (const name of await lines("ls", "/run/netns")) await host.run(["ip", "netns", "delete", name]);
  await host.run(["nft", "flush", "ruleset"]);
  const program = join(repository, "test/integration/worker-program.ts");
  const offline = host.start("worker", [
    ...[process.execPath, "--disable-warning=ExperimentalWarning", program],
    ...["http://127.0.0.1:9", "/var/lib/oakestra/worker"],
  ]);
  worker = offline;
  await eventually(
    async () => (await lines("ctr", "-n", "edge.io", "task", "ls")).some((line) => /RUNNING/.test(line)),
    {
      what: "started from disk",
    },
  );
  await killWorker("SIGTERM");
});
