/** Which instances of a service traffic may go to. Pure. */
import type { InstanceReport } from "../protocol/instance.ts";
import { type Instance, idOf } from "./model.ts";

/** `doubtful`: its agent has said goodbye, or its last will has; the containers may run on. A late heartbeat alone changes nothing. */
export type Trust = "trusted" | "doubtful" | "lost";
export type Live = NonNullable<InstanceReport["live"]>;

/**
 * By instance id. What workers say that cannot be true is left out. Lost workers' are out; doubtful ones' too as long as there is a trusted one, so that nobody waits for a machine
 * that is off, and so that a service whose only worker has its agent restarted goes on.
 */
export function liveInstances(
  instances: readonly Instance[],
  trustOf: (workerId: string) => Trust,
  isBelieved: (workerId: string, live: Live) => boolean,
): ReadonlyMap<string, Live> {
  const all = instances.flatMap((instance) => {
    const { placement, report } = instance;
    if (!placement || !report?.live || !isBelieved(placement.workerId, report.live)) return [];
    // A worker speaks for nobody else.
    const live: Live = { ...report.live, worker: { ...report.live.worker, id: placement.workerId } };
    return [{ id: idOf(instance), live, trust: trustOf(placement.workerId) }];
  });
  const trusted = all.filter(({ trust }) => trust === "trusted");
  const chosen = trusted.length > 0 ? trusted : all.filter(({ trust }) => trust === "doubtful");
  return new Map(chosen.map(({ id, live }) => [id, live]));
}
