/** What the scheduler sees: plain immutable data, the same at both tiers. At the root a candidate is a cluster, in a cluster a worker. */
import type { PlacementRequest } from "../protocol/instance.ts";

export interface Candidate {
  readonly id: string;
  readonly name: string;
  /** False: not heard from lately; never chosen. */
  readonly active: boolean;
  /** Not yet reserved, of the roomiest single worker: exact for a worker, the proven upper bound for a cluster. */
  readonly free: Quantities;
  readonly total: Quantities;
  readonly architectures: readonly string[];
  readonly virtualization: readonly string[];
  /** `6080/tcp` → instance that holds it. Clusters do not tell: empty there. */
  readonly heldPorts: ReadonlyMap<string, string>;
}

export interface Quantities {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly gpus: number;
}

/** Why one candidate was not chosen: the rule, what was needed, what there was. */
export interface Verdict {
  readonly candidate: string;
  readonly rule: string;
  readonly needed: string;
  readonly had: string;
}

export type Decision =
  | { readonly placed: true; readonly candidateId: string; readonly ranking: readonly string[] }
  | { readonly placed: false; readonly verdicts: readonly Verdict[] };

export interface ScheduleOptions {
  readonly strategy: "best-fit" | "first-fit";
  /** Names the instance is pinned to (`direct`, `clusters.allowed`); undefined: any. */
  readonly pinnedTo?: readonly string[] | undefined;
  /** Candidates not to try again now (they declined, or failed it before), with the reason. */
  readonly excluded?: ReadonlyMap<string, string> | undefined;
}

/** Signature of `schedule` in schedule.ts. */
export type Schedule = (
  request: PlacementRequest,
  candidates: readonly Candidate[],
  options: ScheduleOptions,
) => Decision;
