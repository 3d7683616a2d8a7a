/** What the network needs to know of the host, and the few settings of it that it changes. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import * as z from "zod/mini";
import { parseAddress } from "../addressing/subnet.ts";
import { exec } from "../base/exec.ts";
import { type HostRoute, parseDestination } from "./clash.ts";
import { GATEWAY_LINK, ROUTE_PROTOCOL, TUN_LINK, VXLAN_LINK } from "./overlay-names.ts";
import type { Underlay } from "./peer-book.ts";
import { addressOfLink, NAMESPACE_FOLDER } from "./sandbox-names.ts";

const Links = z.array(
  z.object({
    ifname: z.string(),
    mtu: z.number(),
    address: z.optional(z.string()),
    ifalias: z.optional(z.string()),
    linkinfo: z.optional(
      z.object({
        info_kind: z.optional(z.string()),
        info_data: z.optional(
          z.object({ id: z.optional(z.number()), local: z.optional(z.string()), port: z.optional(z.number()) }),
        ),
      }),
    ),
  }),
);
const Routes = z.array(
  z.object({
    type: z.optional(z.string()),
    dst: z.string(),
    dev: z.optional(z.string()),
    metric: z.optional(z.number()),
    protocol: z.optional(z.string()),
  }),
);
const Addresses = z.array(
  z.object({
    ifname: z.optional(z.string()),
    mtu: z.optional(z.number()),
    addr_info: z.optional(z.array(z.object({ local: z.optional(z.string()), prefixlen: z.optional(z.number()) }))),
  }),
);
const Neighbours = z.array(z.object({ dst: z.string(), dev: z.string(), lladdr: z.optional(z.string()) }));

export interface HostLink {
  readonly name: string;
  readonly mtu: number;
  readonly mac: string | undefined;
  readonly alias: string | undefined;
  readonly kind: string | undefined;
  /** Of a tunnel. */
  readonly tunnel: { readonly id?: number | undefined; readonly local?: string | undefined } | undefined;
}

export interface HostNetwork {
  readonly links: readonly HostLink[];
  readonly routes: readonly HostRoute[];
  /** MTU of the link that the default route leaves by; 1500 when there is no such route. */
  readonly egressMtu: number;
  /** Names in /run/netns. */
  readonly namespaces: readonly string[];
}

export async function readHostNetwork(signal?: AbortSignal): Promise<HostNetwork> {
  const [linkText, routeText, namespaces] = await Promise.all([
    exec("ip", ["-json", "-details", "link", "show"], signal ? { signal } : {}),
    exec("ip", ["-json", "-4", "route", "show", "table", "all"], signal ? { signal } : {}),
    readdir(NAMESPACE_FOLDER).catch(() => []),
  ]);
  const links = z.parse(Links, JSON.parse(linkText)).map(({ ifname, ifalias, mtu, address, linkinfo }) => ({
    name: ifname,
    alias: ifalias,
    mtu,
    mac: address,
    kind: linkinfo?.info_kind,
    tunnel: linkinfo?.info_data,
  }));
  // `ip` prints nothing at all, not an empty list, when there is no route.
  const rows = z.parse(Routes, JSON.parse(routeText || "[]"));
  const routes = rows.flatMap(({ type, dst, dev, protocol }) => {
    const destination = parseDestination(dst);
    const isOurs = protocol === String(ROUTE_PROTOCOL);
    return destination && type !== "broadcast" && type !== "multicast" ? [{ destination, device: dev, isOurs }] : [];
  });
  const defaults = rows.filter(({ dst, dev }) => dst === "default" && dev !== undefined);
  const egress = defaults.toSorted((left, right) => (left.metric ?? 0) - (right.metric ?? 0))[0]?.dev;
  return { links, routes, egressMtu: links.find(({ name }) => name === egress)?.mtu ?? 1500, namespaces };
}

/** The host's own addresses and neighbours: our links are left out. */
export async function readUnderlay(): Promise<Underlay> {
  const [addressText, neighbourText] = await Promise.all([
    exec("ip", ["-json", "-4", "address", "show"]),
    exec("ip", ["-json", "-4", "neighbour", "show"]),
  ]);
  const links = z
    .parse(Addresses, JSON.parse(addressText || "[]"))
    .flatMap(({ ifname = "", mtu = 0, addr_info = [] }) =>
      addr_info.flatMap(({ local = "", prefixlen: prefix = 32 }) => {
        const address = parseAddress(local);
        if (address === undefined || ifname === "lo" || isOurs(ifname)) return [];
        const size = 2 ** (32 - prefix);
        return [{ name: ifname, mtu, subnet: { base: Math.floor(address / size) * size, prefix } }];
      }),
    );
  const neighbours = z.parse(Neighbours, JSON.parse(neighbourText || "[]")).flatMap(({ dst, dev, lladdr }) => {
    const address = parseAddress(dst);
    return address === undefined || lladdr === undefined || isOurs(dev) ? [] : [{ address, link: dev, mac: lladdr }];
  });
  return { links, neighbours };
}

/** IPsec or the like: what the host says of its own packets must see each of them. */
export async function hasOutgoingPolicies(): Promise<boolean> {
  // A kernel without them has none.
  const text = await exec("ip", ["xfrm", "policy", "count"]).catch(() => "");
  return Number(/OUT\s+(\d+)/.exec(text)?.[1] ?? 0) > 0;
}

function isOurs(link: string): boolean {
  return [GATEWAY_LINK, VXLAN_LINK, TUN_LINK].includes(link) || addressOfLink(link) !== undefined;
}

/** Writes settings under /proc/sys/net that differ; those that this kernel does not have are left out. */
export async function writeSysctls(settings: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, value] of Object.entries(settings)) {
    const file = `/proc/sys/net/${path}`;
    const current = await readFile(file, "utf8").catch(() => value);
    if (current.trim() !== value) await writeFile(file, value);
  }
}

/** The contents of the host's resolver files, best first. */
export async function readResolvConfs(): Promise<string[]> {
  const files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
  return Promise.all(files.map((file) => readFile(file, "utf8").catch(() => "")));
}
