/**
 * A machine made of namespaces: it has its own network, mounts (/run, /var/lib, /var/log, /root), processes, cgroups and host
 * name, and shares kernel and programs with the machine it runs on. One SIGKILL of its first process ends everything inside.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, globSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { findProcesses, type Kill, killProcesses, onlyChild } from "./processes.ts";

export interface HostIdentity {
  /** As it calls itself. */
  readonly hostname: string;
  readonly cgroup: string;
  /** Holds its state; both sides see it under this path. */
  readonly folder: string;
  /** What it must see under the same path, although it may be in a folder that it has of its own. */
  readonly keep: readonly string[];
}

export interface Surroundings {
  readonly clock: Clock;
  readonly kill: Kill;
}

const PROGRAMS = ["unshare", "nsenter", "ip", "tc", "nft", "containerd", "runc"];
const SYSTEM_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/** Beside this file, and beside the bundle. */
const here = dirname(fileURLToPath(import.meta.url));
const INIT = join(here, "host-init.sh");
const JOIN = join(here, "host-join.sh");

/** What is missing here to make a machine, or undefined when nothing is. */
export function missingProgram(programs: readonly string[] = PROGRAMS): string | undefined {
  return programs.find((program) => globSync(`{/usr,/usr/local,}/{s,}bin/${program}`).length === 0);
}

/** @returns its first process, as this machine numbers it. @throws AppError HOST_FAILED */
export async function startHost({ hostname, cgroup, folder, keep }: HostIdentity): Promise<number> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"];
  const args = [...namespaces, "--propagation=private", "--", "sh", INIT, "enter", cgroup, folder, hostname, ...keep];
  const unshare = spawn("unshare", args, { detached: true, stdio: ["ignore", "pipe", "pipe"] });
  await ready(unshare, `The host "${hostname}"`);
  return onlyChild(unshare.pid!);
}

/** A network of its own, and one of process ids, so that nothing of it outlives its first process. */
export async function startRouter(name: string, folder: string): Promise<number> {
  const args = ["--net", "--pid", "--fork", "--kill-child", "--", "sh", INIT, "router", name, folder];
  const router = spawn("unshare", args, { detached: true, stdio: ["ignore", "pipe", "pipe"] });
  await ready(router, `The router "${name}"`);
  return onlyChild(router.pid!);
}

/** Folder → first process of the host or router that has it, of all that run and have their folder below `within`. */
export function findHolders(within: string): Map<string, number> {
  const stages = ["inside", "router"];
  const isHolder = ([shell, , stage = "", , folder = ""]: readonly string[]) =>
    shell === "sh" && stages.includes(stage) && (folder === within || folder.startsWith(`${within}/`));
  return new Map(findProcesses(isHolder).map(({ pid, args }) => [args[4]!, pid]));
}

/** A power cut for the host or router of that folder, and for all below it; also for one that was only half started. */
export async function stopHosts(within: string, { clock, kill }: Surroundings): Promise<void> {
  const isMeant = (arg: string) => arg === within || arg.startsWith(`${within}/`);
  const isPart = (args: readonly string[]) => args.some((arg) => arg.endsWith("/host-init.sh")) && args.some(isMeant);
  const found = findProcesses(isPart).map(({ pid }) => pid);
  await killProcesses(found, clock, kill);
}

/** The program and its arguments that run `args` inside the host of this first process. */
export function enterCommand(initPid: number, args: readonly string[], workingFolder: string): [string, string[]] {
  const namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"];
  return ["nsenter", [`--target=${initPid}`, ...namespaces, `--wd=${workingFolder}`, "--", "sh", JOIN, ...args]];
}

/** What programs inside see of an environment; nothing of ours. */
export function hostEnvironment(path: readonly string[]): Record<string, string> {
  return { PATH: [...path, ...SYSTEM_PATH].join(":"), LANG: "C.UTF-8", TERM: "xterm", HOME: "/root" };
}

function ready(child: ChildProcess, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let errors = "";
    const failed = (end: string) =>
      reject(new AppError("HOST_FAILED", `${what} did not start (${end}): ${errors.trim()}`));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text));
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (!text.includes("ready")) return;
      // It lives on without us.
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
      resolve();
    });
    child.on("error", (error) => failed(error.message));
    child.on("exit", (code, killedBy) => failed(killedBy ?? `exit ${code}`));
  });
}

/** For messages: what a lab cannot be made without. */
export function hostProblem(isRoot: boolean): string | undefined {
  if (!isRoot) return "needs root";
  const program = missingProgram();
  if (program !== undefined) return `needs the program ${program}`;
  return existsSync("/dev/net/tun") ? undefined : "needs /dev/net/tun";
}
