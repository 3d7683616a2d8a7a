/** How long a deployment takes over slow and lossy links between root, cluster and worker: in milliseconds, and in round trips. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { startLab, type TestLab } from "../../test/support/lab.ts";
import { eventually } from "../../test/support/lab-host.ts";
import { kernelMs } from "../lib/kernel-clock.ts";
import { type LabCallbacks, listenOnHost } from "../lib/lab-callbacks.ts";
import { Client } from "../lib/product.ts";
import { keep, spread, table, verdict } from "../lib/report.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "6" },
    delays: { type: "string", default: "0,10,50,100,250" },
    losses: { type: "string", default: "1,5,10,20" },
    /** Of the links that lose packets. */
    "loss-delay": { type: "string", default: "10" },
    /** Delay and loss of the last row, or none. */
    worst: { type: "string", default: "250,20" },
  },
});

interface Condition {
  /** One way, of each of the two links. */
  readonly delayMs: number;
  /** Each way, of each of the two links. */
  readonly lossPercent: number;
}

const EVENTS = ["firstRequest", "knownRunning", "toldToStop"] as const;
type Event = (typeof EVENTS)[number];
type Times = Record<Event, number>;

interface Measured extends Condition {
  readonly rounds: readonly Times[];
  /** Links that were given up, and workers taken for absent, meanwhile. */
  readonly breaks: number;
}

const WORDS: Record<Event, string> = {
  firstRequest: "first request",
  knownRunning: "RUNNING at root",
  toldToStop: "told to stop",
};
/** Down to the worker, which is half of a round trip; and back up with the news. */
const IDEAL: Record<Event, number> = { firstRequest: 0.5, knownRunning: 1, toldToStop: 0.5 };
const SLACK = 0.1;
/** Generous: what takes longer has failed. */
const LIMIT_MS = 120_000;
const BREAKS = /mqtt link lost|no link to the root|cluster link failed|now=(?:suspect|lost)/g;

const numbers = (text: string) => text.split(",").map(Number);
const [worstDelay, worstLoss] = numbers(values.worst);
const lossy = values.losses === "" ? [] : numbers(values.losses);
const conditions: Condition[] = [
  ...numbers(values.delays).map((delayMs) => ({ delayMs, lossPercent: 0 })),
  ...lossy.map((lossPercent) => ({ delayMs: Number(values["loss-delay"]), lossPercent })),
  ...(worstLoss === undefined ? [] : [{ delayMs: worstDelay!, lossPercent: worstLoss }]),
];
const all: Measured[] = [];
for (const condition of conditions) {
  all.push(await measure(condition));
  console.error(`${describe(condition)}: done`);
}
report(all);

async function measure(condition: Condition): Promise<Measured> {
  const lab = await startLab({ topology: topologyOf(condition) });
  try {
    await lab.buildImage();
    const calls = await listenOnHost(lab, "worker1");
    const { server, credentials } = await lab.lab.status();
    const client = new Client((JSON.parse(readFileSync(credentials, "utf8")) as { token: string }).token, server);
    const rounds: Times[] = [];
    await deployOnce(client, calls, "warm-up");
    const before = await breaksIn(lab);
    for (let round = 0; round < Number(values.rounds); round++) {
      rounds.push(await deployOnce(client, calls, `round${round}`));
    }
    const breaks = (await breaksIn(lab)) - before;
    calls.close();
    return { ...condition, rounds, breaks };
  } finally {
    await lab.remove();
  }
}

/** The first instance of a new application: nobody has its routes yet. */
async function deployOnce(client: Client, calls: LabCallbacks, name: string): Promise<Times> {
  const serviceId = await client.register(name, { cmd: calls.command(name), stop_grace: 10 });
  const deployedAt = kernelMs();
  await client.deploy(serviceId);
  const [calledAt, knownAt] = await Promise.all([calls.arrival(name, LIMIT_MS), knownRunningAt(client, serviceId)]);
  await systemClock.sleep(300);
  const [instance] = await client.instances(serviceId);
  const undeployedAt = kernelMs();
  await client.undeploy(serviceId, instance!.instance_number);
  const stoppedAt = await calls.arrival(`${name}-end`, LIMIT_MS);
  await systemClock.sleep(300);
  return {
    firstRequest: calledAt - deployedAt,
    knownRunning: knownAt - deployedAt,
    toldToStop: stoppedAt - undeployedAt,
  };
}

/** When the root's API first says so. */
async function knownRunningAt(client: Client, serviceId: string): Promise<number> {
  return eventually(
    async () => ((await client.instances(serviceId))[0]?.status === "RUNNING" ? kernelMs() : undefined),
    { withinMs: LIMIT_MS, everyMs: 10, what: "RUNNING in the root's API" },
  );
}

function topologyOf({ delayMs, lossPercent }: Condition): unknown {
  const shape = { delay: `${delayMs}ms`, loss: `${lossPercent}%` };
  return {
    sites: [
      { name: "hq", hosts: [{ name: "root1", role: "root" }] },
      { name: "region", hosts: [{ name: "cluster1", role: "cluster" }] },
      { name: "edge", hosts: [{ name: "worker1", role: "worker", cluster: "cluster1" }] },
    ],
    links: [
      { between: ["hq", "region"], ...shape },
      { between: ["region", "edge"], ...shape },
    ],
  };
}

async function breaksIn({ lab }: TestLab): Promise<number> {
  const logs = await Promise.all(["root1", "cluster1", "worker1"].map((host) => lab.logs(host)));
  return logs.flat().reduce((sum, path) => sum + (readFileSync(path, "utf8").match(BREAKS)?.length ?? 0), 0);
}

function report(results: readonly Measured[]): void {
  const of = ({ rounds }: Measured, event: Event) => rounds.map((times) => times[event]);
  const still = results.find(({ delayMs, lossPercent }) => delayMs + lossPercent === 0);
  // Of the quickest: other load on the machine only ever adds.
  const trips = (one: Measured, event: Event) =>
    still && one.delayMs > 0 && one.lossPercent === 0
      ? (Math.min(...of(one, event)) - Math.min(...of(still, event))) / roundTripMs(one)
      : undefined;
  table([
    ["one way / root-worker RTT / loss", ...EVENTS.flatMap((event) => [`${WORDS[event]}, ms`, "RTTs"]), "link breaks"],
    ...results.map((one) => [
      describe(one),
      ...EVENTS.flatMap((event) => [spread(of(one, event)), trips(one, event)?.toFixed(2) ?? ""]),
      String(one.breaks),
    ]),
  ]);
  for (const event of EVENTS) {
    const counts = results.filter(({ delayMs }) => delayMs >= 50).flatMap((one) => trips(one, event) ?? []);
    if (counts.length === 0) continue;
    const most = Math.max(...counts);
    verdict(
      `${WORDS[event]}: ${most.toFixed(2)} round trips root-worker, at any delay (ideal ${IDEAL[event]}, at most ${IDEAL[event] + SLACK})`,
      most <= IDEAL[event] + SLACK,
    );
  }
  const breaks = results.reduce((sum, one) => sum + one.breaks, 0);
  verdict(`no link was given up that carried packets: ${breaks}`, breaks === 0);
  keep(import.meta.url, results);
}

function roundTripMs({ delayMs }: Condition): number {
  return 4 * delayMs;
}

function describe(condition: Condition): string {
  return `${condition.delayMs} ms / ${roundTripMs(condition)} ms / ${condition.lossPercent} %`;
}
