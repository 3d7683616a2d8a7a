/** Why an instance is where it is, as the API tells it. Pure. */
import * as z from "zod/mini";
import { STATUS } from "../../protocol/instance.ts";
import type { TimelineEntry } from "../../protocol/uplink.ts";
import { explain, explainCounts } from "../../scheduler/explain.ts";
import type { DecisionRecord } from "../../scheduler/record.ts";
import type { Caller } from "../auth/auth.ts";
import type { Explanation } from "../explanations.ts";
import type { Instance, Role, Service } from "../model.ts";

export const ExplainDocument = z.object({
  job_name: z.string(),
  instance_number: z.int(),
  status: z.string(),
  status_detail: z.string(),
  /** Oldest first. */
  timeline: z.array(
    z.object({ at: z.number(), tier: z.enum(["root", "cluster", "worker"]), status: z.string(), detail: z.string() }),
  ),
  /** Oldest first. */
  decisions: z.array(
    z.object({
      at: z.number(),
      tier: z.enum(["root", "cluster"]),
      /** In words. */
      lines: z.array(z.string()),
      /** All that it was made from, for `oak replay`; not for those who may not see the candidates. */
      record: z.optional(z.unknown()),
    }),
  ),
  /** Why the cluster's part is not there. */
  missing: z.optional(z.string()),
  /** What to know about the times. */
  remark: z.optional(z.string()),
});
export type ExplainDocument = z.infer<typeof ExplainDocument>;

/** A cluster's workers are shown to those who run them. */
const SEES_WORKERS: readonly Role[] = ["Admin", "Infrastructure_Provider"];

export function seesWorkers({ roles }: Pick<Caller, "roles">): boolean {
  return roles.some((role) => SEES_WORKERS.includes(role));
}

export function explainDocument(
  instance: Instance,
  { jobName }: Pick<Service, "jobName">,
  { root, cluster }: Explanation,
  caller: Pick<Caller, "roles">,
): ExplainDocument {
  const seesAll = seesWorkers(caller);
  const below = typeof cluster === "object" ? cluster : { timeline: [], decisions: [] };
  const decisions = mergeByTime(root.decisions, below.decisions);
  return {
    job_name: jobName,
    instance_number: instance.number,
    status: instance.status,
    status_detail: instance.detail,
    timeline: mergeTimelines(root.timeline, below.timeline),
    decisions: decisions.map((one) => decisionDocument(one, seesAll || one.tier === "root")),
    ...(typeof cluster === "string" ? { missing: cluster } : {}),
    ...(typeof cluster === "object" && cluster.remark !== undefined ? { remark: cluster.remark } : {}),
  };
}

function decisionDocument(record: DecisionRecord, isOpen: boolean): ExplainDocument["decisions"][number] {
  const { at, tier } = record;
  return isOpen ? { at, tier, lines: explain(record), record } : { at, tier, lines: explainCounts(record) };
}

function mergeTimelines(
  root: readonly TimelineEntry[],
  cluster: readonly TimelineEntry[],
): ExplainDocument["timeline"] {
  const key = ({ status, detail }: TimelineEntry) => `${status} ${detail}`;
  const known = new Set(cluster.map(key));
  const own = root.filter((entry) => !known.has(key(entry)));
  return mergeByTime(
    own.map((entry) => ({ ...entry, tier: entry.status === "CLUSTER_SCHEDULED" ? "root" : tellerOf(entry.status) })),
    cluster.map((entry) => ({ ...entry, tier: tellerOf(entry.status) })),
  );
}

/** Each list stays in its order, which is that of the events: a clock may have been set between two of them. */
function mergeByTime<T extends { readonly at: number }>(first: readonly T[], second: readonly T[]): T[] {
  const merged: T[] = [];
  let next = 0;
  for (const one of first) {
    while (next < second.length && second[next]!.at < one.at) merged.push(second[next++]!);
    merged.push(one);
  }
  return [...merged, ...second.slice(next)];
}

const CLUSTERS: ReadonlySet<string> = new Set(["CLUSTER_SCHEDULED", "NODE_SCHEDULED", "NO_WORKER_CAPACITY"]);

/** Whose word a status is; its owner is who must go on from there. */
function tellerOf(status: string): "root" | "cluster" | "worker" {
  if (CLUSTERS.has(status)) return "cluster";
  const owner = STATUS[status as keyof typeof STATUS]?.owner;
  return owner === "root" ? "root" : "worker";
}
