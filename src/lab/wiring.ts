/** Applies a plan's commands to the namespaces: links, addresses, routes, packet rules. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../base/errors.ts";
import { exec } from "../base/exec.ts";
import type { CarrierFile } from "./carrier.ts";
import { type Cut, routerRules } from "./cuts.ts";
import type { HostPlan, LabPlan } from "./plan.ts";

/** Process that holds the namespace of each site's router and of each host. */
export type Holders = ReadonlyMap<string, number>;

/** Whether the kernel can delay and lose packets itself. */
export async function hasNetem(): Promise<boolean> {
  try {
    await exec("unshare", ["--net", "--", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]);
    return true;
  } catch {
    return false;
  }
}

export async function connectMachine({ machine, network }: LabPlan, holders: Holders): Promise<void> {
  const { device, address, gate, gateRouter } = machine;
  const peer = ["type", "veth", "peer", "name", "out", "netns", String(holders.get(gateRouter))];
  await exec("ip", ["link", "add", device, ...peer]);
  await exec("ip", ["address", "add", `${address}/30`, "dev", device]);
  await exec("ip", ["link", "set", device, "up"]);
  await exec("ip", ["route", "replace", network, "via", gate, "dev", device]);
}

export async function disconnectMachine(device: string): Promise<void> {
  await exec("ip", ["link", "delete", device]).catch((error: unknown) => {
    if (!/Cannot find device/.test(String(error))) throw error;
  });
}

/** One after the other: a link is made by the router that comes first. */
export async function wireRouters({ routers }: LabPlan, holders: Holders): Promise<void> {
  for (const { name, ip, tc } of routers) {
    await inNetwork(holders.get(name)!, ["ip", "-batch", "-"], batch(ip, holders));
    if (tc.length > 0) await inNetwork(holders.get(name)!, ["tc", "-batch", "-"], batch(tc, holders));
  }
}

export async function plugIn({ host, site, plug }: HostPlan, holders: Holders): Promise<void> {
  const [router, own] = [holders.get(site)!, holders.get(host.name)!];
  await inNetwork(router, ["ip", "-batch", "-"], batch(plug.router, holders));
  await inNetwork(own, ["ip", "-batch", "-"], batch(plug.inside, holders));
  if (plug.routerTc.length > 0) await inNetwork(router, ["tc", "-batch", "-"], batch(plug.routerTc, holders));
  if (plug.insideTc.length > 0) await inNetwork(own, ["tc", "-batch", "-"], batch(plug.insideTc, holders));
}

/** All packet rules of all routers, each in one transaction. */
export async function applyCuts(plan: LabPlan, holders: Holders, cuts: readonly Cut[]): Promise<void> {
  await Promise.all(
    plan.routers.map((router) =>
      inNetwork(holders.get(router.name)!, ["nft", "-f", "-"], routerRules(plan, router, cuts)),
    ),
  );
}

/** Starts the process that carries the slow links, and waits until their devices are there. */
export async function startCarrier(
  { carried }: LabPlan,
  { holders, folder, oak }: { readonly holders: Holders; readonly folder: string; readonly oak: readonly string[] },
): Promise<void> {
  const links: CarrierFile = carried.map(({ ends, shape }) => {
    const [a, b] = ends.map(({ router, device }) => ({ pid: holders.get(router)!, device }));
    return { ends: [a!, b!], shape };
  });
  const path = carrierFile(folder);
  writeFileSync(path, JSON.stringify(links));
  const log = openSync(join(folder, "carrier.log"), "a", 0o600);
  const [file = "", ...args] = [...oak, "lab", "carry", path];
  const child = spawn(file, args, { detached: true, stdio: ["ignore", "pipe", log] });
  closeSync(log);
  await firstOutput(child);
}

export const carrierFile = (folder: string) => join(folder, "carrier.json");

function firstOutput(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) =>
      reject(
        new AppError("CARRIER_FAILED", `The process that carries slow links ended (exit ${code}); see carrier.log`),
      ),
    );
    child.stdout?.once("data", () => {
      child.stdout?.destroy();
      child.unref();
      resolve();
    });
  });
}

async function inNetwork(pid: number, command: readonly string[], stdin: string): Promise<void> {
  await exec("nsenter", [`--net=/proc/${pid}/ns/net`, "--", ...command], { stdin });
}

function batch(commands: readonly string[], holders: Holders): string {
  return commands
    .map((command) => `${command.replace(/@([\w-]+)/g, (_, node: string) => String(holders.get(node)))}\n`)
    .join("");
}
