/** A recorded decision in words: for `oak explain`, `oak plan` and logs. Pure. */
import type { DecisionRecord } from "./record.ts";
import { type Judged, judgeAll } from "./record.ts";

/** Lines of text; at most `limit` candidates of each kind. */
export function explain(record: DecisionRecord, limit = 20): string[] {
  const judged = judgeAll(record);
  const kind = record.tier === "root" ? "cluster" : "worker";
  const fitting = judged.filter(({ verdict }) => !verdict);
  const refused = judged.filter(({ verdict }) => verdict);
  return [
    headline(record, judged, kind),
    `needs ${needs(record)}`,
    ...(record.decision.waitsFor ?? []).map((what) => `waits for ${what}`),
    ...(record.decision.warnings ?? []).map((warning) => `warning: ${warning}`),
    ...fitting
      .slice(0, limit)
      .map(({ name, isChosen, score }) => `${isChosen ? "→" : " "} ${name}: fits, score ${score!.toFixed(3)}`),
    ...more(fitting.length, limit, "fit"),
    ...refused
      .slice(0, limit)
      .map(({ name, verdict }) => `✗ ${name}: ${verdict!.rule}: needed ${verdict!.needed}, had ${verdict!.had}`),
    ...more(refused.length, limit, "were refused"),
    ...(record.omitted > 0 ? [`${record.omitted} ${kind}s more are not in this record`] : []),
  ];
}

/** The same for whoever may not see the candidates: how many fit, and what the others lack. */
export function explainCounts(record: DecisionRecord): string[] {
  const judged = judgeAll(record);
  const kind = record.tier === "root" ? "cluster" : "worker";
  const { decision, candidates, omitted } = record;
  const fitting = judged.filter(({ verdict }) => !verdict).length;
  const lacks = Map.groupBy(
    judged.flatMap(({ verdict }) => verdict ?? []),
    ({ rule, needed }) => `${rule}: needed ${needed}`,
  );
  return [
    `${decision.placed ? "chose one" : "none"} of ${candidates.length + omitted} ${kind}s`,
    `needs ${needs(record)}`,
    ...(decision.waitsFor ?? []).map((what) => `waits for ${what}`),
    `${fitting} fit`,
    ...[...lacks].map(([what, all]) => `✗ ${all.length}: ${what}`),
  ];
}

function headline(
  { decision, options, candidates, omitted }: DecisionRecord,
  judged: readonly Judged[],
  kind: string,
): string {
  const of = `of ${candidates.length + omitted} ${kind}s`;
  const chosen = judged.find(({ isChosen }) => isChosen);
  const how = options.plugin && !("failed" in options.plugin) && !decision.warnings ? "the plugin" : options.strategy;
  const cut = decision.examined === undefined ? "" : `, after ${decision.examined} of them, since time was up`;
  return chosen ? `${how} chose ${kind} ${chosen.name} ${of}${cut}` : `none ${of} can take it${cut}`;
}

function needs({ request }: DecisionRecord): string {
  const { memoryBytes, cpuMillis, gpus, virtualization, architectures, labels, links = [], users = [] } = request;
  const distances = [
    ...links.map(({ measure, threshold, service }) => `${bound(measure, threshold)} of service ${service}`),
    ...users.map(({ measure, threshold, target }) => `${bound(measure, threshold)} of users ${target}`),
  ];
  return [
    virtualization,
    `${Math.ceil(memoryBytes / 1_048_576)} MB`,
    `${cpuMillis / 1000} cores`,
    ...(gpus > 0 ? [`${gpus} GPUs`] : []),
    ...(architectures.length > 0 ? [architectures.join(" or ")] : []),
    ...Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`),
    ...distances,
  ].join(", ");
}

function bound(measure: "latency" | "geo", threshold: number): string {
  return `within ${threshold} ${measure === "latency" ? "ms" : "km"}`;
}

function more(count: number, limit: number, what: string): string[] {
  return count > limit ? [`  and ${count - limit} more ${what}`] : [];
}
