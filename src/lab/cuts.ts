/** What is cut off from what, and the packet rules of a site's router that follow. Pure. */
import { AppError } from "../base/errors.ts";
import type { HostPlan, LabPlan, RouterPlan } from "./plan.ts";

/** Two hosts or sites that cannot reach each other; without `b`: one that is cut off from everything. */
export interface Cut {
  readonly a: string;
  readonly b?: string | undefined;
}

/**
 * Devices that lead out of a site. Not all but the bridge: where bridged packets pass the same chains (br_netfilter), they come
 * from the bridges of slow host links, too.
 */
const OUTSIDE = ['"to*"', '"out"'];

/** @throws AppError NOT_FOUND | INPUT_INVALID */
export function checkCut(plan: LabPlan, { a, b }: Cut): void {
  const known = [...plan.routers.map(({ name }) => name), ...plan.hosts.map(({ host }) => host.name)];
  for (const name of b === undefined ? [a] : [a, b]) {
    if (!known.includes(name)) {
      throw new AppError("NOT_FOUND", `The lab has no host or site "${name}"; there are ${known.join(", ")}`);
    }
  }
  if (a === b) throw new AppError("INPUT_INVALID", `"${a}" cannot be cut off from itself`);
}

export function isSameCut(one: Cut, other: Cut): boolean {
  return (one.a === other.a && one.b === other.b) || (one.a === other.b && one.b === other.a);
}

/** The whole ruleset of a site's router, for one `nft -f -`. */
export function routerRules(plan: LabPlan, router: RouterPlan, cuts: readonly Cut[]): string {
  const { within, across, ports, isAlone } = effects(plan, router, cuts);
  const routed = [
    ...(isAlone ? OUTSIDE.flatMap((device) => [`iifname ${device} drop`, `oifname ${device} drop`]) : []),
    ...across.flatMap(([a, b]) => [`ip saddr ${a} ip daddr ${b} drop`, `ip saddr ${b} ip daddr ${a} drop`]),
    ...(router.nat ? OUTSIDE.map((device) => `iifname ${device} ct state new drop`) : []),
  ];
  const bridged = within.flatMap(([a, b]) => [
    `iifname "${a}" oifname "${b}" drop`,
    `iifname "${b}" oifname "${a}" drop`,
  ]);
  const toPort = ports.map((port) => `oifname "${port}" drop`);
  return [
    ...["ip", "bridge"].flatMap((family) => [`add table ${family} lab`, `delete table ${family} lab`]),
    "table ip lab {",
    chain("forward", "filter hook forward priority filter", routed),
    chain(
      "postrouting",
      "nat hook postrouting priority srcnat",
      router.nat ? OUTSIDE.map((device) => `oifname ${device} masquerade`) : [],
    ),
    "}",
    "table bridge lab {",
    chain(
      "prerouting",
      "filter hook prerouting priority -300",
      ports.map((port) => `iifname "${port}" drop`),
    ),
    chain("forward", "filter hook forward priority 0", [...bridged, ...toPort]),
    chain("output", "filter hook output priority 0", toPort),
    "}",
    "",
  ].join("\n");
}

interface Effects {
  /** Pairs of ports of this site's bridge. */
  readonly within: [string, string][];
  /** Pairs of addresses, of which one is of this site. */
  readonly across: [string, string][];
  readonly ports: string[];
  readonly isAlone: boolean;
}

function effects({ hosts }: LabPlan, { name }: RouterPlan, cuts: readonly Cut[]): Effects {
  const found: Effects = { within: [], across: [], ports: [], isAlone: false };
  const members = (end: string) => hosts.filter(({ host, site }) => host.name === end || site === end);
  let isAlone = false;
  for (const { a, b } of cuts) {
    if (b === undefined) {
      if (a === name) isAlone = true;
      else
        found.ports.push(...hosts.filter(({ host, site }) => host.name === a && site === name).map(({ port }) => port));
      continue;
    }
    for (const [one, other] of pairs(members(a), members(b))) {
      if (one.site === name && other.site === name) found.within.push([one.port, other.port]);
      else if (one.site === name || other.site === name) found.across.push([one.address, other.address]);
    }
  }
  return { ...found, isAlone };
}

function pairs(left: readonly HostPlan[], right: readonly HostPlan[]): [HostPlan, HostPlan][] {
  return left.flatMap((one) =>
    right.filter((other) => other !== one).map((other): [HostPlan, HostPlan] => [one, other]),
  );
}

function chain(name: string, type: string, rules: readonly string[]): string {
  return `  chain ${name} {\n    type ${type}; policy accept;\n${rules.map((rule) => `    ${rule}\n`).join("")}  }`;
}
