/**
 * What a lab consists of: sites, each one network with its hosts; links between the sites, and of each host to its site.
 * Pure. A topology is described by a document (YAML, or made from flags), and everything wrong with it is named by field.
 */
import * as z from "zod/mini";
import { AppError } from "../base/errors.ts";
import { describeProblems, type Problem, validate } from "../base/validation.ts";
import { Bandwidth, Duration, Share } from "./quantity.ts";

/** What a link does to packets, each way. */
export interface Shape {
  readonly delayMs: number;
  readonly jitterMs: number;
  readonly lossPercent: number;
  readonly bitsPerSecond: number | undefined;
}

export const HOST_ROLES = ["root", "cluster", "worker", "none"] as const;
export type HostRole = (typeof HOST_ROLES)[number];

export interface Host {
  readonly name: string;
  readonly role: HostRole;
  /** A worker's cluster, by the name of its host. */
  readonly cluster: string | undefined;
  /** To its site's network; undefined: a cable. */
  readonly link: Shape | undefined;
  /** Of its role, beyond those that the lab makes itself. */
  readonly settings: Readonly<Record<string, unknown>>;
}

export interface Site {
  readonly name: string;
  /** Its hosts share one address to the outside, and nothing outside can open a connection to them. */
  readonly nat: boolean;
  readonly hosts: readonly Host[];
}

export interface SiteLink {
  readonly between: readonly [string, string];
  readonly link: Shape | undefined;
}

export interface Topology {
  readonly sites: readonly Site[];
  /** One for each pair of sites. */
  readonly links: readonly SiteLink[];
}

export interface TopologyFlags {
  readonly clusters: number;
  /** Of each cluster. */
  readonly workers: number;
  /** As in the document: `20ms`, `1%`. */
  readonly delay?: string | undefined;
  readonly loss?: string | undefined;
  readonly nat?: boolean | undefined;
}

/** It becomes the name of a machine, of a cluster, and a part of a cgroup's. */
const LabName = z
  .string()
  .check(z.regex(/^[a-z](?:[a-z0-9-]{0,29}[a-z0-9])?$/, "write lower-case letters, digits and dashes, at most 31"));
const shape = {
  delay: z.optional(Duration),
  jitter: z.optional(Duration),
  loss: z.optional(Share),
  bandwidth: z.optional(Bandwidth),
};
const LinkDocument = z.strictObject(shape);
const Document = z.strictObject({
  /** Between sites, where `links` says nothing else. */
  link: z.optional(LinkDocument),
  sites: z
    .array(
      z.strictObject({
        name: LabName,
        nat: z.optional(z.boolean()),
        hosts: z
          .array(
            z.strictObject({
              name: LabName,
              role: z.optional(z.enum(HOST_ROLES)),
              cluster: z.optional(LabName),
              link: z.optional(LinkDocument),
              settings: z.optional(z.record(z.string(), z.unknown())),
            }),
          )
          .check(z.minLength(1), z.maxLength(200)),
      }),
    )
    .check(z.minLength(1), z.maxLength(64)),
  links: z.optional(z.array(z.strictObject({ between: z.tuple([LabName, LabName]), ...shape }))),
});
type Document = z.output<typeof Document>;

/** The document that `--clusters` and its companions stand for: the root's site `hq`, and `edge1`, `edge2` … */
export function documentFromFlags({ clusters, workers, delay, loss, nat }: TopologyFlags): unknown {
  const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
  return {
    link: { ...(delay === undefined ? {} : { delay }), ...(loss === undefined ? {} : { loss }) },
    sites: [
      { name: "hq", hosts: [{ name: "root", role: "root" }] },
      ...numbers(clusters).map((cluster) => ({
        name: `edge${cluster}`,
        ...(nat ? { nat } : {}),
        hosts: [
          { name: `c${cluster}`, role: "cluster" },
          ...numbers(workers).map((worker) => ({ name: `c${cluster}w${worker}`, role: "worker" })),
        ],
      })),
    ],
  };
}

/** @throws AppError CONFIG_INVALID that names each field that is wrong */
export function parseTopology(document: unknown): Topology {
  const result = validate(Document, document);
  if (!result.ok) throw invalid(result.problems);
  const topology = build(result.value);
  const problems = [...findProblems(topology), ...findLinkProblems(result.value)];
  if (problems.length > 0) throw invalid(problems);
  return topology;
}

function build({ sites, links = [], link }: Document): Topology {
  const between = new Map(links.map(({ between: [a, b], ...own }) => [pairKey(a, b), own]));
  return {
    sites: sites.map(({ name, nat = false, hosts }) => ({
      name,
      nat,
      hosts: hosts.map((host) => ({
        name: host.name,
        role: host.role ?? "none",
        cluster: host.role === "worker" ? (host.cluster ?? onlyCluster(hosts)) : host.cluster,
        link: shapeOf(host.link),
        settings: host.settings ?? {},
      })),
    })),
    links: sites.flatMap((site, index) =>
      sites.slice(index + 1).map((other) => ({
        between: [site.name, other.name] as const,
        link: shapeOf(between.get(pairKey(site.name, other.name)) ?? link),
      })),
    ),
  };
}

function onlyCluster(hosts: readonly { readonly name: string; readonly role?: HostRole | undefined }[]) {
  const clusters = hosts.filter(({ role }) => role === "cluster");
  return clusters.length === 1 ? clusters[0]!.name : undefined;
}

function shapeOf(link: z.output<typeof LinkDocument> | undefined): Shape | undefined {
  const { delay = 0, jitter = 0, loss = 0, bandwidth } = link ?? {};
  if (delay === 0 && jitter === 0 && loss === 0 && bandwidth === undefined) return undefined;
  return { delayMs: delay, jitterMs: jitter, lossPercent: loss, bitsPerSecond: bandwidth };
}

function findProblems({ sites }: Topology): Problem[] {
  const problems: Problem[] = [];
  const seen = new Map<string, string>();
  const claim = (name: string, field: string) => {
    const holder = seen.get(name);
    if (holder !== undefined) problems.push({ field, message: `the name "${name}" is taken by ${holder}` });
    else seen.set(name, field);
  };
  const hosts = sites.flatMap((site, s) =>
    site.hosts.map((host, h) => ({ host, site, field: `sites[${s}].hosts[${h}]` })),
  );
  for (const [index, { name }] of sites.entries()) claim(name, `sites[${index}].name`);
  for (const { host, field } of hosts) claim(host.name, `${field}.name`);
  const roots = hosts.filter(({ host }) => host.role === "root");
  if (roots.length !== 1)
    problems.push({ field: "sites", message: `exactly one host has the role root, not ${roots.length}` });
  for (const { site } of roots) {
    if (site.nat)
      problems.push({ field: `sites[${sites.indexOf(site)}].nat`, message: "nobody could reach the root behind NAT" });
  }
  for (const { host, site, field } of hosts) {
    if (host.role !== "worker") {
      if (host.cluster !== undefined)
        problems.push({ field: `${field}.cluster`, message: "only a worker has a cluster" });
      continue;
    }
    const cluster = hosts.find((other) => other.host.name === host.cluster && other.host.role === "cluster");
    if (host.cluster === undefined) {
      problems.push({
        field: `${field}.cluster`,
        message: "name the worker's cluster: its site does not have exactly one",
      });
    } else if (!cluster) {
      problems.push({ field: `${field}.cluster`, message: `no host "${host.cluster}" has the role cluster` });
    } else if (cluster.site.nat && cluster.site !== site) {
      problems.push({
        field: `${field}.cluster`,
        message: `"${host.cluster}" is behind NAT: workers elsewhere cannot reach it`,
      });
    }
  }
  return problems;
}

function findLinkProblems({ sites, links = [] }: Document): Problem[] {
  const names = new Set(sites.map(({ name }) => name));
  const seen = new Set<string>();
  return links.flatMap(({ between: [a, b] }, index) => {
    const field = `links[${index}].between`;
    const unknown = [a, b].filter((name) => !names.has(name));
    if (unknown.length > 0) return [{ field, message: `no site is called "${unknown[0]}"` }];
    if (a === b) return [{ field, message: "a link needs two sites" }];
    if (seen.has(pairKey(a, b))) return [{ field, message: `the link between "${a}" and "${b}" is described twice` }];
    seen.add(pairKey(a, b));
    return [];
  });
}

const pairKey = (a: string, b: string) => [a, b].sort().join(" ");

function invalid(problems: readonly Problem[]): AppError {
  return new AppError("CONFIG_INVALID", `The topology is not valid: ${describeProblems(problems)}`, {
    details: { problems },
  });
}
