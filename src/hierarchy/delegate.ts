/**
 * What every tier does to the tier below: decide for each of its instances which child has it.
 * Pure: same input, same steps; the caller carries them out, stores them, and asks again.
 */
import type { PlacementRequest } from "../protocol/instance.ts";
import { formatPort } from "../protocol/ports.ts";
import type { Candidate, Quantities, ScheduleOptions, Verdict } from "../scheduler/candidate.ts";
import { schedule } from "../scheduler/schedule.ts";

export interface Delegated {
  readonly instanceId: string;
  readonly request: PlacementRequest;
  /** The child that has it now. */
  readonly childId?: string | undefined;
  /** Names it may go to; undefined: any. */
  readonly pinnedTo?: readonly string[] | undefined;
  /** Children not to try now, with the reason. */
  readonly excluded?: ReadonlyMap<string, string> | undefined;
  /** Why the child that has it must give it up, whether or not another can take it (it declined). */
  readonly takeBack?: string | undefined;
  /** Why another child should have it, if one can take it (failed too often here, or a deadline passed). */
  readonly moveIfPossible?: string | undefined;
}

export type DelegateStep =
  | { readonly do: "assign"; readonly instanceId: string; readonly childId: string }
  | { readonly do: "takeBack"; readonly instanceId: string; readonly childId: string; readonly reason: string }
  | { readonly do: "refuse"; readonly instanceId: string; readonly verdicts: readonly Verdict[] };

export interface DelegateInput {
  readonly instances: readonly Delegated[];
  /** `free` already without what present children hold. */
  readonly candidates: readonly Candidate[];
  /** From `lostChildren`. */
  readonly lost: ReadonlySet<string>;
  readonly strategy: ScheduleOptions["strategy"];
}

/** Capacity is reserved as the list is walked, so a burst cannot overcommit a child. */
export function delegate({ instances, candidates, lost, strategy }: DelegateInput): DelegateStep[] {
  const steps: DelegateStep[] = [];
  const byId = new Map(candidates.map((candidate) => [candidate.id, candidate]));
  for (const instance of instances) {
    const { instanceId, childId, request, pinnedTo } = instance;
    const excluded = new Map(instance.excluded);
    const mustGo = childId === undefined ? undefined : (instance.takeBack ?? (byId.has(childId) ? undefined : "gone"));
    const mayGo = childId !== undefined && lost.has(childId) ? "not heard from for too long" : instance.moveIfPossible;
    const reason = mustGo ?? mayGo;
    if (childId !== undefined) {
      if (reason === undefined) continue;
      excluded.set(childId, reason);
    }
    const decision = schedule(request, [...byId.values()], { strategy, pinnedTo, excluded });
    if (childId !== undefined) {
      // A child that is only silent may still run it: it keeps what nobody else can take.
      if (!decision.placed && mustGo === undefined) continue;
      steps.push({ do: "takeBack", instanceId, childId, reason: reason! });
    }
    if (!decision.placed) {
      steps.push({ do: "refuse", instanceId, verdicts: decision.verdicts });
      continue;
    }
    steps.push({ do: "assign", instanceId, childId: decision.candidateId });
    const chosen = byId.get(decision.candidateId)!;
    byId.set(chosen.id, reserve(chosen, instanceId, request));
  }
  return steps;
}

/** The candidate as it is once it has taken the instance. */
export function reserve(candidate: Candidate, instanceId: string, request: PlacementRequest): Candidate {
  return {
    ...candidate,
    free: subtract(candidate.free, request),
    heldPorts:
      request.ports.length === 0
        ? candidate.heldPorts
        : new Map([...candidate.heldPorts, ...request.ports.map((port) => [formatPort(port), instanceId] as const)]),
  };
}

function subtract(free: Quantities, used: Quantities): Quantities {
  return {
    cpuMillis: free.cpuMillis - used.cpuMillis,
    memoryBytes: free.memoryBytes - used.memoryBytes,
    gpus: free.gpus - used.gpus,
  };
}
