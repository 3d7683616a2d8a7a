/** Questions to clusters over their links: an answer comes, or the time for it is over. */
import { type Clock, pause } from "../base/clock.ts";
import { objectId } from "../base/random.ts";
import type { RootMessage } from "../protocol/uplink.ts";

const ANSWER_WITHIN_MS = 3_000;

export interface QuestionsOptions {
  readonly link: (clusterId: string) => { send(message: RootMessage): void } | undefined;
  readonly clock: Clock;
}

export class Questions<Answer extends { readonly question: string }> {
  readonly #options: QuestionsOptions;
  readonly #open = new Map<string, { readonly clusterId: string; readonly take: (answer: Answer) => void }>();

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  /** What nobody asked this cluster, or what comes too late, is dropped. */
  receive(clusterId: string, answer: Answer): void {
    const question = this.#open.get(answer.question);
    if (question?.clusterId === clusterId) question.take(answer);
  }

  /** A text: why there is no answer. */
  async ask(clusterId: string, message: (question: string) => RootMessage): Promise<Answer | string> {
    const { link, clock } = this.#options;
    const to = link(clusterId);
    if (!to) return "its cluster is not connected";
    const question = objectId();
    const answered = new AbortController();
    let answer: Answer | undefined;
    const take = (one: Answer) => {
      answer = one;
      answered.abort();
    };
    this.#open.set(question, { clusterId, take });
    try {
      to.send(message(question));
      await pause(clock, ANSWER_WITHIN_MS, answered.signal);
    } finally {
      this.#open.delete(question);
    }
    return answer ?? "its cluster does not answer";
  }
}
