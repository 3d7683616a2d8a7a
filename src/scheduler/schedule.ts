/** Feasibility → ranking → choice, over an immutable snapshot. The same code at both tiers. Pure. */
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { Budget, Candidate, Decision, PluginVote, Schedule, ScheduleOptions, Verdict } from "./candidate.ts";
import { infeasible, isFeasible, type Rules, rulesFor } from "./feasibility.ts";
import { PLUGIN_CANDIDATES, type PluginSnapshot, pluginSnapshot, readVote } from "./plugin.ts";
import { Best, RANKING_LENGTH, type Scored, score } from "./ranking.ts";

/** The time budget is looked at so often; so many are examined however late it is. */
const BATCH = 256;

export const schedule: Schedule = (request, candidates, options) => {
  const { plugin } = options;
  const search = examine(request, candidates, options, plugin ? PLUGIN_CANDIDATES : RANKING_LENGTH);
  const decision =
    plugin && search.fitting.length > 0 ? byPlugin(search, candidates, plugin) : byScore(search, candidates);
  const isCut = search.examined < candidates.length && !search.firstFits;
  return isCut ? { ...decision, examined: search.examined } : decision;
};

/** What a plugin is to be asked before `schedule` is called with its vote; undefined: nothing fits, there is no choice. */
export function pluginQuestion(
  request: PlacementRequest,
  candidates: readonly Candidate[],
  options: ScheduleOptions,
): PluginSnapshot | undefined {
  const { fitting } = examine(request, candidates, options, PLUGIN_CANDIDATES);
  return fitting.length === 0 ? undefined : pluginSnapshot(request, fitting);
}

interface Search {
  /** Best first. */
  readonly fitting: readonly Scored[];
  readonly rules: Rules;
  /** How many of the candidates were looked at. */
  readonly examined: number;
  /** It was over with the first that fits. */
  readonly firstFits: boolean;
}

function examine(
  request: PlacementRequest,
  candidates: readonly Candidate[],
  options: ScheduleOptions,
  length: number,
): Search {
  const rules = rulesFor(request, options);
  const isOver = budgetCheck(options.budget);
  const firstFits = options.strategy === "first-fit" && !options.plugin;
  const best = new Best(length);
  let examined = 0;
  for (const candidate of candidates) {
    if (isOver(examined)) break;
    examined++;
    if (!isFeasible(rules, candidate)) continue;
    best.add(candidate, score(options.strategy, request, candidate, rules.near));
    if (firstFits) break;
  }
  return { fitting: best.list, rules, examined, firstFits: firstFits && best.list.length > 0 };
}

function budgetCheck(budget: Budget | undefined): (examined: number) => boolean {
  if (!budget) return () => false;
  if (budget.ms === undefined) return (examined) => examined >= budget.candidates;
  const end = budget.monotonic() + budget.ms;
  return (examined) => examined > 0 && examined % BATCH === 0 && budget.monotonic() >= end;
}

function byScore({ fitting, rules, examined }: Search, candidates: readonly Candidate[]): Decision {
  if (fitting.length > 0) return choose(fitting.map(({ candidate }) => candidate.id));
  const verdicts = candidates.slice(0, examined).flatMap((candidate) => infeasible(rules, candidate) ?? []);
  // Only what somebody was refused for: where there is no room anyway, waiting helps nobody.
  const blamed = new Set(verdicts.map(({ rule }) => rule));
  const waitsFor = rules.near.flatMap((one) => (one.waitsFor && blamed.has(one.rule) ? one.waitsFor : []));
  return {
    placed: false,
    verdicts: [...verdicts, ...notExamined(candidates, examined)],
    ...(waitsFor.length > 0 ? { waitsFor } : {}),
  };
}

function choose(ranking: readonly string[]): Decision {
  return { placed: true, candidateId: ranking[0]!, ranking: ranking.slice(0, RANKING_LENGTH) };
}

function notExamined(candidates: readonly Candidate[], examined: number): Verdict[] {
  const had = `the search was over after ${examined} of ${candidates.length} candidates`;
  return candidates
    .slice(examined, examined + 1)
    .map(({ name }) => ({ candidate: name, rule: "convergence time", needed: "more of it", had }));
}

function byPlugin(search: Search, candidates: readonly Candidate[], vote: PluginVote): Decision {
  const read = readVote(vote, candidates);
  if ("failed" in read) return withoutPlugin(search, read.failed);
  const fitting = new Set(search.fitting.map(({ candidate }) => candidate.id));
  // What it chose may have been taken since it was asked.
  const ranking = read.answer.ranking.filter((id) => fitting.has(id));
  if (ranking.length > 0) return choose(ranking);
  if (read.answer.ranking.length > 0) return withoutPlugin(search, "none of those that it chose fits any more");
  const had = read.answer.reason!;
  const verdicts = search.fitting.map(({ candidate: { name } }) => ({
    candidate: name,
    rule: "plugin",
    needed: "its choice",
    had,
  }));
  return { placed: false, verdicts };
}

/** What it fails to decide, ROM does: the roomiest of those that fit. */
function withoutPlugin({ fitting, rules: { request, near } }: Search, reason: string): Decision {
  const best = new Best();
  for (const { candidate } of fitting) best.add(candidate, score("best-fit", request, candidate, near));
  return {
    ...choose(best.list.map(({ candidate }) => candidate.id)),
    warnings: [`placement plugin: ${reason}; best-fit decided instead`],
  };
}

/** One line for people: every candidate with the rule it broke, at most ten of them. */
export function describeVerdicts(verdicts: readonly Verdict[], kind: string): string {
  if (verdicts.length === 0) return `there is no ${kind} yet`;
  const shown = verdicts.slice(0, 10).map(({ candidate, rule, needed, had }) =>
    // What a child said when it declined explains itself.
    rule === "declined before"
      ? `${candidate} declined: ${had}`
      : `${candidate}: ${rule} (needs ${needed}, has ${had})`,
  );
  const more = verdicts.length > shown.length ? ` and ${verdicts.length - shown.length} more` : "";
  return `no ${kind} fits: ${shown.join("; ")}${more}`;
}
