/** What the root is told of how an instance came to be where it is. */
import type { History } from "../hierarchy/history.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { ClusterMessage } from "../protocol/uplink.ts";
import type { DecisionRecord } from "../scheduler/record.ts";
import type { ClusterStore } from "./store/cluster-store.ts";

type Answer = Extract<ClusterMessage, { type: "explain.answer" }>;

/** @param now epoch ms; the worker's own clock may be off by a year */
export function noteInHistory(history: History, report: InstanceReport | undefined, now: number): void {
  if (!report) return;
  const { instanceId, status, detail } = report;
  history.happened(instanceId, { at: now, status, detail });
}

export function explain(
  history: History,
  store: Pick<ClusterStore, "decision">,
  instanceId: string,
): Pick<Answer, "timeline" | "decisions"> {
  const remembered = history.decisions(instanceId);
  const decisions =
    remembered.length > 0 ? remembered : [store.decision(instanceId)].filter((one) => one !== undefined);
  return { timeline: [...history.timeline(instanceId)], decisions };
}

export function saveDecisions(
  store: Pick<ClusterStore, "write" | "putDecision">,
  records: readonly DecisionRecord[],
): void {
  store.write(() => {
    for (const record of records) store.putDecision(record);
  });
}
