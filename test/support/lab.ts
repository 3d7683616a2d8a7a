/** A lab for tests: many machines with the product on them, made, used and removed by one test file. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { Lab, type UpOptions } from "../../src/lab/lab.ts";
import { labHostProblem, type Outcome, outcomeOf, repository } from "./lab-host.ts";

export interface TestLab {
  readonly lab: Lab;
  readonly name: string;
  /** Of the lab. */
  readonly folder: string;
  /** Runs a program on a host to its end; never throws for an exit code. */
  run(host: string, args: readonly string[], options?: { input?: string; timeoutMs?: number }): Promise<Outcome>;
  /** Runs a program on this machine to its end. */
  outside(args: readonly [string, ...string[]]): Promise<Outcome>;
  /** Runs a script on a host, which must end with 0. */
  sh(host: string, script: string): Promise<string>;
  /** `oak … -o json` on a host, by default the root's, which must end with 0. */
  json<T>(args: readonly string[], host?: string): Promise<T>;
  address(host: string): Promise<string>;
  /** The example's image into the containerd of every worker. */
  buildImage(): Promise<void>;
  remove(): Promise<void>;
}

let count = 0;

/** @param options what `oak lab up` takes; by default one cluster with one worker */
export async function startLab(options: Partial<UpOptions> = {}): Promise<TestLab> {
  const problem = labHostProblem();
  if (problem !== undefined) throw new Error(`No lab can be made here: it ${problem}`);
  const stateDir = mkdtempSync(join(tmpdir(), "oak-lab-"));
  const name = `t${process.pid.toString(36)}${(count++).toString(36)}`;
  const lab = new Lab({
    name,
    stateDir,
    program: {
      oak: [join(repository, "bin/oak")],
      folders: [repository, dirname(dirname(process.execPath))],
      node: process.execPath,
    },
    pid: process.pid,
    isRoot: true,
    clock: systemClock,
    kill: process.kill,
  });
  const remove = async () => {
    await lab.down();
    rmSync(stateDir, { recursive: true });
  };
  try {
    await lab.up({ clusters: 1, workers: 1, ...options }, AbortSignal.timeout(90_000));
  } catch (error) {
    const logs = await lab.tail(40).catch((cause: unknown) => String(cause));
    await remove();
    throw new Error(`The lab did not come up. The end of its logs:\n${logs}`, { cause: error });
  }
  return { lab, name, folder: join(stateDir, name), remove, ...tools(lab) };
}

function tools(lab: Lab): Pick<TestLab, "run" | "outside" | "sh" | "json" | "address" | "buildImage"> {
  const run: TestLab["run"] = async (host, args, { input = "", timeoutMs = 60_000 } = {}) => {
    const child = spawn(...(await lab.command(host, args, repository)), {
      stdio: ["pipe", "pipe", "pipe"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    // Its exit code tells more than that it did not read.
    child.stdin.on("error", () => undefined);
    child.stdin.end(input);
    return await outcomeOf(child, `after ${timeoutMs} ms: ${args.join(" ")}`);
  };
  const checked = async (host: string, args: readonly string[]) => {
    const { exitCode, stdout, stderr } = await run(host, args);
    if (exitCode !== 0) throw new Error(`"${args.join(" ")}" on ${host} ended with ${exitCode}: ${stderr}${stdout}`);
    return stdout;
  };
  return {
    run,
    outside: ([file, ...args]) => outcomeOf(spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] }), file),
    sh: (host, script) => checked(host, ["sh", "-ec", script]),
    json: async <T>(args: readonly string[], host = "root") =>
      JSON.parse(await checked(host, ["oak", ...args, "-o", "json"])) as T,
    async address(host) {
      return (await lab.status()).hosts.find(({ name }) => name === host)!.address;
    },
    async buildImage() {
      const workers = (await lab.status()).hosts.filter(({ role }) => role === "worker");
      await Promise.all(
        workers.map(({ name }) => checked(name, ["oak", "image", "build", "-f", "examples/hello/image.yaml"])),
      );
    },
  };
}
