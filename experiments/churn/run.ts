/** Does anything grow over many deployments and undeployments? */
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { listenForCallbacks } from "../lib/callbacks.ts";
import { onLabHost } from "../lib/inside.ts";
import { descriptorsOf, memoryOf } from "../lib/process.ts";
import { startContainerd, startUp } from "../lib/product.ts";
import { keep, table, verdict } from "../lib/report.ts";
import { awaitGone, census, censusAfterOne } from "../lib/residue.ts";

const { values } = parseArgs({ options: { cycles: { type: "string", default: "200" } } });
const WARM_UP = 20;

await onLabHost(async () => {
  await startContainerd();
  const { process: up, client } = await startUp();
  const calls = await listenForCallbacks();
  const serviceId = await client.register("churn", { cmd: calls.command("churn"), stop_grace: 5, port: "18080:80" });
  const empty = await censusAfterOne(client, serviceId, calls.arrival("churn"));
  const look = async () => {
    await systemClock.sleep(5000);
    return { ...(await census()), ...memoryOf(up.pid!), descriptors: descriptorsOf(up.pid!) };
  };
  const cycles = Number(values.cycles);
  const samples: (Awaited<ReturnType<typeof look>> & { cycle: number })[] = [];
  for (let cycle = 1; cycle <= WARM_UP + cycles; cycle++) {
    await client.deploy(serviceId);
    await calls.arrival("churn");
    const instance = (await client.instances(serviceId)).at(-1)!;
    await client.undeploy(serviceId, instance.instance_number);
    // The next deployment wants the same host port, so it also shows that this one let go of it.
    if (cycle >= WARM_UP && (cycle - WARM_UP) % Math.max(1, Math.floor(cycles / 4)) === 0) {
      await awaitGone(empty);
      samples.push({ cycle: cycle - WARM_UP, ...(await look()) });
    }
  }
  const keys = [
    "pssMb",
    "anonymousMb",
    "descriptors",
    "containers",
    "snapshots",
    "links",
    "namespaces",
    "rules",
  ] as const;
  table([
    ["after cycles", ...keys],
    ...samples.map((sample) => [
      String(sample.cycle),
      ...keys.map((key) => sample[key].toFixed(key.endsWith("Mb") ? 1 : 0)),
    ]),
  ]);
  const [first, last] = [samples[0]!, samples.at(-1)!];
  for (const key of keys.slice(2))
    verdict(`${key} did not grow: ${first[key]} -> ${last[key]}`, last[key] <= first[key]);
  const grownMb = last.anonymousMb - first.anonymousMb;
  verdict(
    `anonymous memory grew by less than 15 MB, the garbage collector's slack: ${grownMb.toFixed(1)}`,
    grownMb < 15,
  );
  keep(import.meta.url, samples);
});
