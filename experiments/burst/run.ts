/** Many deployments at once: do all run or get refused for capacity, and how long does it take beside as many `ctr run`? */
import { parseArgs } from "node:util";
import { eventually } from "../../test/support/lab-host.ts";
import { listenForCallbacks } from "../lib/callbacks.ts";
import { onLabHost } from "../lib/inside.ts";
import { IMAGE, output, startContainerd, startUp } from "../lib/product.ts";
import { keep, table, verdict } from "../lib/report.ts";
import { awaitGone, censusAfterOne } from "../lib/residue.ts";

const { values } = parseArgs({ options: { count: { type: "string", default: "50" } } });

await onLabHost(async () => {
  const count = Number(values.count);
  await startContainerd();
  const { client } = await startUp();
  const calls = await listenForCallbacks();

  const serviceId = await client.register("burst", { cmd: calls.command("oak"), stop_grace: 5 });
  const empty = await censusAfterOne(client, serviceId, calls.arrival("oak"));
  const before = calls.count("oak");
  const oakMs = await timed(async () => {
    await Promise.all(Array.from({ length: count }, () => client.deploy(serviceId)));
    await eventually(() => calls.count("oak") - before >= count || undefined, {
      withinMs: 300_000,
      everyMs: 5,
      what: `${count} first requests`,
    });
  });
  const running = (await client.instances(serviceId)).length;
  const undeployMs = await timed(async () => {
    const all = await client.instances(serviceId);
    await Promise.all(all.map((instance) => client.undeploy(serviceId, instance.instance_number)));
    await awaitGone(empty, 120_000);
  });

  const names = Array.from({ length: count }, (_, index) => `ctr${index}`);
  const ctr = (name: string) =>
    output("ctr", ["-n", "edge.io", "run", "-d", "--net-host", IMAGE, name, ...calls.command(name)]);
  const ctrMs = await timed(async () => {
    for (const name of names) await ctr(name);
    await eventually(() => calls.count("ctr") >= count || undefined, { everyMs: 5, what: "first requests of ctr" });
  });
  for (const name of names)
    await output("ctr", ["-n", "edge.io", "task", "delete", "--force", name]).catch(() => "not running");
  for (const name of names) await output("ctr", ["-n", "edge.io", "container", "delete", name]);

  // Each wants a fifth of the machine's memory: at most five can be promised.
  const [cluster] = (await client.get("/api/clusters/active")) as {
    memory_in_mb?: number;
    available_memory?: number;
  }[];
  const memory = Math.floor((cluster?.memory_in_mb ?? cluster?.available_memory ?? 5000) / 5);
  const greedyId = await client.register("greedy", { cmd: calls.command("greedy"), memory, stop_grace: 5 });
  await Promise.all(Array.from({ length: 20 }, () => client.deploy(greedyId)));
  const settled = await eventually(
    async () => {
      const all = await client.instances(greedyId);
      return all.length === 20 && all.every(({ status }) => status === "RUNNING" || /capacity/i.test(status))
        ? all
        : undefined;
    },
    { withinMs: 60_000, what: "running or refused for each of 20" },
  );
  const promised = settled.filter(({ status }) => status === "RUNNING").length;

  table([
    [`${count} at once`, "s", "ratio"],
    ["oak: first call -> all first requests", (oakMs / 1000).toFixed(1), (oakMs / ctrMs).toFixed(2)],
    [`ctr run -d, one after the other`, (ctrMs / 1000).toFixed(1), "1"],
    ["oak: undeploy all, until all is gone", (undeployMs / 1000).toFixed(1), ""],
  ]);
  verdict(`all ${count} run: ${running}`, running === count);
  verdict(`of 20 that want a fifth of the memory each, at most 5 run: ${promised}`, promised <= 5 && promised >= 1);
  keep(import.meta.url, { count, oakMs, ctrMs, undeployMs, promised, settled });
});

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
