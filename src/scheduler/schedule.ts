/** Feasibility → ranking → choice, over an immutable snapshot. The same code at both tiers. Pure. */
import type { Candidate, Schedule, Verdict } from "./candidate.ts";
import { infeasible } from "./feasibility.ts";
import { rank } from "./ranking.ts";

export const schedule: Schedule = (request, candidates, options) => {
  const verdicts: Verdict[] = [];
  const feasible: Candidate[] = [];
  for (const candidate of candidates) {
    const verdict = infeasible(request, candidate, options);
    if (verdict) verdicts.push(verdict);
    else feasible.push(candidate);
    if (!verdict && options.strategy === "first-fit") break;
  }
  const ranking = options.strategy === "first-fit" ? feasible : rank(request, feasible);
  const best = ranking[0];
  return best
    ? { placed: true, candidateId: best.id, ranking: ranking.map(({ id }) => id) }
    : { placed: false, verdicts };
};

/** One line for people: every candidate with the rule it broke, at most ten of them. */
export function describeVerdicts(verdicts: readonly Verdict[], kind: string): string {
  if (verdicts.length === 0) return `there is no ${kind} yet`;
  const shown = verdicts
    .slice(0, 10)
    .map(({ candidate, rule, needed, had }) => `${candidate}: ${rule} (needs ${needed}, has ${had})`);
  const more = verdicts.length > shown.length ? ` and ${verdicts.length - shown.length} more` : "";
  return `no ${kind} fits: ${shown.join("; ")}${more}`;
}
