/**
 * What every tier does to the tier below: decide for each of its instances which child has it.
 * Pure: same input, same steps; the caller carries them out, stores them, and asks again.
 */
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { formatPort } from "../protocol/ports.ts";
import type {
  Aggregated,
  Candidate,
  Decision,
  PluginVote,
  Quantities,
  ScheduleOptions,
  Verdict,
} from "../scheduler/candidate.ts";
import { searchBudgetMs, type Target, withTargets } from "../scheduler/links.ts";
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
  readonly plugin?: PluginVote | undefined;
}

export type DelegateStep =
  | { readonly do: "assign"; readonly instanceId: string; readonly childId: string }
  | { readonly do: "takeBack"; readonly instanceId: string; readonly childId: string; readonly reason: string }
  | {
      readonly do: "refuse";
      readonly instanceId: string;
      readonly verdicts: readonly Verdict[];
      /** Not for want of room: it can be placed when these are there. */
      readonly waitsFor?: readonly string[] | undefined;
    };

/** A decision with all that it was made from, to be recorded. */
export interface Decided {
  readonly instanceId: string;
  readonly request: PlacementRequest;
  readonly candidates: readonly Candidate[];
  readonly options: ScheduleOptions;
  readonly decision: Decision;
}

export interface DelegateInput {
  readonly instances: readonly Delegated[];
  /** `free` already without what present children hold. */
  readonly candidates: readonly Candidate[];
  /** From `lostChildren`. */
  readonly lost: ReadonlySet<string>;
  readonly strategy: ScheduleOptions["strategy"];
  /** For the time budget of a request that has one; without a clock the search is never cut. */
  readonly monotonic?: (() => number) | undefined;
  /** Told of each decision; `candidates` is only valid during the call. */
  readonly onDecision?: ((decided: Decided) => void) | undefined;
}

/**
 * Capacity is reserved as the list is walked, so a burst cannot overcommit a child. What waits for something that is placed later
 * in the list gets another try.
 */
export function delegate(input: DelegateInput): DelegateStep[] {
  const snapshot = new Snapshot(input.candidates);
  const steps = new Map<string, readonly DelegateStep[]>();
  let open = input.instances;
  let isWorthAnother: boolean;
  do {
    const { placedCount } = snapshot;
    for (const instance of open) steps.set(instance.instanceId, delegateOne(instance, snapshot, input));
    open = open.filter(({ instanceId }) => isWaiting(steps.get(instanceId)!));
    isWorthAnother = open.length > 0 && snapshot.placedCount > placedCount;
  } while (isWorthAnother);
  return [...steps.values()].flat();
}

function isWaiting(steps: readonly DelegateStep[]): boolean {
  const last = steps.at(-1);
  return last?.do === "refuse" && last.waitsFor !== undefined;
}

function delegateOne(instance: Delegated, snapshot: Snapshot, input: DelegateInput): DelegateStep[] {
  const { instanceId, childId, pinnedTo, plugin } = instance;
  const why = reasonsToGo(instance, snapshot, input.lost);
  if (childId !== undefined && why.reason === undefined) return [];
  const excluded = new Map(instance.excluded);
  if (childId !== undefined) excluded.set(childId, why.reason!);
  const request = withTargets(instance.request, snapshot.targets);
  const options = { strategy: input.strategy, pinnedTo, excluded, plugin, budget: budgetOf(request, input) };
  const decision = schedule(request, snapshot.candidates, options);
  input.onDecision?.({ instanceId, request, candidates: snapshot.candidates, options, decision });
  // A child that is only silent may still run it: it keeps what nobody else can take.
  if (childId !== undefined && !decision.placed && !why.mustGo) return [];
  const steps: DelegateStep[] =
    childId === undefined ? [] : [{ do: "takeBack", instanceId, childId, reason: why.reason! }];
  if (!decision.placed) {
    const { verdicts, waitsFor } = decision;
    return [...steps, { do: "refuse", instanceId, verdicts, ...(waitsFor ? { waitsFor } : {}) }];
  }
  snapshot.place(decision.candidateId, instanceId, request);
  return [...steps, { do: "assign", instanceId, childId: decision.candidateId }];
}

function budgetOf(request: PlacementRequest, { monotonic }: DelegateInput): ScheduleOptions["budget"] {
  const ms = monotonic && searchBudgetMs(request);
  return ms === undefined ? undefined : { ms, monotonic: monotonic! };
}

/** The children as they are at this point of the walk. */
class Snapshot {
  readonly candidates: Candidate[];
  /** What is placed in this walk is a target for what comes after. */
  readonly targets = new Map<string, Target[]>();
  readonly #indexById: ReadonlyMap<string, number>;
  placedCount = 0;

  constructor(candidates: readonly Candidate[]) {
    this.candidates = [...candidates];
    this.#indexById = new Map(candidates.map(({ id }, index) => [id, index]));
  }

  has(childId: string): boolean {
    return this.#indexById.has(childId);
  }

  place(childId: string, instanceId: string, request: PlacementRequest): void {
    const index = this.#indexById.get(childId)!;
    const child = this.candidates[index]!;
    addTarget(this.targets, request, child);
    this.candidates[index] = reserve(child, instanceId, request);
    this.placedCount += 1;
  }
}

function reasonsToGo(
  { childId, takeBack, moveIfPossible }: Delegated,
  known: Pick<Snapshot, "has">,
  lost: ReadonlySet<string>,
): { readonly reason: string | undefined; readonly mustGo: boolean } {
  if (childId === undefined) return { reason: undefined, mustGo: false };
  const mustGo = takeBack ?? (known.has(childId) ? undefined : "gone");
  const mayGo = lost.has(childId) ? "not heard from for too long" : moveIfPossible;
  return { reason: mustGo ?? mayGo, mustGo: mustGo !== undefined };
}

/** From now on the service has an instance there. */
export function addTarget(
  placed: Map<string, Target[]>,
  { serviceName }: Pick<PlacementRequest, "serviceName">,
  { id, position }: Pick<Candidate, "id" | "position">,
): void {
  if (serviceName === undefined) return;
  const target = { ...position, candidateId: id };
  const targets = placed.get(serviceName);
  if (targets) targets.push(target);
  else placed.set(serviceName, [target]);
}

/** The candidate as it is once it has taken the instance. */
export function reserve(candidate: Candidate, instanceId: string, request: PlacementRequest): Candidate {
  const { heldPorts, aggregated, replicas, applications } = candidate;
  const { ports, serviceName, applicationId } = request;
  return {
    ...candidate,
    free: subtract(candidate.free, request),
    heldPorts:
      ports.length === 0
        ? heldPorts
        : new Map([...heldPorts, ...ports.map((port) => [formatPort(port), instanceId] as const)]),
    ...(aggregated ? { aggregated: reserveIn(aggregated, request) } : {}),
    ...(replicas && serviceName !== undefined
      ? { replicas: new Map(replicas).set(serviceName, (replicas.get(serviceName) ?? 0) + 1) }
      : {}),
    ...(applications && applicationId !== undefined ? { applications: new Set(applications).add(applicationId) } : {}),
  };
}

function reserveIn({ groups, reserved }: Aggregated, used: Quantities): Aggregated {
  const { cpuMillis, memoryBytes, gpus } = used;
  return {
    groups,
    reserved: {
      cpuMillis: reserved.cpuMillis + cpuMillis,
      memoryBytes: reserved.memoryBytes + memoryBytes,
      gpus: reserved.gpus + gpus,
    },
  };
}

function subtract(free: Quantities, used: Quantities): Quantities {
  return {
    cpuMillis: free.cpuMillis - used.cpuMillis,
    memoryBytes: free.memoryBytes - used.memoryBytes,
    gpus: free.gpus - used.gpus,
  };
}
