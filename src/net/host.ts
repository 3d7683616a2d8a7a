/** What the network needs to know of the host, and the few settings of it that it changes. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import * as z from "zod/mini";
import { exec } from "../base/exec.ts";
import type { FoundLink } from "./adoption.ts";
import { type HostRoute, parseDestination } from "./clash.ts";
import { BRIDGE } from "./compile.ts";
import { NAMESPACE_FOLDER } from "./sandbox-names.ts";

const Links = z.array(
  z.object({
    ifname: z.string(),
    mtu: z.number(),
    ifalias: z.optional(z.string()),
    linkinfo: z.optional(z.object({ info_kind: z.optional(z.string()) })),
  }),
);
const Routes = z.array(
  z.object({
    type: z.optional(z.string()),
    dst: z.string(),
    dev: z.optional(z.string()),
    metric: z.optional(z.number()),
  }),
);

export interface HostLink extends FoundLink {
  readonly kind: string | undefined;
  readonly mtu: number;
}

export interface HostNetwork {
  readonly links: readonly HostLink[];
  readonly routes: readonly HostRoute[];
  /** MTU of the link that the default route leaves by; 1500 when there is no such route. */
  readonly egressMtu: number;
  /** Names in /run/netns. */
  readonly namespaces: readonly string[];
}

export async function readHostNetwork(signal: AbortSignal): Promise<HostNetwork> {
  const [linkText, routeText, namespaces] = await Promise.all([
    exec("ip", ["-json", "-details", "link", "show"], { signal }),
    exec("ip", ["-json", "-4", "route", "show", "table", "all"], { signal }),
    readdir(NAMESPACE_FOLDER).catch(() => []),
  ]);
  const links = z
    .parse(Links, JSON.parse(linkText))
    .map(({ ifname, ifalias, mtu, linkinfo }) => ({ name: ifname, alias: ifalias, mtu, kind: linkinfo?.info_kind }));
  // `ip` prints nothing at all, not an empty list, when there is no route.
  const rows = z.parse(Routes, JSON.parse(routeText || "[]"));
  const routes = rows.flatMap(({ type, dst, dev }) => {
    const destination = parseDestination(dst);
    return destination && type !== "broadcast" && type !== "multicast" ? [{ destination, device: dev }] : [];
  });
  const defaults = rows.filter(({ dst, dev }) => dst === "default" && dev !== undefined);
  const egress = defaults.toSorted((left, right) => (left.metric ?? 0) - (right.metric ?? 0))[0]?.dev;
  return { links, routes, egressMtu: links.find(({ name }) => name === egress)?.mtu ?? 1500, namespaces };
}

/** Forwarding for all, the rest for our bridge only. They stay when we go: others may rely on forwarding by then. */
export async function writeSysctls(): Promise<void> {
  const settings = {
    "ipv4/ip_forward": "1",
    // Lets the worker itself reach published ports on 127.0.0.1; what sandboxes send there is dropped by rule.
    [`ipv4/conf/${BRIDGE}/route_localnet`]: "1",
  };
  for (const [path, value] of Object.entries(settings)) {
    const file = `/proc/sys/net/${path}`;
    if ((await readFile(file, "utf8")).trim() !== value) await writeFile(file, value);
  }
}

/** The contents of the host's resolver files, best first. */
export async function readResolvConfs(): Promise<string[]> {
  const files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
  return Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
}
