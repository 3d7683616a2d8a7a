/** What an idle worker costs on the wire, by the day, and what one deployment does, by tier. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { startLab, type TestLab } from "../../test/support/lab.ts";
import { eventually } from "../../test/support/lab-host.ts";
import { between, type Capture, captureOn } from "../lib/lab-capture.ts";
import { Client } from "../lib/product.ts";
import { keep, table, verdict } from "../lib/report.ts";
import type { Sum } from "../lib/traffic.ts";

const { values } = parseArgs({
  options: {
    /** Of each measurement of what is idle. */
    seconds: { type: "string", default: "85" },
    /** Coordinates, and probes of workers that are in use, take a minute to settle. */
    settle: { type: "string", default: "65" },
    instances: { type: "string", default: "10" },
    deployments: { type: "string", default: "2" },
  },
});
const TARGET_MB = 5;
const DAY_S = 86_400;
/** Until nothing follows from a deployment any more. */
const QUIET_MS = 5_000;
/** Idle, as applications are: it wakes up now and then, so that what it uses is never quite the same. */
const IDLE_APPLICATION = [
  "/bin/busybox",
  "sh",
  "-c",
  "trap 'exit 0' TERM; while :; do /bin/busybox sleep 3 & wait $!; done",
];

interface Window {
  readonly seconds: number;
  readonly frames: Readonly<Record<string, Sum>>;
  readonly messages: Readonly<Record<string, Sum>>;
  readonly deviceBytes: number;
}

const lab = await startLab({ clusters: 1, workers: 2 });
try {
  await lab.buildImage();
  await measureAll(lab);
} finally {
  await lab.remove();
}

async function measureAll(lab: TestLab): Promise<void> {
  const { server, credentials } = await lab.lab.status();
  const client = new Client((JSON.parse(readFileSync(credentials, "utf8")) as { token: string }).token, server);
  const [worker, cluster] = await Promise.all([captureOn(lab, "c1w1"), captureOn(lab, "c1")]);
  const settled = () => systemClock.sleep(Number(values.settle) * 1000);
  const idle = () => windowOf([worker, cluster], () => systemClock.sleep(Number(values.seconds) * 1000));
  await settled();
  const [emptyWorker, emptyCluster] = await idle();

  // One application on both workers: each must know the way to the other.
  const services = await client.registerServices("apart", {
    one: { cmd: IDLE_APPLICATION, stop_grace: 5, constraints: onHost("c1w1") },
    two: { cmd: IDLE_APPLICATION, stop_grace: 5, constraints: onHost("c1w2") },
  });
  for (const id of services) for (let n = 0; n < Number(values.instances); n++) await client.deploy(id);
  for (const id of services) await running(client, id, Number(values.instances));
  await settled();
  const [busyWorker, busyCluster] = await idle();

  const serviceId = await client.register("one-more", {
    cmd: IDLE_APPLICATION,
    stop_grace: 5,
    constraints: onHost("c1w1"),
  });
  const deployments: (readonly Window[])[] = [];
  const undeployments: (readonly Window[])[] = [];
  for (let round = 0; round < Number(values.deployments); round++) {
    deployments.push(
      await windowOf([cluster], async () => {
        await client.deploy(serviceId);
        await running(client, serviceId, 1);
        await systemClock.sleep(QUIET_MS);
      }),
    );
    undeployments.push(
      await windowOf([cluster], async () => {
        const [instance] = await client.instances(serviceId);
        await client.undeploy(serviceId, instance!.instance_number);
        await systemClock.sleep(QUIET_MS);
      }),
    );
  }
  for (const capture of [worker, cluster]) capture.close();

  const count = `${values.instances} instances`;
  console.log("One worker of two, idle:");
  tableOfKinds({ "no instance": emptyWorker!, [count]: busyWorker! });
  tableOfMessages({ "no instance": emptyWorker!, [count]: busyWorker! }, "MQTT");
  console.log("\nCluster and root, of two workers:");
  tableOfKinds({ "no instance": uplinkOf(emptyCluster!), [count]: uplinkOf(busyCluster!) });
  tableOfMessages({ "no instance": emptyCluster!, [count]: busyCluster! }, "uplink");
  console.log("\nOne deployment, and one undeployment, as the cluster sees them (two workers' heartbeats among them):");
  tableOfChanges({
    deployment: deployments.map(([window]) => window!),
    undeployment: undeployments.map(([window]) => window!),
  });
  for (const [what, window] of Object.entries({ "no instance": emptyWorker!, [count]: busyWorker! })) {
    const mb = perDay(window, total(window.frames).bytes) / 1e6;
    verdict(`idle worker, ${what}: ${mb.toFixed(2)} MB a day (less than ${TARGET_MB})`, mb < TARGET_MB);
    const missed = Math.abs(1 - total(window.frames).bytes / window.deviceBytes);
    verdict(`the device counted the same, but for ${(missed * 100).toFixed(1)} % (at most 5)`, missed <= 0.05);
  }
  keep(import.meta.url, { emptyWorker, emptyCluster, busyWorker, busyCluster, deployments, undeployments });
}

function onHost(node: string) {
  return [{ type: "direct", node, cluster: "c1" }];
}

async function running(client: Client, serviceId: string, count: number): Promise<void> {
  await eventually(
    async () => {
      const statuses = (await client.instances(serviceId)).map(({ status }) => status);
      return statuses.filter((status) => status === "RUNNING").length === count || undefined;
    },
    { withinMs: 60_000, everyMs: 50, what: `${count} running instances` },
  );
}

async function windowOf(captures: readonly Capture[], work: () => Promise<void>): Promise<Window[]> {
  const startedAt = performance.now();
  const before = await Promise.all(captures.map((capture) => capture.sums()));
  await work();
  const after = await Promise.all(captures.map((capture) => capture.sums()));
  const seconds = (performance.now() - startedAt) / 1000;
  return after.map(({ frames, messages, deviceBytes }, index) => ({
    seconds,
    frames: between(before[index]!.frames, frames),
    messages: between(before[index]!.messages, messages),
    deviceBytes: deviceBytes - before[index]!.deviceBytes,
  }));
}

function perDay({ seconds }: Window, count: number): number {
  return (count / seconds) * DAY_S;
}

function total(sums: Readonly<Record<string, Sum>>): Sum {
  const all = Object.values(sums);
  return {
    frames: all.reduce((sum, { frames }) => sum + frames, 0),
    bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

function uplinkOf(window: Window): Window {
  return {
    ...window,
    frames: Object.fromEntries(Object.entries(window.frames).filter(([kind]) => kind.endsWith(" uplink"))),
  };
}

function tableOfKinds(windows: Readonly<Record<string, Window>>): void {
  const kinds = new Set(
    Object.values(windows).flatMap(({ frames }) => Object.keys(frames).map((key) => key.slice(key.indexOf(" ") + 1))),
  );
  const of = (window: Window, kind?: string) =>
    total(
      Object.fromEntries(
        Object.entries(window.frames).filter(([key]) => kind === undefined || key.endsWith(` ${kind}`)),
      ),
    );
  const cells = (kind?: string) =>
    Object.values(windows).flatMap((window) => {
      const { frames, bytes } = of(window, kind);
      return [((frames / window.seconds) * 60).toFixed(1), (perDay(window, bytes) / 1e6).toFixed(2)];
    });
  table([
    ["both ways", ...Object.keys(windows).flatMap((name) => [`${name}: frames a minute`, "MB a day"])],
    ...[...kinds].sort().map((kind) => [kind, ...cells(kind)]),
    ["all", ...cells()],
  ]);
}

function tableOfMessages(windows: Readonly<Record<string, Window>>, protocol: string): void {
  const names = new Set(Object.values(windows).flatMap(({ messages }) => Object.keys(messages)));
  table([
    [`${protocol} messages`, ...Object.keys(windows).flatMap((name) => [`${name}: a minute`, "bytes each"])],
    ...[...names]
      .filter((name) => name.includes(` ${protocol} `))
      .sort()
      .map((name) => [
        name.replace(` ${protocol}`, ""),
        ...Object.values(windows).flatMap(({ messages, seconds }) => {
          const { frames, bytes } = messages[name] ?? { frames: 0, bytes: 0 };
          return [((frames / seconds) * 60).toFixed(1), frames === 0 ? "" : (bytes / frames).toFixed(0)];
        }),
      ]),
  ]);
}

function tableOfChanges(changes: Readonly<Record<string, readonly Window[]>>): void {
  const names = new Set(Object.values(changes).flatMap((all) => all.flatMap(({ messages }) => Object.keys(messages))));
  const mean = (all: readonly Window[], name: string) => {
    const sums = all.map(({ messages }) => messages[name] ?? { frames: 0, bytes: 0 });
    const frames = sums.reduce((sum, one) => sum + one.frames, 0) / sums.length;
    return [frames.toFixed(1), (sums.reduce((sum, one) => sum + one.bytes, 0) / sums.length).toFixed(0)];
  };
  table([
    ["in: to the cluster, out: from it", ...Object.keys(changes).flatMap((name) => [`${name}: messages`, "bytes"])],
    ...[...names].sort().map((name) => [name, ...Object.values(changes).flatMap((all) => mean(all, name))]),
  ]);
}
