/** What an instance costs in memory beyond the application itself, when there are many; beside one shim each. */
import { parseArgs } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { eventually } from "../../test/support/lab-host.ts";
import { listenForCallbacks } from "../lib/callbacks.ts";
import { onLabHost } from "../lib/inside.ts";
import { memAvailableMb, memoryOf, processes } from "../lib/process.ts";
import { IMAGE, output, startContainerd, startUp } from "../lib/product.ts";
import { keep, table, verdict } from "../lib/report.ts";

const { values } = parseArgs({ options: { count: { type: "string", default: "100" } } });

await onLabHost(async () => {
  const count = Number(values.count);
  await startContainerd();
  const { process: up, client } = await startUp();
  const calls = await listenForCallbacks();
  const serviceId = await client.register("density", { cmd: calls.command("oak"), stop_grace: 5 });
  await systemClock.sleep(10_000);
  const empty = look(up.pid!);
  for (let index = 1; index <= count; index++) {
    await client.deploy(serviceId);
    await eventually(() => calls.count("oak") >= index || undefined, {
      withinMs: 60_000,
      everyMs: 5,
      what: `instance ${index}`,
    });
  }
  await systemClock.sleep(10_000);
  const full = look(up.pid!);
  for (const { instance_number } of await client.instances(serviceId))
    await client.undeploy(serviceId, instance_number);
  await eventually(
    async () => (await output("ctr", ["-n", "edge.io", "container", "ls", "-q"])).trim() === "" || undefined,
    {
      withinMs: 120_000,
      what: "an empty machine",
    },
  );

  await systemClock.sleep(5000);
  const beforeCtr = look(up.pid!);
  for (let index = 0; index < count; index++) {
    const name = `ctr${index}`;
    await output("ctr", ["-n", "edge.io", "run", "-d", "--net-host", IMAGE, name, ...calls.command(name)]);
  }
  await systemClock.sleep(5000);
  const withCtr = look(up.pid!);

  const perInstance = (a: Look, b: Look, key: keyof Look) => (b[key] - a[key]) / count;
  const cells = (a: Look, b: Look) =>
    (["shims", "shimsPssMb", "appsPssMb", "oakPssMb", "containerdPssMb", "usedMb"] as const).map((key) =>
      key === "shims" ? String(b.shims - a.shims) : perInstance(a, b, key).toFixed(2),
    );
  table([
    [
      `${count} busybox instances`,
      "shims",
      "shim PSS",
      "app PSS",
      "oak PSS",
      "containerd PSS",
      "machine (MemAvailable)",
    ],
    ["oak, MB each", ...cells(empty, full)],
    ["ctr run, one shim each, no network, MB each", ...cells(beforeCtr, withCtr)],
  ]);
  const beyond =
    perInstance(empty, full, "shimsPssMb") +
    perInstance(empty, full, "oakPssMb") +
    perInstance(empty, full, "containerdPssMb");
  verdict(`<= 2 MB an instance beyond the application: ${beyond.toFixed(2)}`, beyond <= 2);
  keep(import.meta.url, { count, empty, full, beforeCtr, withCtr });
});

interface Look {
  readonly shims: number;
  readonly shimsPssMb: number;
  readonly appsPssMb: number;
  readonly oakPssMb: number;
  readonly containerdPssMb: number;
  readonly usedMb: number;
}

function look(oakPid: number): Look {
  const shims = processes(/containerd-shim/);
  const pss = (pids: readonly number[]) => pids.reduce((sum, pid) => sum + memoryOf(pid).pssMb, 0);
  return {
    shims: shims.length,
    shimsPssMb: pss(shims),
    appsPssMb: pss(processes(/\/bin\/busybox (sh|sleep)/)),
    oakPssMb: memoryOf(oakPid).pssMb,
    containerdPssMb: pss(processes(/^\S*containerd( |$)/)),
    usedMb: -memAvailableMb(),
  };
}
