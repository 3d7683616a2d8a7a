/**
 * How long a change of a service's instances takes to reach those who are interested: from the report of the worker that has the
 * instance, through the cluster, to the MQTT callback of every interested worker. All in one process, over loopback.
 */
import { interestIn } from "../../src/protocol/route.ts";
import {
  assignment,
  eventually,
  ScriptedWorker,
  TestCluster,
  workerInfo,
} from "../../test/integration/cluster-fixture.ts";
import { keep, median, spread, table, verdict } from "../lib/report.ts";

const ROUNDS = 15;
const rows: string[][] = [["interested", "first ms", "median ms", "last ms"]];
const results: Record<string, unknown> = {};

for (const [workers, keys] of [
  [1, 1],
  [100, 1],
  [1000, 1],
  [1, 100],
  [1, 1000],
] as const) {
  const measured = await measure(workers, keys);
  const name = `${workers} workers, ${keys} services each`;
  rows.push([name, ...[measured.first, measured.middle, measured.last].map((samples) => spread(samples, 1))]);
  results[name] = measured;
  if (workers === 100) verdict("100 interested workers know within 50 ms", median(measured.last) <= 50);
}
table(rows);
keep(import.meta.url, results);

interface Measured {
  readonly first: number[];
  readonly middle: number[];
  readonly last: number[];
}

/** Each round, one instance of every service moves to another address at once. */
async function measure(workerCount: number, serviceCount: number): Promise<Measured> {
  await using it = await TestCluster.start();
  const server = await it.join(workerInfo("server", { cpuMillis: 1e6, memoryBytes: 1e12 }), false);
  const services = Array.from({ length: serviceCount }, (_, index) => ({
    ...assignment({ directWorkers: ["server"] }),
    network: { instanceAddress: ip(30, index), roundRobin: ip(31, index), closest: ip(32, index) },
  }));
  const byKey = new Map(services.map(({ jobName, serviceId }) => [interestIn.name(jobName), serviceId]));
  it.root.answer = (key) => [byKey.get(key)!];
  it.root.want(...services);
  await eventually("placed", () => services.every((one) => server.lists(one)));
  const clients = await Promise.all(
    Array.from({ length: workerCount }, async (_, index) => {
      const client = new ScriptedWorker(workerInfo(`client${index}`));
      it.workers.push(client);
      await client.register(it.joinPort, await it.role!.issueWorkerToken());
      await client.connect(it.mqttPort);
      await client.ask(...byKey.keys());
      return client;
    }),
  );
  await eventually("answered", () => clients.every(({ tables }) => tables.size === serviceCount), 30_000);
  const samples: Measured = { first: [], middle: [], last: [] };
  for (let round = 0; round < ROUNDS; round++) {
    // Heartbeats, which nobody else sends here.
    await Promise.all(clients.map((client) => client.report()));
    const sandbox = ip(18, round);
    const arrivals = new Map<string, number>();
    const start = performance.now();
    for (const client of clients) {
      client.onRoutes = () => {
        const isThere = services.every(
          ({ serviceId }) => client.tables.get(serviceId)?.instances[0]?.live?.sandbox === sandbox,
        );
        if (isThere && !arrivals.has(client.id)) arrivals.set(client.id, performance.now() - start);
      };
    }
    const live = { sandbox, worker: { id: server.id, address: "192.0.2.1", subnets: ["10.18.0.0/26"] } };
    await server.report({
      instances: server.manifest.instances.map(({ instanceId, generation }) => ({
        instanceId,
        generation,
        status: "RUNNING",
        detail: "runs",
        since: 1,
        restarts: 0,
        live,
      })),
      removed: [],
    });
    await eventually("known everywhere", () => arrivals.size === clients.length, 30_000);
    const sorted = [...arrivals.values()].sort((one, other) => one - other);
    samples.first.push(sorted[0]!);
    samples.middle.push(median(sorted));
    samples.last.push(sorted.at(-1)!);
  }
  return samples;
}

function ip(second: number, index: number): string {
  return `10.${second}.${Math.floor(index / 200)}.${1 + (index % 200)}`;
}
