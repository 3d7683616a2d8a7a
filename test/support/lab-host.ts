/**
 * A lab host on its own, linked to the machine it runs on, for tests and experiments of one machine. `stop()` ends everything
 * inside and removes folder, link and cgroups.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { createWriteStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { formatAddress } from "../../src/addressing/subnet.ts";
import { systemClock } from "../../src/base/clock.ts";
import { exec } from "../../src/base/exec.ts";
import { removeCgroups } from "../../src/lab/cgroups.ts";
import { enterCommand, hostEnvironment, hostProblem, startHost, stopHosts } from "../../src/lab/host.ts";
import { machineDevice, parseNetwork } from "../../src/lab/plan.ts";
import { onlyChild } from "../../src/lab/processes.ts";

export { eventually } from "./eventually.ts";

export const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const OAK = join(repository, "bin/oak");
const RANGE = parseNetwork("10.213.128.0/17");

export interface LabHostOptions {
  /** Letters and digits; part of the names of folder and cgroups. */
  readonly name?: string;
}

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly timeoutMs?: number;
  readonly env?: Record<string, string>;
  /** Its output goes to our own, and is not in the outcome. */
  readonly show?: boolean;
}

export interface Running {
  readonly child: ChildProcess;
  /** Process id as this machine sees it. */
  pid(): number;
  /** Ends with the exit code, or 128 + signal. */
  readonly ended: Promise<number>;
}

export interface LabHost {
  readonly name: string;
  /** Address of the host, as reached from outside. */
  readonly address: string;
  /** Our end of its link: what the host reaches us by. */
  readonly gateway: string;
  /** For files that both sides see under the same path. */
  readonly folder: string;
  readonly initPid: number;
  /** Runs a program inside to its end; never throws for an exit code. */
  run(args: readonly string[], options?: RunOptions): Promise<Outcome>;
  /** Runs a program inside and lets it run; its output goes to `<folder>/<label>.log`. */
  start(label: string, args: readonly string[], env?: Record<string, string>): Running;
  /** `bin/oak <args>` inside. */
  oak(args: readonly string[], options?: { timeoutMs?: number }): Promise<Outcome>;
  log(label: string): string;
  stop(): Promise<void>;
}

/** Why no lab host can be made here, or undefined when one can: what a test that needs one fails with. */
export function labHostProblem(): string | undefined {
  return hostProblem(process.getuid?.() === 0);
}

export async function startLabHost({ name = "lab" }: LabHostOptions = {}): Promise<LabHost> {
  const folder = mkdtempSync(join(tmpdir(), `oak-${name}-`));
  const hostname = `oak-${name}-${folder.slice(-6).replace(/[^a-zA-Z0-9]/g, "0")}`;
  const surroundings = { clock: systemClock, kill: process.kill };
  const stop = async () => {
    await stopHosts(folder, surroundings);
    await removeCgroups(hostname, systemClock);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const keep = [repository, dirname(dirname(process.execPath))];
    const initPid = await startHost({ hostname, cgroup: hostname, folder, keep });
    return makeHost({ name: hostname, folder, initPid, stop, ...(await connect(initPid)) });
  } catch (error) {
    await stop();
    throw error;
  }
}

type Facts = Pick<LabHost, "name" | "address" | "gateway" | "folder" | "initPid" | "stop">;

function makeHost(facts: Facts): LabHost {
  const { folder, initPid } = facts;
  const started = new Set<ChildProcess>();
  const enter = (args: readonly string[], env: Record<string, string>, options: SpawnOptions) => {
    // PATH with the Node that runs this first; nothing of the test's own npm environment.
    const environment = hostEnvironment([dirname(process.execPath)]);
    return spawn(...enterCommand(initPid, args, repository), { ...options, env: { ...environment, ...env } });
  };
  const run: LabHost["run"] = (args, { timeoutMs = 120_000, env = {}, show = false } = {}) => {
    const output = show ? "inherit" : "pipe";
    return outcomeOf(
      enter(args, env, { stdio: ["ignore", output, output], timeout: timeoutMs, killSignal: "SIGKILL" }),
      `after ${timeoutMs} ms: ${args.join(" ")}`,
    );
  };
  return {
    ...facts,
    run,
    start(label, args, env = {}) {
      const log = createWriteStream(join(folder, `${label}.log`), { flags: "a" });
      const child = enter(args, env, { stdio: ["ignore", "pipe", "pipe"] });
      child.stdout?.pipe(log, { end: false });
      child.stderr?.pipe(log, { end: false });
      started.add(child);
      const ended = new Promise<number>((resolve, reject) => {
        child.on("error", reject);
        child.on("exit", (code) => {
          started.delete(child);
          resolve(code ?? 137);
        });
      });
      return { child, pid: () => onlyChild(child.pid!), ended };
    },
    oak: (args, options = {}) => run([OAK, ...args], options),
    log: (label) => readFileSync(join(folder, `${label}.log`), "utf8"),
    async stop() {
      for (const child of started) child.kill("SIGKILL");
      await facts.stop();
    },
  };
}

/** @param limit what it means when it was killed */
export function outcomeOf(child: ChildProcess, limit: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      // A detached grandchild may keep the pipes open for ever: the program's end counts, not theirs.
      setTimeout(() => {
        if (code === null) stderr += `\n(killed by ${signal} ${limit})`;
        child.stdout?.destroy();
        child.stderr?.destroy();
        resolve({ exitCode: code ?? 137, stdout, stderr });
      }, 10);
    });
  });
}

/** A /30 of its own. The link is named by its network, so that of hosts that start at once each gets another one. */
async function connect(initPid: number): Promise<{ gateway: string; address: string }> {
  for (let attempt = 0; ; attempt++) {
    const network = { base: RANGE.base + ((initPid + attempt * 7919) % 8192) * 4, prefix: 30 };
    const [gateway, address] = [formatAddress(network.base + 1), formatAddress(network.base + 2)];
    const link = machineDevice(network);
    try {
      await exec("ip", ["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", String(initPid)]);
    } catch (error) {
      if (/File exists/.test(String(error)) && attempt < 100) continue;
      throw error;
    }
    await exec("ip", ["address", "add", `${gateway}/30`, "dev", link]);
    await exec("ip", ["link", "set", link, "up"]);
    const inside = [`address add ${address}/30 dev eth0`, "link set eth0 up", `route add default via ${gateway}`];
    await exec("nsenter", [`--target=${initPid}`, "--net", "--", "ip", "-batch", "-"], { stdin: inside.join("\n") });
    return { gateway, address };
  }
}
