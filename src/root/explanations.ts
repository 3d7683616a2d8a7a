/** How an instance came to be where it is: what this root remembers, and what its cluster tells when asked. */
import { type Clock, pause } from "../base/clock.ts";
import { objectId } from "../base/random.ts";
import type { History } from "../hierarchy/history.ts";
import type { ClusterMessage, RootMessage, TimelineEntry } from "../protocol/uplink.ts";
import { type DecisionRecord, readRecord } from "../scheduler/record.ts";
import type { Instance } from "./model.ts";
import type { RootStore } from "./store/root-store.ts";

export interface TierExplanation {
  readonly timeline: readonly TimelineEntry[];
  /** Newest last. */
  readonly decisions: readonly DecisionRecord[];
}

export interface Explanation {
  readonly root: TierExplanation;
  /** Of the cluster that has it; a text: why it says nothing. Absent: none has it. */
  readonly cluster?: TierExplanation | string;
}

type Answer = Extract<ClusterMessage, { type: "explain.answer" }>;

export interface ExplanationsOptions {
  readonly history: History;
  readonly store: Pick<RootStore, "decision">;
  readonly link: (clusterId: string) => { send(message: RootMessage): void } | undefined;
  readonly clock: Clock;
}

const ANSWER_WITHIN_MS = 3_000;

export class Explanations {
  readonly #options: ExplanationsOptions;
  readonly #questions = new Map<string, (answer: Answer) => void>();

  constructor(options: ExplanationsOptions) {
    this.#options = options;
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

  receive(answer: Answer): void {
    this.#questions.get(answer.question)?.(answer);
  }

  async #ask(clusterId: string, instanceId: string): Promise<TierExplanation | string> {
    const link = this.#options.link(clusterId);
    if (!link) return "its cluster is not connected";
    const question = objectId();
    const answered = new AbortController();
    let answer: Answer | undefined;
    this.#questions.set(question, (one) => {
      answer = one;
      answered.abort();
    });
    try {
      link.send({ type: "explain.ask", question, instanceId });
      await pause(this.#options.clock, ANSWER_WITHIN_MS, answered.signal);
    } finally {
      this.#questions.delete(question);
    }
    if (!answer) return "its cluster does not answer";
    return { timeline: answer.timeline, decisions: answer.decisions.flatMap((one) => readRecord(one) ?? []) };
  }
}
