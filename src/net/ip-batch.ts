/**
 * One long-lived `ip -force -batch -`: 0.4 ms an operation where a spawned `ip` costs 2 to 5. Its standard error tells all:
 * a failing line gives its message and `Command failed -:LINE`, and a line that cannot succeed marks the end of each batch.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Writable } from "node:stream";
import { deadline } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";

const TIMEOUT_MS = 20_000;
const FAILED = /^Command failed -:(\d+)$/;
const SENTINEL = "end-of-batch";

export interface IpFailure {
  readonly command: string;
  readonly message: string;
}

interface Batch {
  readonly commands: readonly string[];
  /** Number of its first line, as `ip` counts them. */
  readonly firstLine: number;
  readonly failures: IpFailure[];
  readonly settle: (error?: AppError) => void;
}

export class IpBatch {
  #child: ChildProcess | undefined;
  #batches: Batch[] = [];
  #linesWritten = 0;
  #messages: string[] = [];
  #rest = "";

  /**
   * Runs `ip <command>` for each command, in order; later commands run even if an earlier one failed.
   * @param options.tolerate failures whose message matches are none.
   * @throws IP_FAILED with the first failure; IP_DIED when `ip` ended or hung (the next call starts another).
   */
  async run(commands: readonly string[], options: { tolerate?: RegExp } = {}): Promise<void> {
    const failures = await this.#submit(commands);
    const failure = failures.find(({ message }) => !options.tolerate?.test(message));
    if (failure) throw new AppError("IP_FAILED", `"ip ${failure.command}" failed: ${failure.message}`);
  }

  close(): void {
    this.#fail("was closed");
  }

  #submit(commands: readonly string[]): Promise<readonly IpFailure[]> {
    const unsafe = commands.find((command) => !/^[\w ./:@-]+$/.test(command));
    if (unsafe !== undefined) throw new AppError("IP_FAILED", `Not a plain command: ${JSON.stringify(unsafe)}`);
    const stdin = this.#running();
    return new Promise((resolve, reject) => {
      const timeout = deadline(TIMEOUT_MS);
      const onTimeout = () => this.#fail(`did not answer within ${TIMEOUT_MS} ms`);
      timeout.addEventListener("abort", onTimeout, { once: true });
      const batch: Batch = {
        commands,
        firstLine: this.#linesWritten + 1,
        failures: [],
        settle: (error) => {
          timeout.removeEventListener("abort", onTimeout);
          if (error) reject(error);
          else resolve(batch.failures);
        },
      };
      this.#batches.push(batch);
      this.#linesWritten += commands.length + 1;
      stdin.write(`${[...commands, SENTINEL].join("\n")}\n`);
    });
  }

  #running(): Writable {
    if (this.#child?.stdin?.writable) return this.#child.stdin;
    const child = spawn("ip", ["-force", "-batch", "-"], { stdio: ["pipe", "ignore", "pipe"] });
    this.#child = child;
    this.#linesWritten = 0;
    this.#messages = [];
    this.#rest = "";
    const ended = (why: string) => {
      if (this.#child === child) this.#fail(why);
    };
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      if (this.#child === child) this.#read(text);
    });
    child.on("error", (error) => ended(error.message));
    child.on("exit", (code, signal) => ended(`ended (${signal ?? `exit ${code}`})`));
    // Its end is reported by "exit".
    child.stdin.on("error", () => {});
    return child.stdin;
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const number = FAILED.exec(line)?.[1];
      if (number === undefined) this.#messages.push(line.trim());
      else this.#lineFailed(Number(number));
    }
  }

  #lineFailed(line: number): void {
    const message = this.#messages.join(" ");
    this.#messages = [];
    const batch = this.#batches[0];
    if (!batch) return;
    const command = batch.commands[line - batch.firstLine];
    if (command !== undefined) return void batch.failures.push({ command, message });
    this.#batches.shift();
    batch.settle();
  }

  #fail(why: string): void {
    const child = this.#child;
    const batches = this.#batches;
    this.#child = undefined;
    this.#batches = [];
    child?.kill("SIGKILL");
    for (const batch of batches) batch.settle(new AppError("IP_DIED", `"ip -batch" ${why}`));
  }
}
