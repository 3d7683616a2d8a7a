/** Where instances would go that this cluster does not have: the root asks it for `oak plan`. Pure, and nothing changes. */
import type { Decided } from "../hierarchy/delegate.ts";
import type { Assignment, Workload } from "../protocol/instance.ts";
import { MAX_PLANNED, MAX_PLANNED_TEXT, type PlannedInstance, type RootMessage } from "../protocol/uplink.ts";
import { explain, explainCounts } from "../scheduler/explain.ts";
import { record } from "../scheduler/record.ts";
import { type Instance, idOf } from "./model.ts";
import { type PlanInput, plan } from "./plan.ts";

export type Forecast = Pick<Extract<RootMessage, { type: "plan.ask" }>, "instances" | "leaving" | "namesWorkers">;

/** Of what would run only the request is told, and only that counts. */
const NO_WORKLOAD: Workload = {
  ...{ image: "", command: [], environment: [], ports: [] },
  ...{ oneShot: false, fuse: false, stopGraceMs: 0, memoryBytes: 0, cpuMillis: 0 },
};

/**
 * Only of the new ones is decided: of what else is open there may be thousands, and it holds nothing yet.
 * @param observed the cluster as it is; who leaves is gone from it
 * @param max of so many, the first, is decided; of the others nothing is said
 */
export function forecast(
  observed: PlanInput,
  { instances, leaving, namesWorkers }: Forecast,
  max: number = MAX_PLANNED,
): PlannedInstance[] {
  const gone = new Set(leaving);
  const asked = instances.slice(0, max);
  const decided = new Map<string, Decided>();
  const steps = plan({
    ...observed,
    instances: [
      ...observed.instances.filter((one) => !gone.has(idOf(one))),
      ...asked.map((one) => drafted(one, observed.now)),
    ],
    only: new Set(asked.map(({ instanceId }) => instanceId)),
    // A copy: the list of candidates changes with the walk.
    onDecision: (one) => decided.set(one.instanceId, { ...one, candidates: [...one.candidates] }),
  });
  const outcomes = new Map(steps.map((step) => [step.instanceId, step]));
  const nameOf = new Map(observed.workers.map(({ id, hostname }) => [id, hostname]));
  const words = namesWorkers ? explain : explainCounts;
  return asked.map(({ instanceId }): PlannedInstance => {
    const step = outcomes.get(instanceId);
    const decision = decided.get(instanceId);
    const lines = decision ? words(record({ ...decision, at: 0, tier: "cluster" })).map(clip) : [];
    if (step?.do !== "place") {
      const detail = step && "detail" in step ? clip(step.detail) : "";
      return { instanceId, outcome: step?.do === "wait" ? "waits" : "declined", detail, lines };
    }
    const worker = nameOf.get(step.workerId);
    return { instanceId, outcome: "placed", detail: "", lines, ...(namesWorkers ? { worker } : {}) };
  });
}

function clip(text: string): string {
  return text.slice(0, MAX_PLANNED_TEXT);
}

function drafted({ instanceId, ...told }: Forecast["instances"][number], now: number): Instance {
  const [serviceId = ""] = instanceId.split("-");
  const applicationId = told.request.applicationId ?? "";
  const assignment: Assignment = {
    instanceId,
    generation: 0,
    serviceId,
    applicationId,
    ...told,
    workload: NO_WORKLOAD,
  };
  return { assignment, seenAt: now, since: 0, failures: 0, tried: new Map() };
}
