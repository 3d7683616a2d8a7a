/** Reads back what `ip-state.ts` writes: what there is of ours in the kernel besides nft. */
import * as z from "zod/mini";
import { parseSubnet, type Subnet } from "../addressing/subnet.ts";
import { exec } from "../base/exec.ts";
import type { IpState } from "./ip-state.ts";
import { GATEWAY_LINK, ROUTE_PROTOCOL, RULES_FROM, RULES_TO, VXLAN_LINK } from "./overlay-names.ts";
import { addressOfLink } from "./sandbox-names.ts";

const Address = z.object({
  ifname: z.optional(z.string()),
  addr_info: z.optional(z.array(z.object({ local: z.optional(z.string()), prefixlen: z.optional(z.number()) }))),
});
const Route = z.object({
  type: z.optional(z.string()),
  dst: z.string(),
  gateway: z.optional(z.string()),
  dev: z.optional(z.string()),
  table: z.optional(z.string()),
  scope: z.optional(z.string()),
  prefsrc: z.optional(z.string()),
  metric: z.optional(z.number()),
  flags: z.optional(z.array(z.string())),
});
const Rule = z.object({
  priority: z.number(),
  not: z.optional(z.null()),
  nop: z.optional(z.null()),
  fwmark: z.optional(z.string()),
  fwmask: z.optional(z.string()),
  goto: z.optional(z.number()),
  table: z.optional(z.string()),
});
const Neighbour = z.object({ dst: z.string(), dev: z.string(), lladdr: z.optional(z.string()) });
const TunnelEntry = z.object({ mac: z.string(), ifname: z.optional(z.string()), dst: z.optional(z.string()) });

export async function readIpState(): Promise<IpState> {
  const [addresses, routes, rules, neighbours, tunnel] = await Promise.all([
    list(Address, "ip", "-4", "address", "show"),
    list(Route, "ip", "-4", "route", "show", "table", "all", "proto", String(ROUTE_PROTOCOL)),
    list(Rule, "ip", "-4", "rule", "show"),
    list(Neighbour, "ip", "-4", "neighbour", "show", "nud", "permanent"),
    list(TunnelEntry, "bridge", "fdb", "show"),
  ]);
  return new Map<string, string>([
    ...addresses.flatMap(({ ifname, addr_info = [] }) =>
      (ifname === GATEWAY_LINK ? addr_info : []).map(({ local, prefixlen }): [string, string] => [
        `address ${local}/${prefixlen} dev ${GATEWAY_LINK}`,
        "",
      ]),
    ),
    ...routes.map(routeEntry),
    ...rules.filter(({ priority }) => priority >= RULES_FROM && priority <= RULES_TO).map(ruleEntry),
    ...neighbours
      .filter(({ dev }) => dev === VXLAN_LINK || addressOfLink(dev) !== undefined)
      .map(({ dst, dev, lladdr }): [string, string] => [`neighbour ${dst} dev ${dev}`, lladdr ?? ""]),
    ...tunnel.flatMap(({ mac, ifname, dst }): [string, string][] =>
      ifname === VXLAN_LINK && dst !== undefined ? [[`fdb ${mac}`, dst]] : [],
    ),
  ]);
}

/** The subnets that an earlier agent used here: their routes are the record. */
export function subnetsOf(state: IpState): Subnet[] {
  return [...state.keys()].flatMap((key) => {
    const subnet = /^route unreachable (\S+)/.exec(key)?.[1];
    return subnet === undefined ? [] : [parseSubnet(subnet)];
  });
}

function routeEntry(route: z.infer<typeof Route>): [string, string] {
  const { type, dst, gateway, dev, table, scope, prefsrc, metric, flags = [] } = route;
  const words = [type === "unreachable" ? "route unreachable" : "route", dst];
  if (metric !== undefined) words.push("metric", String(metric));
  if (table !== undefined && table !== "main") words.push("table", table);
  if (type === "unreachable") return [words.join(" "), ""];
  const value = [
    ...(gateway === undefined ? [] : ["via", gateway]),
    ...(dev === undefined ? [] : ["dev", dev]),
    ...(scope === undefined ? [] : ["scope", scope]),
    ...(prefsrc === undefined ? [] : ["src", prefsrc]),
    ...flags.filter((flag) => flag === "onlink"),
  ];
  return [words.join(" "), value.join(" ")];
}

function ruleEntry({
  priority,
  fwmark,
  fwmask,
  goto: target,
  table,
  nop,
  not,
}: z.infer<typeof Rule>): [string, string] {
  const mark = fwmark === undefined ? undefined : `0x${Number(fwmark).toString(16).padStart(8, "0")}`;
  if (nop === null) return [`rule ${priority}`, "nop"];
  if (target !== undefined) {
    return [`rule ${priority}`, `${not === null ? "not " : ""}fwmark ${fwmark}/${fwmask} goto ${target}`];
  }
  return [`rule ${priority}`, `fwmark ${mark} lookup ${table}`];
}

async function list<T>(schema: z.ZodMiniType<T>, program: string, ...args: string[]): Promise<T[]> {
  // Nothing at all, not an empty list, is printed when there is nothing.
  return z.parse(z.array(schema), JSON.parse((await exec(program, ["-json", ...args])).trim() || "[]"));
}
