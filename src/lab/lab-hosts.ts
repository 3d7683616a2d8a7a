/** The hosts and routers of one lab as processes and folders: started, found, entered, ended. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { exec } from "../base/exec.ts";
import { removeCgroups } from "./cgroups.ts";
import { enterCommand, findHolders, hostEnvironment, startHost, startRouter, stopHosts } from "./host.ts";
import type { Joining } from "./join.ts";
import type { HostPlan, LabPlan } from "./plan.ts";
import { findProcesses, type Kill, killProcesses } from "./processes.ts";
import { hostFiles, LOGS } from "./roles.ts";
import { carrierFile, type Holders, plugIn } from "./wiring.ts";

export interface LabHostsOptions {
  readonly name: string;
  /** Of the lab. */
  readonly folder: string;
  readonly program: Program;
  readonly clock: Clock;
  readonly kill: Kill;
}

/** How the product is run, here and inside. */
export interface Program {
  /** Program and first arguments. */
  readonly oak: readonly [string, ...string[]];
  /** Folders that hosts must see under the same path: of the product and of Node. */
  readonly folders: readonly string[];
  readonly node: string;
}

const OAK_TIMEOUT_MS = 60_000;

export class LabHosts {
  readonly #options: LabHostsOptions;

  constructor(options: LabHostsOptions) {
    this.#options = options;
  }

  folderOf({ host }: HostPlan): string {
    return join(this.#options.folder, "hosts", host.name);
  }

  /** Of those hosts and routers that run. */
  holders(plan: LabPlan): Map<string, number> {
    const byFolder = findHolders(this.#options.folder);
    const folders: [string, string][] = [
      ...plan.routers.map(({ name }): [string, string] => [name, this.#routerFolder(name)]),
      ...plan.hosts.map((host): [string, string] => [host.host.name, this.folderOf(host)]),
    ];
    return new Map(
      folders.flatMap(([name, folder]): [string, number][] => {
        const pid = byFolder.get(folder);
        return pid === undefined ? [] : [[name, pid]];
      }),
    );
  }

  async startRouters({ routers }: LabPlan): Promise<Holders> {
    const started = routers.map(async ({ name }) => [name, await startRouter(name, this.#routerFolder(name))] as const);
    return new Map(await Promise.all(started));
  }

  async start(plan: LabPlan, host: HostPlan, holders: Holders): Promise<void> {
    const folder = this.folderOf(host);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const [path, content] of Object.entries(hostFiles(plan, host, folder))) {
      writeFileSync(join(folder, path), content, { mode: 0o600 });
    }
    this.#provideProgram(folder);
    const { name } = host.host;
    const pid = await startHost({
      hostname: name,
      cgroup: this.#cgroup(name),
      folder,
      keep: this.#options.program.folders,
    });
    await plugIn(host, new Map([...holders, [name, pid]]));
  }

  async stop(host: HostPlan): Promise<void> {
    await stopHosts(this.folderOf(host), this.#options);
    await removeCgroups(this.#cgroup(host.host.name), this.#options.clock);
  }

  /** Everything, whether the lab's record can be read or not. */
  async powerOff(): Promise<void> {
    const { folder, clock, kill, name } = this.#options;
    await killProcesses(this.#carrier(), clock, kill);
    await stopHosts(folder, this.#options);
    await removeCgroups(`oaklab.${name}.*`, clock);
  }

  isCarrierRunning(): boolean {
    return this.#carrier().length > 0;
  }

  command(host: HostPlan, args: readonly string[], workingFolder: string): [string, string[]] {
    const environment = hostEnvironment([join(this.folderOf(host), "bin"), dirname(this.#options.program.node)]);
    const set = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
    return enterCommand(this.#pidOf(host), ["env", "-i", ...set, ...args], workingFolder);
  }

  logs(host: HostPlan): string[] {
    const folder = join(this.folderOf(host), LOGS);
    return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  }

  /** What it takes to bring the hosts' roles together. */
  operator(signal: AbortSignal): Pick<Joining, "folderOf" | "pidOf" | "oak" | "boot" | "isBooted"> {
    return {
      folderOf: (host) => this.folderOf(host),
      pidOf: (host) => this.#pidOf(host),
      oak: (host, args, stdin = "") => {
        const [file, all] = this.command(host, ["oak", ...args], "/");
        return exec(file, all, { stdin, signal, timeoutMs: OAK_TIMEOUT_MS });
      },
      boot: (host) => {
        const [file, all] = this.command(host, ["sh", this.#bootScript(host)], "/");
        spawn(file, all, { detached: true, stdio: "ignore" }).unref();
      },
      isBooted: (host) => findProcesses((args) => args.includes(this.#bootScript(host))).length > 0,
    };
  }

  #pidOf(host: HostPlan): number {
    const folder = this.folderOf(host);
    const pid = findHolders(folder).get(folder);
    if (pid !== undefined) return pid;
    const { name } = host.host;
    throw new AppError("HOST_OFF", `The host "${name}" is off: "oak lab start ${name}" starts it`);
  }

  #carrier(): number[] {
    const path = carrierFile(this.#options.folder);
    return findProcesses((args) => args.includes("carry") && args.includes(path)).map(({ pid }) => pid);
  }

  /** On the host's PATH. */
  #provideProgram(folder: string): void {
    const path = join(folder, "bin", "oak");
    mkdirSync(dirname(path), { recursive: true });
    const words = this.#options.program.oak.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    writeFileSync(path, `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
  }

  #bootScript(host: HostPlan): string {
    return join(this.folderOf(host), "boot.sh");
  }

  #routerFolder(site: string): string {
    return join(this.#options.folder, "routers", site);
  }

  /** A lab's name has no dot, so that no other lab's cgroups are meant. */
  #cgroup(host: string): string {
    return `oaklab.${this.#options.name}.${host}`;
  }
}
