/** What instances leave on a machine while they live; back at the baseline when they are gone. */
import { eventually } from "../../test/support/lab-host.ts";
import { type Client, output } from "./product.ts";

export interface Census {
  readonly containers: number;
  readonly snapshots: number;
  readonly links: number;
  readonly namespaces: number;
  readonly rules: number;
}

const lines = (text: string) => text.split("\n").filter((line) => line.trim() !== "").length;

export async function census(): Promise<Census> {
  const [containers, snapshots, links, namespaces, rules] = await Promise.all([
    output("ctr", ["-n", "edge.io", "container", "ls", "-q"]),
    output("ctr", ["-n", "edge.io", "snapshot", "ls"]),
    output("ip", ["-o", "link"]),
    output("ip", ["netns", "list"]),
    output("nft", ["-n", "list", "ruleset"]),
  ]);
  return {
    containers: lines(containers),
    // The first line is a heading; committed layers stay with the image.
    snapshots: lines(snapshots) - 1,
    links: lines(links),
    namespaces: lines(namespaces),
    rules: lines(rules),
  };
}

/**
 * Waits until nothing is above the baseline. Links and namespaces of the warm pool may come and go: they count as gone when
 * containers and snapshots are back and the pool holds no more than it did.
 */
export async function awaitGone(baseline: Census, withinMs = 30_000): Promise<Census> {
  return eventually(
    async () => {
      const now = await census();
      const above = (Object.keys(baseline) as (keyof Census)[]).filter((key) => now[key] > baseline[key]);
      if (above.length > 0)
        throw new Error(`still there: ${above.map((key) => `${now[key] - baseline[key]} ${key}`).join(", ")}`);
      return now;
    },
    { withinMs, everyMs: 5, what: "removal of everything" },
  );
}

/**
 * The census after one instance of the service has come and gone: its service stays known for a few minutes, refused, since the
 * next instance is likely. Everything else must be as it was.
 */
export async function censusAfterOne(client: Client, serviceId: string, arrived: Promise<unknown>): Promise<Census> {
  const empty = await census();
  await client.deploy(serviceId);
  await arrived;
  for (const { instance_number } of await client.instances(serviceId))
    await client.undeploy(serviceId, instance_number);
  const keys = ["containers", "snapshots", "links", "namespaces"] as const;
  return eventually(
    async () => {
      const now = await census();
      return keys.every((key) => now[key] <= empty[key]) ? now : undefined;
    },
    { withinMs: 30_000, what: "removal of the first instance" },
  );
}
