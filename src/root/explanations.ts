/** How an instance came to be where it is: what this root remembers, and what its cluster tells when asked. */
import { describeSkew } from "../hierarchy/clock-skew.ts";
import type { History } from "../hierarchy/history.ts";
import type { ClusterMessage, TimelineEntry } from "../protocol/uplink.ts";
import { type DecisionRecord, readRecord } from "../scheduler/record.ts";
import type { Instance } from "./model.ts";
import { Questions, type QuestionsOptions } from "./questions.ts";
import type { RootStore } from "./store/root-store.ts";

export interface TierExplanation {
  readonly timeline: readonly TimelineEntry[];
  /** Newest last. */
  readonly decisions: readonly DecisionRecord[];
}

export interface Explanation {
  readonly root: TierExplanation;
  /** Of the cluster that has it; a text: why it says nothing. Absent: none has it. */
  readonly cluster?: (TierExplanation & { readonly remark?: string }) | string;
}

type Answer = Extract<ClusterMessage, { type: "explain.answer" }>;

export interface ExplanationsOptions extends QuestionsOptions {
  readonly history: History;
  readonly store: Pick<RootStore, "decision">;
}

export class Explanations {
  readonly #options: ExplanationsOptions;
  readonly #questions: Questions<Answer>;

  constructor(options: ExplanationsOptions) {
    this.#options = options;
    this.#questions = new Questions(options);
  }

  async explain({ id, clusterId, status, detail, since }: Instance): Promise<Explanation> {
    const { history, store } = this.#options;
    const told = history.timeline(id);
    const remembered = history.decisions(id);
    const stored = remembered.length > 0 ? undefined : await store.decision(id);
    const root = {
      // A root that has just been started knows the last status only.
      timeline: told.length > 0 ? told : [{ at: since, status, detail }],
      decisions: stored ? [stored] : remembered,
    };
    return clusterId === undefined ? { root } : { root, cluster: await this.#ask(clusterId, id) };
  }

  receive(clusterId: string, answer: Answer): void {
    this.#questions.receive(clusterId, answer);
  }

  async #ask(clusterId: string, instanceId: string): Promise<NonNullable<Explanation["cluster"]>> {
    const answer = await this.#questions.ask(clusterId, (question) => ({ type: "explain.ask", question, instanceId }));
    if (typeof answer === "string") return answer;
    const now = this.#options.clock.now();
    return byOurClock(
      answer,
      answer.decisions.flatMap((one) => readRecord(one) ?? []),
      now,
    );
  }
}

/** Told by two clocks, what happened would stand in the wrong order. */
function byOurClock(
  { timeline, clock }: Answer,
  decisions: readonly DecisionRecord[],
  now: number,
): NonNullable<Explanation["cluster"]> {
  const offMs = clock === undefined ? 0 : clock - now;
  const skew = describeSkew(offMs);
  if (skew === undefined) return { timeline, decisions };
  const moved = <T extends { readonly at: number }>(one: T): T => ({ ...one, at: one.at - offMs });
  return {
    timeline: timeline.map(moved),
    decisions: decisions.map(moved),
    remark: `the cluster's times are given by the root's clock, since ${skew}`,
  };
}
