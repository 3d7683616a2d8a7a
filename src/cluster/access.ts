/** What a worker may do at the broker: read what is meant for it, write about itself. Pure. */
import { parseTopic, topics, type WorkerTopic } from "../protocol/mqtt.ts";

const WRITES: Readonly<Record<WorkerTopic["kind"], { readonly retain: boolean } | undefined>> = {
  report: { retain: false },
  presence: { retain: true },
  logData: { retain: false },
  interest: { retain: false },
  checked: { retain: false },
  desired: undefined,
  manifest: undefined,
  logRequest: undefined,
  check: undefined,
  measure: undefined,
  network: undefined,
  routes: undefined,
};

/** Why the worker must not publish this, or undefined when it may. */
export function publishRefusal(
  workerId: string,
  { topic, qos, retain }: { readonly topic: string; readonly qos: number; readonly retain: boolean },
): string | undefined {
  const parsed = parseTopic(topic);
  const row = parsed?.workerId === workerId ? WRITES[parsed.kind] : undefined;
  if (!row) return "not a topic that this worker writes";
  if (qos > 1) return "QoS 2 is not spoken here";
  if (retain && !row.retain) return "this topic is not retained";
  return undefined;
}

export function maySubscribe(workerId: string, filter: string): boolean {
  const { desiredOf, manifest, logRequest, measure, network, routes, check } = topics;
  const own: readonly string[] = [desiredOf, manifest, logRequest, measure, network, routes, check].map((topic) =>
    topic(workerId),
  );
  if (own.includes(filter)) return true;
  const parsed = parseTopic(filter);
  return parsed?.kind === "desired" && parsed.workerId === workerId;
}
