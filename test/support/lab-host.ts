/**
 * A lab host: a machine made of namespaces, for end-to-end tests and experiments. It has its own network, mounts (/run, /var/lib,
 * /var/log, /root), processes, cgroups and host name, and shares kernel, programs and this clone with the machine it runs on.
 * One `kill -9` of its first process ends everything inside; `stop()` does that and removes folder, link and cgroups.
 */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { createWriteStream, existsSync, globSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../src/base/clock.ts";
import { exec } from "../../src/base/exec.ts";

export const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const OAK = join(repository, "bin/oak");
const JOIN = join(repository, "test/support/lab-host-join.sh");

export interface LabHostOptions {
  /** Up to eight letters and digits; part of the names of link and cgroups. */
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

/** Why no lab host can be made here, or undefined when one can. For `test(name, { skip: labHostProblem() })`. */
export function labHostProblem(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  for (const program of ["unshare", "nsenter", "ip", "containerd", "runc", "nft"]) {
    if (!globSync(`{/usr,}/{s,}bin/${program}`).some((path) => existsSync(path))) return `needs the program ${program}`;
  }
  return undefined;
}

export async function startLabHost({ name = "lab" }: LabHostOptions = {}): Promise<LabHost> {
  const folder = mkdtempSync(join(tmpdir(), `oak-${name}-`));
  const suffix = folder.slice(-6).replace(/[^a-zA-Z0-9]/g, "0");
  const hostName = `oak-${name}-${suffix}`;
  const link = `ol${suffix}`;
  const init = spawn(
    "unshare",
    [
      ...[
        "--mount",
        "--net",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
      ],
      ...["--", "sh", join(repository, "test/support/lab-host-init.sh"), "enter", hostName, folder],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const removeAll = async () => {
    await killAndWait(init);
    await exec("ip", ["link", "delete", link]).catch(ignoreMissing);
    await removeCgroups(hostName);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await firstLine(init, "ready");
    const initPid = onlyChild(init.pid!);
    const { gateway, address } = await connect(link, initPid);
    return makeHost({ name: hostName, address, gateway, folder, initPid, removeAll });
  } catch (error) {
    await removeAll();
    throw error;
  }
}

function makeHost(
  parts: Omit<LabHost, "run" | "start" | "oak" | "log" | "stop"> & { removeAll(): Promise<void> },
): LabHost {
  const { folder, initPid, removeAll, ...named } = parts;
  const started = new Set<ChildProcess>();
  const enter = (args: readonly string[], env: Record<string, string>, options: SpawnOptions) =>
    spawn(
      "nsenter",
      [
        `--target=${initPid}`,
        "--mount",
        "--net",
        "--pid",
        "--uts",
        "--ipc",
        "--cgroup",
        `--wd=${repository}`,
        "--",
        "sh",
        JOIN,
        ...args,
      ],
      { ...options, env: { ...cleanEnvironment(), HOME: "/root", ...env } },
    );

  const run: LabHost["run"] = (args, { timeoutMs = 120_000, env = {}, show = false } = {}) =>
    new Promise((resolve, reject) => {
      const output = show ? "inherit" : "pipe";
      const child = enter(args, env, { stdio: ["ignore", output, output], timeout: timeoutMs, killSignal: "SIGKILL" });
      let stdout = "";
      let stderr = "";
      child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
      child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        // A detached grandchild may keep the pipes open for ever: the program's end counts, not theirs.
        setTimeout(() => {
          if (code === null) stderr += `\n(killed by ${signal} after ${timeoutMs} ms: ${args.join(" ")})`;
          child.stdout?.destroy();
          child.stderr?.destroy();
          resolve({ exitCode: code ?? 137, stdout, stderr });
        }, 10);
      });
    });

  return {
    ...named,
    folder,
    initPid,
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
      await removeAll();
    },
  };
}

/** Polls until `probe` returns something; its last error is the message when it never does. */
export async function eventually<T>(
  probe: () => Promise<T | undefined> | T | undefined,
  {
    withinMs = 20_000,
    everyMs = 50,
    what = "the condition",
  }: { withinMs?: number; everyMs?: number; what?: string } = {},
): Promise<T> {
  const end = performance.now() + withinMs;
  let lastError: unknown;
  do {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      lastError = error;
    }
    await systemClock.sleep(everyMs);
  } while (performance.now() < end);
  throw new Error(`${what} did not come true within ${withinMs} ms`, { cause: lastError });
}

/** PATH with the Node that runs this first; nothing of the test's own npm environment. */
function cleanEnvironment(): Record<string, string> {
  const path = [
    dirname(process.execPath),
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
  ];
  return { PATH: path.join(":"), LANG: "C.UTF-8" };
}

async function connect(link: string, initPid: number): Promise<{ gateway: string; address: string }> {
  // A /30 of 10.213.0.0/16; taken ones are tried past, since several hosts may start at once.
  for (let attempt = 0; ; attempt++) {
    const slot = (initPid + attempt * 7919) % 16_384;
    const base = `10.213.${slot >> 6}.`;
    const [gateway, address] = [`${base}${(slot & 63) * 4 + 1}`, `${base}${(slot & 63) * 4 + 2}`];
    if ((await exec("ip", ["-o", "-4", "address", "show"])).includes(`${gateway}/`)) continue;
    await exec("ip", ["link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", String(initPid)]);
    await exec("ip", ["address", "add", `${gateway}/30`, "dev", link]);
    await exec("ip", ["link", "set", link, "up"]);
    const inside = (...args: string[]) => exec("nsenter", [`--target=${initPid}`, "--net", "--", "ip", ...args]);
    await inside("address", "add", `${address}/30`, "dev", "eth0");
    await inside("link", "set", "eth0", "up");
    await inside("route", "add", "default", "via", gateway);
    return { gateway, address };
  }
}

function firstLine(child: ChildProcess, expected: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let errors = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text));
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (text.includes(expected)) resolve();
    });
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`The lab host did not start (exit ${code}): ${errors.trim()}`)));
  });
}

/** unshare and nsenter fork for a PID namespace: the process that counts is their only child. */
function onlyChild(pid: number): number {
  const child = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")[0];
  if (!child) throw new Error(`Process ${pid} has no child: it has ended, or not begun`);
  return Number(child);
}

function killAndWait(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.on("exit", () => resolve());
    // Not unshare itself first: `--kill-child` ends its child only when unshare dies, and then nobody waits for it.
    try {
      process.kill(onlyChild(child.pid!), "SIGKILL");
    } catch {
      child.kill("SIGKILL");
    }
  });
}

async function removeCgroups(name: string): Promise<void> {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2? /gm);
  for (const [, mount] of mounts) {
    const top = join(mount!, name);
    if (!existsSync(top)) continue;
    const folders = [top, ...globSync(`${top}/**/`)].sort((left, right) => right.length - left.length);
    for (const folder of folders) {
      // Killed processes leave their cgroup a moment after their parent heard of it.
      await eventually(() => removeFolder(folder), { withinMs: 5000, everyMs: 20, what: `removal of ${folder}` });
    }
  }
}

function removeFolder(folder: string): boolean {
  if (existsSync(folder)) rmdirSync(folder);
  return true;
}

function ignoreMissing(error: unknown): void {
  if (!/Cannot find device/.test(String(error))) throw error;
}
