/** One role of the product as it ships, in a process of its own with a state folder and ports of its own, and what it costs. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { eventually } from "../../test/support/eventually.ts";
import { memoryOf } from "../lib/process.ts";

export interface Cost {
  /** 100 is one core. */
  readonly cpuPercent: number;
  readonly pssMb: number;
  readonly anonymousMb: number;
}

export interface Options {
  readonly bundle: string;
  /** Each measured span. */
  readonly seconds: number;
  /** Of the measured process, for example to profile it. */
  readonly nodeFlags: readonly string[];
}

/** The flags with which bin/oak runs a root or a cluster. */
const NODE_FLAGS = [
  ...["--disable-warning=ExperimentalWarning", "--max-semi-space-size=16", "--no-maglev", "--v8-pool-size=1"],
];

export class Role {
  readonly #args: readonly string[];
  readonly #logPath: string;
  readonly #statusUrl: string;
  #child: ChildProcess | undefined;

  /** @param options.statusUrl answers once the role is up @param options.nodeFlags beside those it ships with */
  constructor(options: {
    readonly bundle: string;
    readonly folder: string;
    readonly args: readonly string[];
    readonly statusUrl: string;
    readonly nodeFlags: readonly string[];
  }) {
    const { bundle, folder, args, nodeFlags } = options;
    this.#args = [...NODE_FLAGS, ...nodeFlags, bundle, ...args, "--log-level", "warn"];
    this.#logPath = join(folder, "role.log");
    this.#statusUrl = options.statusUrl;
  }

  async start(): Promise<void> {
    const env = { ...process.env, MALLOC_TRIM_THRESHOLD_: "131072" };
    // It writes the file itself: what it says last is there when it has ended.
    const log = openSync(this.#logPath, "a");
    const child = spawn(process.execPath, this.#args, { stdio: ["ignore", log, log], env });
    closeSync(log);
    child.once("exit", (code, signal) => {
      if (code !== 0) console.error(`${this.#args.join(" ")} ended (${code ?? signal}):\n${this.lastWords()}`);
    });
    this.#child = child;
    const answered = async () => (await fetch(this.#statusUrl)).ok || undefined;
    await eventually(answered, { what: `an answer at ${this.#statusUrl}`, withinMs: 60_000, everyMs: 20 });
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    const forced = setTimeout(() => child.kill("SIGKILL"), 20_000);
    await ended;
    clearTimeout(forced);
  }

  async cost(seconds: number): Promise<Cost> {
    const pid = this.#child!.pid!;
    const [cpu, from] = [cpuSeconds(pid), performance.now()];
    await systemClock.sleep(seconds * 1000);
    const cpuPercent = ((cpuSeconds(pid) - cpu) / (performance.now() - from)) * 100_000;
    const { pssMb, anonymousMb } = memoryOf(pid);
    return { cpuPercent, pssMb, anonymousMb };
  }

  /** The last words of its log, for an error. */
  lastWords(): string {
    return readFileSync(this.#logPath, "utf8").slice(-2000);
  }
}

/** To the nanosecond, of all threads that still run: a hundred clusters cost a few ticks of the clock in half a minute. */
function cpuSeconds(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const nanos = threads.map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]),
  );
  return nanos.reduce((sum, one) => sum + one, 0) / 1e9;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export async function timed(work: () => Promise<void>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}

/** Progress, for whoever waits. */
export function note(text: string): void {
  console.error(text);
}
