/** What to think of a deployment while it is watched. Pure: the service's documents are given, one after the other. */
import { type InstanceDocument, instancesOf, type ServiceDocument } from "./documents.ts";

/** A container that ends at once has been RUNNING for a moment: it counts as running only after this long. */
export const STABLE_MS = 1000;
/** A refusal may be over when the next aggregate arrives: a cluster that just connects, a place that just became free. */
const REFUSED_MS = 3000;
/** Services of one application may wait for each other by ending and being started again. */
const DEATHS = 3;

const REFUSALS: ReadonlySet<string> = new Set([
  "NoActiveClusterWithCapacity",
  "TargetClusterNotFound",
  "TargetClusterNotActive",
  "TargetClusterNoCapacity",
]);

/** One watched instance as it was last seen. */
export interface Sight {
  readonly status: string;
  readonly detail: string;
  /** Monotonic ms since when it has this status. */
  readonly since: number;
  readonly deaths: number;
}
export type Sights = ReadonlyMap<number, Sight>;

export type Verdict =
  /** `againInMs`: when the answer changes although nothing happens. */
  | { readonly kind: "waiting"; readonly againInMs: number | undefined }
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly instance: number; readonly reason: string };

/** Takes in a new document; an instance that vanished from it is seen as UNDEPLOYED. */
export function observe(
  before: Sights,
  { service, watched, now }: { service: ServiceDocument; watched: readonly number[]; now: number },
): Sights {
  const byNumber = new Map(instancesOf(service).map((instance) => [instance.instance_number, instance]));
  return new Map(watched.map((number) => [number, see(before.get(number), byNumber.get(number), now)]));
}

function see(before: Sight | undefined, instance: InstanceDocument | undefined, now: number): Sight {
  const status = instance ? (instance.status ?? "REQUESTED") : "UNDEPLOYED";
  const detail = instance?.status_detail ?? "";
  const isNew = before?.status !== status;
  return {
    status,
    detail,
    since: isNew ? now : before.since,
    deaths: (before?.deaths ?? 0) + (isNew && status === "DEAD" ? 1 : 0),
  };
}

export function judge(sights: Sights, { oneShot, now }: { oneShot: boolean; now: number }): Verdict {
  let againInMs: number | undefined;
  let isDone = true;
  for (const [instance, sight] of sights) {
    const verdict = judgeOne(sight, oneShot, now);
    if (verdict === "done") continue;
    if (typeof verdict === "string") return { kind: "failed", instance, reason: reasonOf(sight) };
    isDone = false;
    if (verdict.againInMs !== undefined) againInMs = Math.min(againInMs ?? verdict.againInMs, verdict.againInMs);
  }
  return isDone ? { kind: "done" } : { kind: "waiting", againInMs };
}

function judgeOne(
  { status, since, deaths }: Sight,
  oneShot: boolean,
  now: number,
): "done" | "failed" | { againInMs: number | undefined } {
  if (status === "COMPLETED") return "done";
  if (status === "FAILED" || status === "UNDEPLOYED") return "failed";
  if (status === "DEAD" && (oneShot || deaths >= DEATHS)) return "failed";
  if (status === "RUNNING" && !oneShot) return after(STABLE_MS, "done");
  if (REFUSALS.has(status)) return after(REFUSED_MS, "failed");
  return { againInMs: undefined };

  function after<T extends "done" | "failed">(ms: number, verdict: T): T | { againInMs: number } {
    const left = since + ms - now;
    return left <= 0 ? verdict : { againInMs: left };
  }
}

function reasonOf({ status, detail }: Sight): string {
  if (status === "UNDEPLOYED") return "it was removed while we waited";
  return detail === "" ? status : `${status}: ${detail}`;
}

/** Instances to remove so that `count` of them stay: those that do not run first, then the youngest. */
export function surplus(instances: readonly InstanceDocument[], count: number): number[] {
  const isGood = ({ status }: InstanceDocument) => (status === "RUNNING" ? 1 : 0);
  return [...instances]
    .sort((left, right) => isGood(left) - isGood(right) || right.instance_number - left.instance_number)
    .slice(0, Math.max(0, instances.length - count))
    .map(({ instance_number }) => instance_number);
}
