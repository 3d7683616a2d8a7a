/** One cluster orchestrator with many workers: real processes, real MQTT, real registrations; only the machines are simulated. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { objectId, secretToken } from "../../src/base/random.ts";
import { HttpClient } from "../../src/transport/http-client.ts";
import { eventually } from "../../test/support/eventually.ts";
import { newAssignment, prepareCluster } from "../../test/support/prepared-cluster.ts";
import { SimulatedWorker, workerInfo } from "../../test/support/simulated-worker.ts";
import { median } from "../lib/report.ts";
import { type Changeable, Changes, type Latencies } from "./changes.ts";
import { type Cost, freePort, note, type Options, Role, timed } from "./role.ts";
import { ScriptedRoot } from "./scripted-root.ts";

export interface WorkersResult {
  readonly workers: number;
  readonly instances: number;
  /** All workers at once, to a cluster that has just started: until it calls all of them active. */
  readonly connectMs: number;
  readonly idle: Cost;
  /** While instances change, one a second for every `WORKERS_PER_CHANGE` workers. */
  readonly busy: Cost;
  /**
   * From the worker's report, over MQTT and through the cluster, to the root: only what the cluster has taken in, kept in its state
   * and judged to be news is told to the root. (The broker acknowledges a message before anybody has looked at it.)
   */
  readonly latencyMs: Latencies;
  /** A new instance: from the root's word to the worker that gets it. */
  readonly placeMs: number;
  /** A new worker, by token. */
  readonly joinMs: number;
  /** With all workers connected. */
  readonly stopMs: number;
  /** From the start of a cluster whose workers all try to come back to it. */
  readonly returnMs: number;
}

const INSTANCES_EACH = 3;
const WORKERS_PER_CHANGE = 100;
const SETTLE_MS = 12_000;
const PLACEMENTS = 20;
const JOINS = 20;

export async function measureWorkers(count: number, options: Options): Promise<WorkersResult> {
  const folder = mkdtempSync(join(tmpdir(), "oak-scale-"));
  const stop = new AbortController();
  const keys = Array.from({ length: count }, () => secretToken());
  const assignments = prepareCluster(folder, keys, INSTANCES_EACH);
  const root = new ScriptedRoot(assignments, blocksFor(count + JOINS));
  const [rootUrl, joinPort, mqttPort] = [await root.listen(), await freePort(), await freePort()];
  const cluster = new Role({
    ...options,
    folder,
    args: [
      ...["cluster", "--name", "scale", "--state-dir", join(folder, "state"), "--root", rootUrl],
      ...["--join-port", String(joinPort), "--mqtt-port", String(mqttPort)],
    ],
    statusUrl: `http://127.0.0.1:${joinPort}/status`,
  });
  const wanted = new Map<string, number>();
  const onWanted = (instanceId: string) => wanted.set(instanceId, performance.now());
  const simulate = (index: number, joinToken?: string) =>
    new SimulatedWorker({
      ...{ joinPort, folder, info: workerInfo(index), onWanted },
      ...(joinToken === undefined ? {} : { joinToken }),
    });
  const workers = keys.map((_, index) => simulate(index));
  const running: Promise<void>[] = [];
  try {
    await cluster.start();
    const connectMs = await timed(async () => {
      for (const worker of workers) running.push(worker.run(stop.signal));
      await allActive(root, count);
    });
    note(`${count} workers connected after ${Math.round(connectMs)} ms`);
    await systemClock.sleep(SETTLE_MS);
    const idle = await cluster.cost(options.seconds);
    note(`${count} workers: idle at ${idle.cpuPercent.toFixed(1)} % of a core`);
    const changes = new Changes(workers.flatMap(instancesOf), count / WORKERS_PER_CHANGE);
    root.onInstance = ({ instanceId, detail }) => changes.arrived(instanceId, detail);
    changes.start();
    const busy = await cluster.cost(options.seconds);
    const latencyMs = await changes.stop();
    const placeMs = await measurePlacement(root, wanted);
    const joinMs = await measureJoin(new HttpClient(`http://127.0.0.1:${joinPort}`), folder, (index, token) =>
      simulate(count + index, token),
    );
    const stopMs = await timed(() => cluster.stop());
    const returnMs = await timed(async () => {
      await cluster.start();
      await allActive(root, count);
    });
    return {
      ...{ workers: count, instances: assignments.length },
      ...{ connectMs, idle, busy, latencyMs, placeMs, joinMs, stopMs, returnMs },
    };
  } catch (error) {
    console.error(cluster.lastWords());
    throw error;
  } finally {
    stop.abort();
    await cluster.stop();
    root.close();
    await Promise.allSettled(running);
    rmSync(folder, { recursive: true });
  }
}

/** As many /22 as a root would give for so many workers. */
function blocksFor(workers: number): string[] {
  const count = Math.ceil(workers / 16) + 1;
  return Array.from({ length: count }, (_, index) => `10.${32 + Math.floor(index / 64)}.${(index % 64) * 4}.0/22`);
}

function instancesOf(worker: SimulatedWorker): Changeable[] {
  return worker.instanceIds.map((id) => ({ id, change: (detail) => worker.change(id, detail) }));
}

async function allActive(root: ScriptedRoot, count: number): Promise<void> {
  const look = () => root.activeWorkers >= count || undefined;
  await eventually(look, { what: `${count} active workers`, withinMs: 180_000, everyMs: 10 });
}

async function measurePlacement(root: ScriptedRoot, wanted: ReadonlyMap<string, number>): Promise<number> {
  const samples: number[] = [];
  for (let number = 0; number < PLACEMENTS; number++) {
    const assignment = newAssignment(objectId(), number);
    const from = performance.now();
    root.want(assignment);
    const at = await eventually(() => wanted.get(assignment.instanceId), { what: "a placement", everyMs: 5 });
    samples.push(at - from);
    await systemClock.sleep(100);
  }
  return median(samples);
}

async function measureJoin(
  http: HttpClient,
  folder: string,
  simulate: (index: number, token: string) => SimulatedWorker,
): Promise<number> {
  const operator = readFileSync(join(folder, "state/operator-token"), "utf8").trim();
  const samples: number[] = [];
  for (let index = 0; index < JOINS; index++) {
    const { body } = await http.send("POST", "/api/join-token", { token: operator });
    const worker = simulate(index, (body as { token: string }).token);
    const from = performance.now();
    await worker.register(AbortSignal.timeout(10_000));
    samples.push(performance.now() - from);
  }
  return median(samples);
}
