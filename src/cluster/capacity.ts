/** What each worker has left: what it told, less what is placed there and what is not gone yet. Pure. */
import type { Liveness } from "../hierarchy/children.ts";
import { containerId } from "../protocol/names.ts";
import type { PlacementRequest, Position } from "../protocol/placement-request.ts";
import { formatPort } from "../protocol/ports.ts";
import type { Candidate, Quantities } from "../scheduler/candidate.ts";
import { type Instance, isCompleted, isStandby, placementsOf, type Withdrawal, type Worker } from "./model.ts";

interface Reserved {
  /** Who it is, in the words of a refusal. */
  readonly holder: string;
  readonly request: PlacementRequest;
}

export interface CapacityInput {
  readonly workers: Iterable<Worker>;
  readonly instances: Iterable<Instance>;
  readonly withdrawals: Iterable<Withdrawal>;
  readonly livenessOf: (workerId: string) => Liveness;
  /** Absent: nobody knows. */
  readonly positionOf?: ((worker: Worker) => Position | undefined) | undefined;
}

/** Every worker as the scheduler sees it. */
export function candidates({ workers, instances, withdrawals, livenessOf, positionOf }: CapacityInput): Candidate[] {
  const reserved = new Map<string, Reserved[]>();
  const add = (workerId: string, holder: string, request: PlacementRequest) => {
    const list = reserved.get(workerId);
    if (list) list.push({ holder, request });
    else reserved.set(workerId, [{ holder, request }]);
  };
  for (const instance of instances) {
    const { jobName, instanceNumber, request } = instance.assignment;
    for (const placement of placementsOf(instance)) {
      if (isCompleted(instance) && !isStandby(instance, placement)) continue;
      add(placement.workerId, containerId(jobName, instanceNumber), request);
    }
  }
  for (const { workerId, instanceId, request } of withdrawals)
    add(workerId, `${instanceId}, which is leaving`, request);
  return [...workers].map((worker) => ({
    ...candidate(worker, reserved.get(worker.id) ?? []),
    active: livenessOf(worker.id) === "active",
    position: positionOf?.(worker),
  }));
}

function candidate({ id, hostname, info }: Worker, reserved: readonly Reserved[]): Omit<Candidate, "active"> {
  const total: Quantities = { cpuMillis: info.cpuMillis, memoryBytes: info.memoryBytes, gpus: info.gpus };
  const used = (pick: (request: PlacementRequest) => number) =>
    reserved.reduce((sum, { request }) => sum + pick(request), 0);
  return {
    id,
    name: hostname,
    total,
    free: {
      cpuMillis: total.cpuMillis - used(({ cpuMillis }) => cpuMillis),
      memoryBytes: total.memoryBytes - used(({ memoryBytes }) => memoryBytes),
      gpus: total.gpus - used(({ gpus }) => gpus),
    },
    architectures: [info.architecture],
    virtualization: info.virtualization,
    heldPorts: new Map(
      reserved.flatMap(({ holder, request }) => request.ports.map((port) => [formatPort(port), holder] as const)),
    ),
    labels: info.labels,
    replicas: countBy(reserved.flatMap(({ request }) => request.serviceName ?? [])),
    applications: new Set(reserved.flatMap(({ request }) => request.applicationId ?? [])),
  };
}

function countBy(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
