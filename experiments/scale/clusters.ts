/** One root with many clusters: real processes, real WebSockets, the real API; only what is below the clusters is simulated. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { secretToken } from "../../src/base/random.ts";
import { eventually } from "../../test/support/eventually.ts";
import { prepareRoot, SERVICE_RANGE, WORKER_RANGE } from "../../test/support/prepared-root.ts";
import { SimulatedCluster } from "../../test/support/simulated-cluster.ts";
import { median } from "../lib/report.ts";
import { Changes, type Latencies } from "./changes.ts";
import { type Cost, freePort, note, type Options, Role, timed } from "./role.ts";

export interface ClustersResult {
  readonly clusters: number;
  readonly services: number;
  readonly instances: number;
  /** All clusters at once, to a root that has just started: until all of them are active. */
  readonly connectMs: number;
  readonly idle: Cost;
  /** While instances change, `CHANGES_PER_SECOND` of them. */
  readonly busy: Cost;
  /** From a cluster's report to the event stream of the API. */
  readonly latencyMs: Latencies;
  /** From the API call to the assignment at the cluster. */
  readonly deployMs: Latencies;
}

const CHANGES_PER_SECOND = 20;
const SETTLE_MS = 12_000;
/** Services of which the event stream is read. */
const WATCHED = 20;
const DEPLOYMENTS = 20;

export async function measureClusters(count: number, instances: number, options: Options): Promise<ClustersResult> {
  const folder = mkdtempSync(join(tmpdir(), "oak-scale-"));
  const stop = new AbortController();
  const keys = Array.from({ length: count }, () => secretToken());
  const port = await freePort();
  const rootUrl = `http://127.0.0.1:${port}`;
  const serviceIds = await prepareRoot(folder, keys, instances);
  const root = new Role({
    ...options,
    folder,
    args: [
      ...["root", "--insecure-default-admin", "--state-dir", join(folder, "state"), "--port", String(port)],
      ...["--service-range", SERVICE_RANGE, "--worker-range", WORKER_RANGE],
    ],
    statusUrl: `${rootUrl}/api/health`,
  });
  const wanted = new Map<string, number>();
  const onWanted = (instanceId: string) => wanted.set(instanceId, performance.now());
  const ended = (error: unknown) => {
    if (!stop.signal.aborted) throw error;
  };
  const clusters = keys.map((key, index) => new SimulatedCluster({ rootUrl, index, key, onWanted }));
  const running: Promise<void>[] = [];
  try {
    await root.start();
    const api = await Api.login(rootUrl);
    const connectMs = await timed(async () => {
      for (const cluster of clusters) running.push(cluster.run(stop.signal));
      const allActive = async () =>
        ((await api.get("/api/clusters/active")) as unknown[]).length === count || undefined;
      await eventually(allActive, { what: `${count} active clusters`, withinMs: 120_000, everyMs: 200 });
    });
    note(`${count} clusters, ${instances} instances: connected after ${Math.round(connectMs)} ms`);
    await systemClock.sleep(SETTLE_MS);
    const idle = await root.cost(options.seconds);
    note(`${count} clusters, ${instances} instances: idle at ${idle.cpuPercent.toFixed(1)} % of a core`);
    const changes = new Changes(watchedInstances(clusters, serviceIds.slice(0, WATCHED)), CHANGES_PER_SECOND);
    for (const id of serviceIds.slice(0, WATCHED)) {
      const watched = api.watch(id, stop.signal, (number, detail) => changes.arrived(`${id}-${number}`, detail));
      running.push(watched.catch(ended));
    }
    await systemClock.sleep(1000);
    changes.start();
    const busy = await root.cost(options.seconds / 2);
    const latencyMs = await changes.stop();
    const deployMs = await measureDeploy(api, serviceIds.at(-1)!, wanted);
    return { clusters: count, services: serviceIds.length, instances, connectMs, idle, busy, latencyMs, deployMs };
  } catch (error) {
    console.error(root.lastWords());
    throw error;
  } finally {
    stop.abort();
    await root.stop();
    await Promise.allSettled(running);
    rmSync(folder, { recursive: true });
  }
}

function watchedInstances(clusters: readonly SimulatedCluster[], serviceIds: readonly string[]) {
  const watched = new Set(serviceIds);
  return clusters.flatMap((cluster) =>
    cluster.instanceIds
      .filter((id) => watched.has(id.split("-")[0]!))
      .map((id) => ({ id, change: (detail: string) => cluster.change(id, detail) })),
  );
}

async function measureDeploy(api: Api, serviceId: string, wanted: ReadonlyMap<string, number>): Promise<Latencies> {
  const samples: number[] = [];
  for (let round = 0; round < DEPLOYMENTS; round++) {
    const before = new Set(wanted.keys());
    const from = performance.now();
    await api.post(`/api/service/${serviceId}/instance`);
    const id = await eventually(() => [...wanted.keys()].find((one) => !before.has(one)), {
      ...{ what: "the assignment", everyMs: 1 },
    });
    samples.push(wanted.get(id)! - from);
    await systemClock.sleep(100);
  }
  return { p50: median(samples), p99: Math.max(...samples), count: samples.length };
}

/** A client of the API. */
class Api {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(url: string, token: string) {
    this.#url = url;
    this.#headers = { authorization: `Bearer ${token}` };
  }

  static async login(url: string): Promise<Api> {
    const answer = await fetch(`${url}/api/auth/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ username: "Admin", password: "Admin" }),
    });
    return new Api(url, ((await answer.json()) as { token: string }).token);
  }

  async get(path: string): Promise<unknown> {
    const answer = await fetch(this.#url + path, { headers: this.#headers });
    if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
    return answer.json();
  }

  async post(path: string): Promise<void> {
    const answer = await fetch(this.#url + path, { method: "POST", headers: this.#headers });
    if (!answer.ok) throw new Error(`${path} answers ${answer.status}: ${await answer.text()}`);
    await answer.text();
  }

  /** Tells what each event says of each instance, until `signal` aborts. */
  async watch(serviceId: string, signal: AbortSignal, tell: (number: number, detail: string) => void): Promise<void> {
    const answer = await fetch(`${this.#url}/api/service/${serviceId}/events`, { headers: this.#headers, signal });
    let text = "";
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const events = text.split("\n\n");
      text = events.pop()!;
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event)?.[1];
        if (data === undefined) continue;
        const { instance_list } = JSON.parse(data) as {
          instance_list: { instance_number: number; status_detail: string }[];
        };
        for (const { instance_number, status_detail } of instance_list) tell(instance_number, status_detail);
      }
    }
  }
}
