/** What the scheduler sees: plain immutable data, the same at both tiers. At the root a candidate is a cluster, in a cluster a worker. */
import type { AggregateGroup } from "../protocol/capacity.ts";
import type { PlacementRequest, Position } from "../protocol/placement-request.ts";

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
  /** Of a worker. Clusters do not tell: absent there. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Absent: unknown, which a worker is refused for and a cluster is not. */
  readonly position?: Position | undefined;
  /** Present: the candidate is a cluster, known only by these figures. */
  readonly aggregated?: Aggregated | undefined;
  /** Instances here, by service (`serviceName` of their requests). At the root left out: only workers are spread over. */
  readonly replicas?: ReadonlyMap<string, number> | undefined;
  /** Applications that have an instance here. */
  readonly applications?: ReadonlySet<string> | undefined;
}

export interface Quantities {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly gpus: number;
}

export interface Aggregated {
  /** One for each architecture that the request may use, or that of all workers. */
  readonly groups: readonly AggregateGroup[];
  /** Handed to the cluster and not yet in the figures of `groups`. */
  readonly reserved: Quantities;
}

/** Why one candidate was not chosen: the rule, what was needed, what there was. */
export interface Verdict {
  readonly candidate: string;
  readonly rule: string;
  readonly needed: string;
  readonly had: string;
}

export type Decision = (
  | {
      readonly placed: true;
      readonly candidateId: string;
      /** The best ones, at most `RANKING_LENGTH`. */
      readonly ranking: readonly string[];
    }
  | {
      readonly placed: false;
      readonly verdicts: readonly Verdict[];
      /** What must be known or there before anything can be chosen; candidates were refused for want of it. */
      readonly waitsFor?: readonly string[];
    }
) & {
  /** Present when the time budget ended the search: so many candidates were looked at. */
  readonly examined?: number;
  /** What did not go as asked, but did not prevent a decision: a plugin that failed. */
  readonly warnings?: readonly string[];
};

export interface ScheduleOptions {
  /** How to choose among those that fit; for each, see `STRATEGIES`. */
  readonly strategy: StrategyName;
  /** `rom` looks at resources only (paper, algorithm 1); `ldp`, the default, also at latency and place (algorithm 2). */
  readonly algorithm?: "rom" | "ldp" | undefined;
  /** Names the instance is pinned to (`direct`, `clusters.allowed`); undefined: any. */
  readonly pinnedTo?: readonly string[] | undefined;
  /** Candidates not to try again now (they declined, or failed it before), with the reason. */
  readonly excluded?: ReadonlyMap<string, string> | undefined;
  /** Absent: the search looks at every candidate. */
  readonly budget?: Budget | undefined;
  /** Its order goes before the strategy's, among candidates that fit. */
  readonly plugin?: PluginVote | undefined;
}

export type StrategyName = "best-fit" | "first-fit" | "nearest";

/** The search ends after `ms`, or after `candidates` of them (which makes it repeatable), with the best found so far. */
export type Budget =
  | { readonly ms: number; readonly monotonic: () => number }
  | { readonly candidates: number; readonly ms?: undefined };

/** What a placement plugin said: its answer, not yet trusted, or why there is none. */
export type PluginVote = { readonly answer: unknown } | { readonly failed: string };

/** Signature of `schedule` in schedule.ts. */
export type Schedule = (
  request: PlacementRequest,
  candidates: readonly Candidate[],
  options: ScheduleOptions,
) => Decision;
