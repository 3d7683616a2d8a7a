/** How long from API call to the application's own first request, beside a bare `ctr run -d`; and how long until it is gone. */
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { listenForCallbacks } from "../lib/callbacks.ts";
import { onLabHost } from "../lib/inside.ts";
import { IMAGE, output, startContainerd, startUp } from "../lib/product.ts";
import { keep, median, spread, table, verdict } from "../lib/report.ts";
import { awaitGone, censusAfterOne } from "../lib/residue.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "15" } } });

await onLabHost(async () => {
  await startContainerd();
  const { client } = await startUp();
  const calls = await listenForCallbacks();
  const serviceId = await client.register("dt", { cmd: calls.command("oak"), stop_grace: 5 });
  const baseline = await censusAfterOne(client, serviceId, calls.arrival("oak"));
  const oak: number[] = [];
  const ctr: number[] = [];
  const undeploy: number[] = [];
  for (let round = -2; round < Number(values.rounds); round++) {
    const oakStart = performance.now();
    await client.deploy(serviceId);
    const oakMs = (await calls.arrival("oak")) - oakStart;
    const instance = (await client.instances(serviceId)).at(-1)!;
    await systemClock.sleep(200);
    const undeployStart = performance.now();
    await client.undeploy(serviceId, instance.instance_number);
    await awaitGone(baseline);
    const undeployMs = performance.now() - undeployStart;
    await systemClock.sleep(300);

    const name = `bare${round + 2}`;
    const ctrStart = performance.now();
    // Host network: it has less to do than we have, and can call us.
    await output("ctr", ["-n", "edge.io", "run", "-d", "--net-host", IMAGE, name, ...calls.command(name)]);
    const ctrMs = (await calls.arrival(name)) - ctrStart;
    await output("ctr", ["-n", "edge.io", "task", "kill", "--signal", "SIGKILL", name]);
    await systemClock.sleep(200);
    await output("ctr", ["-n", "edge.io", "task", "delete", name]).catch(() => "already gone");
    await output("ctr", ["-n", "edge.io", "container", "delete", name]);
    await systemClock.sleep(200);
    if (round < 0) continue; // warm-up
    oak.push(oakMs);
    ctr.push(ctrMs);
    undeploy.push(undeployMs);
  }
  const ratio = median(oak) / median(ctr);
  table([
    ["ms, median (range)", "value", "ratio"],
    ["oak: API call -> first request", spread(oak), ratio.toFixed(2)],
    ["ctr run -d (host network) -> first request", spread(ctr), "1"],
    ["oak: undeploy -> container, sandbox, rules gone", spread(undeploy), ""],
  ]);
  verdict(`deploy <= 1.5 x ctr run: ${ratio.toFixed(2)}`, ratio <= 1.5);
  verdict(`undeploy < 500 ms: ${median(undeploy).toFixed(0)} ms`, median(undeploy) < 500);
  keep(import.meta.url, { oak, ctr, undeploy });
});
