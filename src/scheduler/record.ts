/** A decision with all that it was made from, as JSON: to be stored, explained and made again. Pure. */
import { isDeepStrictEqual } from "node:util";
import * as z from "zod/mini";
import { validate } from "../base/validation.ts";
import { AggregateGroup } from "../protocol/capacity.ts";
import { PlacementRequest, Position } from "../protocol/placement-request.ts";
import type { Candidate, Decision, ScheduleOptions } from "./candidate.ts";
import { infeasible, rulesFor } from "./feasibility.ts";
import { readVote } from "./plugin.ts";
import { score } from "./ranking.ts";
import { schedule } from "./schedule.ts";

/** Of the candidates so many are kept: the best, then the first of the others. */
export const RECORDED_CANDIDATES = 200;

const Quantities = z.object({ cpuMillis: z.number(), memoryBytes: z.number(), gpus: z.number() });

const RecordedCandidate = z.object({
  id: z.string(),
  name: z.string(),
  active: z.boolean(),
  free: Quantities,
  total: Quantities,
  architectures: z.array(z.string()),
  virtualization: z.array(z.string()),
  heldPorts: z.record(z.string(), z.string()),
  labels: z.optional(z.record(z.string(), z.string())),
  position: z.optional(Position),
  aggregated: z.optional(z.object({ groups: z.array(AggregateGroup), reserved: Quantities })),
  replicas: z.optional(z.record(z.string(), z.number())),
  applications: z.optional(z.array(z.string())),
});
type RecordedCandidate = z.infer<typeof RecordedCandidate>;

const Verdict = z.object({ candidate: z.string(), rule: z.string(), needed: z.string(), had: z.string() });

const RecordedDecision = z.object({
  placed: z.boolean(),
  candidateId: z.optional(z.string()),
  ranking: z.optional(z.array(z.string())),
  verdicts: z.optional(z.array(Verdict)),
  waitsFor: z.optional(z.array(z.string())),
  examined: z.optional(z.number()),
  warnings: z.optional(z.array(z.string())),
});

export const DecisionRecord = z.object({
  version: z.literal(1),
  /** Epoch ms. */
  at: z.number(),
  tier: z.enum(["root", "cluster"]),
  instanceId: z.string(),
  request: PlacementRequest,
  candidates: z.array(RecordedCandidate),
  /** Candidates that are not kept: all of them worse, or refused. */
  omitted: z.int(),
  options: z.object({
    strategy: z.enum(["best-fit", "first-fit", "nearest"]),
    algorithm: z.optional(z.enum(["rom", "ldp"])),
    pinnedTo: z.optional(z.array(z.string())),
    excluded: z.optional(z.record(z.string(), z.string())),
    plugin: z.optional(z.union([z.object({ failed: z.string() }), z.object({ answer: z.unknown() })])),
  }),
  decision: RecordedDecision,
});
export type DecisionRecord = z.infer<typeof DecisionRecord>;

/** Undefined: it is none, or of another version. */
export function readRecord(value: unknown): DecisionRecord | undefined {
  const parsed = validate(DecisionRecord, value);
  return parsed.ok ? parsed.value : undefined;
}

export interface Occasion {
  readonly at: number;
  readonly tier: DecisionRecord["tier"];
  readonly instanceId: string;
  readonly request: PlacementRequest;
  readonly candidates: readonly Candidate[];
  readonly options: ScheduleOptions;
  readonly decision: Decision;
}

/** An occasion without candidates that told nothing: small enough to be kept for a while, and made into a record when asked for. */
export interface Abridged extends Occasion {
  readonly omitted: number;
}

export function abridge(occasion: Occasion): Abridged {
  const { candidates, options, decision } = occasion;
  const kept = mostTelling(candidates, options, decision);
  // A copy in any case: the list of a walk changes with the walk.
  return { ...occasion, candidates: [...kept], omitted: candidates.length - kept.length };
}

export function record(occasion: Occasion): DecisionRecord {
  return recordOf(abridge(occasion));
}

export function recordOf(abridged: Abridged): DecisionRecord {
  const { at, tier, instanceId, request, candidates: kept, options, decision, omitted } = abridged;
  const { strategy, algorithm, pinnedTo, excluded, plugin } = options;
  const names = new Set(kept.map(({ name }) => name));
  return jsonOf({
    version: 1,
    at,
    tier,
    instanceId,
    request,
    candidates: kept.map(recordedCandidate),
    omitted,
    options: { strategy, algorithm, pinnedTo, excluded: excluded && Object.fromEntries(excluded), plugin },
    decision: decision.placed
      ? decision
      : { ...decision, verdicts: decision.verdicts.filter(({ candidate }) => names.has(candidate)) },
  }) as DecisionRecord;
}

/** In the order of the snapshot, which first-fit depends on; what was not examined is left out, for it played no part. */
function mostTelling(
  candidates: readonly Candidate[],
  { plugin }: ScheduleOptions,
  decision: Decision,
): readonly Candidate[] {
  const examined = candidates.slice(0, decision.examined);
  if (examined.length <= RECORDED_CANDIDATES) return examined;
  const vote = plugin && readVote(plugin, candidates);
  const telling = new Set([
    ...(decision.placed ? decision.ranking : []),
    ...(vote && "answer" in vote ? vote.answer.ranking : []),
  ]);
  let others = RECORDED_CANDIDATES - telling.size;
  return examined.filter(({ id }) => telling.has(id) || others-- > 0);
}

export interface Replay {
  readonly same: boolean;
  readonly decision: Decision;
  /** One sentence for each thing that is different now. */
  readonly differences: readonly string[];
}

/** Decides again, with the code of today and the snapshot of then. */
export function replay(recorded: DecisionRecord): Replay {
  const { request, options, decision: then } = recorded;
  const decision = schedule(request, recorded.candidates.map(liveCandidate), liveOptions(options));
  const now = jsonOf(decision) as Partial<DecisionRecord["decision"]>;
  const keys = ["candidateId", "ranking", "verdicts", "waitsFor", "warnings"] as const;
  const differences = keys
    .filter((key) => !isDeepStrictEqual(now[key], then[key]))
    .map((key) => `${key}: was ${JSON.stringify(then[key])}, is ${JSON.stringify(now[key])}`);
  return { same: differences.length === 0, decision, differences };
}

export interface Judged {
  readonly id: string;
  readonly name: string;
  readonly isChosen: boolean;
  /** Of those that fit; higher is better. */
  readonly score?: number;
  /** Of those that do not. */
  readonly verdict?: { readonly rule: string; readonly needed: string; readonly had: string };
}

/** Every recorded candidate with its verdict or score: the chosen one, the others that fit, best first, then the refused. */
export function judgeAll({ request, options, candidates, decision }: DecisionRecord): Judged[] {
  const live = liveOptions(options);
  const rules = rulesFor(request, live);
  const judged = candidates.map(liveCandidate).map((candidate): Judged => {
    const { id, name } = candidate;
    const broken = infeasible(rules, candidate);
    const base = { id, name, isChosen: id === decision.candidateId };
    if (broken) return { ...base, verdict: { rule: broken.rule, needed: broken.needed, had: broken.had } };
    return { ...base, score: score(live.strategy, request, candidate, rules.near) };
  });
  return judged.sort(
    (a, b) =>
      Number(b.isChosen) - Number(a.isChosen) ||
      (b.score ?? Number.NEGATIVE_INFINITY) - (a.score ?? Number.NEGATIVE_INFINITY) ||
      (a.name < b.name ? -1 : 1),
  );
}

function recordedCandidate(candidate: Candidate): unknown {
  const { heldPorts, replicas, applications, ...plain } = candidate;
  return {
    ...plain,
    heldPorts: Object.fromEntries(heldPorts),
    ...(replicas ? { replicas: Object.fromEntries(replicas) } : {}),
    ...(applications ? { applications: [...applications] } : {}),
  };
}

function liveCandidate({ heldPorts, replicas, applications, ...plain }: RecordedCandidate): Candidate {
  return {
    ...plain,
    heldPorts: new Map(Object.entries(heldPorts)),
    ...(replicas ? { replicas: new Map(Object.entries(replicas)) } : {}),
    ...(applications ? { applications: new Set(applications) } : {}),
  };
}

function liveOptions({ excluded, plugin, ...plain }: DecisionRecord["options"]): ScheduleOptions {
  return {
    ...plain,
    ...(excluded ? { excluded: new Map(Object.entries(excluded)) } : {}),
    ...(plugin ? { plugin: "failed" in plugin ? plugin : { answer: plugin.answer } } : {}),
  };
}

/** As it comes back from a file: without what is undefined. */
function jsonOf(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
