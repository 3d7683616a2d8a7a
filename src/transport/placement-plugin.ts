/**
 * Placement plugins outside of this process: a program that reads one line of JSON and writes one, again and again, or an HTTP
 * service that is sent the same. Whatever goes wrong becomes `{ failed }`, never an exception: placement goes on without it.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { type Clock, startTimer } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { backoffMs } from "../base/retry.ts";
import { HttpClient } from "./http-client.ts";

/** What came back, unchecked; the scheduler reads it. */
export type PluginReply = { readonly answer: unknown } | { readonly failed: string };

export interface PlacementPluginPort {
  /** One question at a time; the others wait their turn. */
  ask(question: unknown): Promise<PluginReply>;
  close(): void;
}

const MAX_ANSWER_CHARACTERS = 1_000_000;
const PAUSE = { firstMs: 1_000, maxMs: 60_000 } as const;

export interface PluginOptions {
  readonly timeoutMs: number;
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * Asks nobody for a while after a failure: a plugin that hangs must not cost its time-out once for each instance of a burst.
 * The pause doubles with each failure in a row.
 */
class Turns {
  readonly #clock: Clock;
  #last: Promise<unknown> = Promise.resolve();
  #failures = 0;
  #pausedUntil = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(ask: () => Promise<PluginReply>): Promise<PluginReply> {
    const turn = this.#last.then(() => this.#run(ask));
    this.#last = turn;
    return turn;
  }

  async #run(ask: () => Promise<PluginReply>): Promise<PluginReply> {
    const waitMs = this.#pausedUntil - this.#clock.monotonic();
    if (waitMs > 0) return { failed: `it failed before, and is not asked for ${Math.ceil(waitMs / 1000)} s more` };
    const reply = await ask().catch((error: unknown): PluginReply => ({ failed: describeError(error) }));
    this.#failures = "failed" in reply ? this.#failures + 1 : 0;
    if (this.#failures > 0) this.#pausedUntil = this.#clock.monotonic() + backoffMs(this.#failures, PAUSE);
    return reply;
  }
}

/** A program, started with the first question and kept; killed when it hangs, started anew when it is needed again. */
export class PluginProgram implements PlacementPluginPort {
  readonly #command: readonly [string, ...string[]];
  readonly #options: PluginOptions;
  readonly #turns: Turns;
  #child: ChildProcessWithoutNullStreams | undefined;
  #isAsking = false;
  #isClosed = false;

  constructor(command: readonly [string, ...string[]], options: PluginOptions) {
    this.#command = command;
    this.#options = options;
    this.#turns = new Turns(options.clock);
  }

  ask(question: unknown): Promise<PluginReply> {
    return this.#turns.take(async () => {
      if (this.#isClosed) return { failed: "it has been stopped" };
      this.#isAsking = true;
      const reply = await this.#exchange(`${JSON.stringify(question)}\n`);
      this.#isAsking = false;
      // A program that failed may still write its late answer: the next one must not read that.
      if ("failed" in reply) this.#kill();
      return reply;
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#kill();
  }

  #kill(): void {
    this.#child?.kill("SIGKILL");
    this.#child = undefined;
  }

  async #exchange(line: string): Promise<PluginReply> {
    const child = this.#child ?? this.#start();
    return await new Promise((resolve) => {
      let text = "";
      let errors = "";
      const finish = (reply: PluginReply) => {
        stopTimer();
        child.stdout.off("data", onText);
        child.stderr.off("data", onErrors);
        child.off("error", onError).off("close", onClose);
        resolve(reply);
      };
      const onText = (chunk: string) => {
        text += chunk;
        const end = text.indexOf("\n");
        if (end >= 0)
          finish(end === text.length - 1 ? parse(text.slice(0, end)) : { failed: "it wrote more than a line" });
        else if (text.length > MAX_ANSWER_CHARACTERS) finish({ failed: "its answer is too long" });
      };
      const onErrors = (chunk: string) => {
        errors = (errors + chunk).slice(-1000);
      };
      const onError = (error: Error) => finish({ failed: `cannot run "${this.#command[0]}": ${error.message}` });
      const onClose = (code: number | null, signal: string | null) =>
        finish({ failed: `it ended (${signal ?? `exit ${code}`})${lastLine(errors)}` });
      const { timeoutMs } = this.#options;
      const stopTimer = startTimer(timeoutMs, () => finish({ failed: `no answer within ${timeoutMs} ms` }));
      child.stdout.on("data", onText);
      child.stderr.on("data", onErrors);
      child.on("error", onError).on("close", onClose);
      child.stdin.write(line);
    });
  }

  #start(): ChildProcessWithoutNullStreams {
    const [file, ...args] = this.#command;
    const child = spawn(file, args, { stdio: "pipe" });
    child.stdout.setEncoding("utf8").on("data", () => {
      // Nobody asked: from here on each answer would be taken for that of the next question.
      if (!this.#isAsking) this.#kill();
    });
    child.stderr.setEncoding("utf8").on("data", (output: string) => {
      this.#options.log.debug({ program: file, output: output.slice(-1000) }, "placement plugin says");
    });
    const forget = () => {
      if (this.#child === child) this.#child = undefined;
    };
    child.on("error", forget).on("close", forget);
    // EPIPE: "close" tells more.
    child.stdin.on("error", () => {});
    this.#child = child;
    return child;
  }
}

/** A service that takes the question by POST and answers with the same JSON. */
export class PluginService implements PlacementPluginPort {
  readonly #client: HttpClient;
  readonly #path: string;
  readonly #options: PluginOptions;
  readonly #turns: Turns;
  readonly #closed = new AbortController();

  /** @throws AppError SERVER_URL_INVALID */
  constructor(url: string, options: PluginOptions) {
    this.#client = new HttpClient(url);
    this.#path = `${this.#client.server.pathname}${this.#client.server.search}`;
    this.#options = options;
    this.#turns = new Turns(options.clock);
  }

  ask(question: unknown): Promise<PluginReply> {
    return this.#turns.take(async () => {
      const { timeoutMs } = this.#options;
      const { signal } = this.#closed;
      try {
        const { status, body } = await this.#client.send("POST", this.#path, { body: question, timeoutMs, signal });
        return status === 200 ? { answer: body } : { failed: `it answered with status ${status}` };
      } catch (error) {
        return { failed: describeError(error) };
      }
    });
  }

  close(): void {
    this.#closed.abort();
  }
}

/** `http://…` is a service; everything else the words of a command. */
export function openPlacementPlugin(text: string, options: PluginOptions): PlacementPluginPort {
  if (/^https?:\/\//.test(text)) return new PluginService(text, options);
  const [file = "", ...args] = text.split(/\s+/).filter((word) => word !== "");
  return new PluginProgram([file, ...args], options);
}

function parse(line: string): PluginReply {
  try {
    return { answer: JSON.parse(line) };
  } catch {
    return { failed: `its answer is not JSON: ${JSON.stringify(line.slice(0, 60))}` };
  }
}

function lastLine(errors: string): string {
  const line = errors.trim().split("\n").at(-1);
  return line ? `: ${line.slice(0, 300)}` : "";
}
