/**
 * The contract of placement plugins: one pure function over plain data that orders the candidates that fit. The hard rules
 * go before it and hold for it, so that no plugin can overcommit a worker or break a constraint. Pure.
 */
import * as z from "zod/mini";
import { describeProblems, validate } from "../base/validation.ts";
import type { PlacementRequest, Position } from "../protocol/placement-request.ts";
import type { Candidate, PluginVote, Quantities } from "./candidate.ts";
import type { Scored } from "./ranking.ts";

export const PLUGIN_VERSION = 1;
/** The best of the default order; a question stays below a few hundred kilobytes. */
export const PLUGIN_CANDIDATES = 500;

/** What a plugin is asked. JSON as it is. */
export interface PluginSnapshot {
  readonly version: typeof PLUGIN_VERSION;
  readonly request: PlacementRequest;
  /** All fit; in the order in which they would be chosen without a plugin. */
  readonly candidates: readonly PluginCandidate[];
}

export interface PluginCandidate {
  readonly id: string;
  readonly name: string;
  readonly tier: "cluster" | "worker";
  readonly free: Quantities;
  readonly total: Quantities;
  readonly architectures: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly position?: Position;
  /** Of the service that asks. */
  readonly replicas: number;
  /** Higher is better. */
  readonly score: number;
}

/** Ids of the snapshot's candidates, best first; those left out are not used. None: a refusal, which needs a reason. */
export interface PluginAnswer {
  readonly ranking: readonly string[];
  readonly reason?: string | undefined;
}

/** A module's export. It must be quick: nothing can interrupt it, unlike a program. */
export type PlacementPlugin = (snapshot: PluginSnapshot) => PluginAnswer;

const Answer = z.object({
  ranking: z.array(z.string().check(z.maxLength(200))).check(z.maxLength(PLUGIN_CANDIDATES)),
  reason: z.optional(z.string().check(z.maxLength(1000))),
});

export function pluginSnapshot(request: PlacementRequest, fitting: readonly Scored[]): PluginSnapshot {
  const candidates = fitting.slice(0, PLUGIN_CANDIDATES).map(({ candidate, score }): PluginCandidate => {
    const { id, name, free, total, architectures, labels = {}, position, replicas, aggregated } = candidate;
    return {
      id,
      name,
      tier: aggregated ? "cluster" : "worker",
      free,
      total,
      architectures,
      labels,
      ...(position ? { position } : {}),
      replicas: (request.serviceName !== undefined && replicas?.get(request.serviceName)) || 0,
      score,
    };
  });
  return { version: PLUGIN_VERSION, request, candidates };
}

/** Runs a plugin that is a function of this process; whatever it throws becomes a vote that failed. */
export function askFunction(plugin: PlacementPlugin, snapshot: PluginSnapshot): PluginVote {
  try {
    return { answer: plugin(snapshot) };
  } catch (error) {
    return { failed: error instanceof Error ? error.message : String(error) };
  }
}

/** The order that the vote asks for, or why it counts for nothing. */
export function readVote(
  vote: PluginVote,
  candidates: readonly Candidate[],
): { readonly answer: PluginAnswer } | { readonly failed: string } {
  if ("failed" in vote) return { failed: vote.failed };
  const parsed = validate(Answer, vote.answer);
  if (!parsed.ok) return { failed: `its answer is not understood: ${describeProblems(parsed.problems)}` };
  const { ranking, reason } = parsed.value;
  const known = new Set(candidates.map(({ id }) => id));
  const strange = ranking.find((id) => !known.has(id));
  if (strange !== undefined) return { failed: `it chose ${JSON.stringify(strange)}, which is no candidate` };
  if (ranking.length === 0 && !reason) return { failed: "it chose nothing and gave no reason" };
  return { answer: { ranking, ...(reason ? { reason } : {}) } };
}
