/** Measures the routes of this worker when its cluster asks. One question at a time: the last one counts. */
import { describeError, hasCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { CheckAnswer, CheckedRoutes, CheckQuestion } from "../protocol/net-check.ts";

type Result = CheckAnswer["result"];

export interface CheckAnswersParts {
  /** Undefined: the network is off. */
  readonly check: ((withinMs: number, signal: AbortSignal) => Promise<CheckedRoutes>) | undefined;
  /** @throws AppError MQTT_OFFLINE */
  readonly send: (answer: CheckAnswer) => Promise<void>;
  readonly log: Logger;
}

export class CheckAnswers {
  readonly #parts: CheckAnswersParts;
  #now: { readonly end: AbortController; readonly done: Promise<void> } | undefined;

  constructor(parts: CheckAnswersParts) {
    this.#parts = parts;
  }

  take(question: CheckQuestion): void {
    this.#now?.end.abort();
    if (question.withinMs === 0) return;
    const end = new AbortController();
    // One after the other: two bodies at a time would measure each other.
    const before = this.#now?.done;
    this.#now = { end, done: Promise.resolve(before).then(() => this.#answer(question, end.signal)) };
  }

  /** Nobody waits for the answer any more. */
  drop(): void {
    this.#now?.end.abort();
  }

  /** Ends what is under way when `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    this.drop();
    await this.#now?.done;
  }

  async #answer({ question, withinMs }: CheckQuestion, signal: AbortSignal): Promise<void> {
    const { send, log } = this.#parts;
    if (signal.aborted) return;
    const result = await this.#result(withinMs, signal);
    if (signal.aborted) return;
    try {
      await send({ question, result });
    } catch (error) {
      if (!hasCode(error, "MQTT_OFFLINE")) log.warn({ error }, "checked routes not told");
    }
  }

  async #result(withinMs: number, signal: AbortSignal): Promise<Result> {
    const { check, log } = this.#parts;
    if (!check) return { outcome: "off" };
    try {
      return { outcome: "checked", ...(await check(withinMs, signal)) };
    } catch (error) {
      if (!signal.aborted) log.warn({ error }, "routes not checked");
      return { outcome: "failed", detail: describeError(error).slice(0, 500) };
    }
  }
}
