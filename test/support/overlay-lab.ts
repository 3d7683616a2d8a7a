/**
 * Workers as namespaces: each has its own network, /run and agent process, and an uplink to one of two segments with a router
 * between them: workers of one segment share a link, the others do not.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exec } from "../../src/base/exec.ts";
import type { Sandbox } from "../../src/net/network.ts";
import { ip } from "../contracts/network-namespaces.ts";
import type { FlowSandboxOperations } from "./flow-sandbox.ts";
import type { SandboxOperations } from "./overlay-sandbox.ts";
import type { WorkerOperations } from "./overlay-worker.ts";

/** Calls what a program in other namespaces offers. */
type Remote<T extends Record<string, (...args: never[]) => unknown>> = {
  readonly [Name in keyof T]: (...args: Parameters<T[Name]>) => Promise<Awaited<ReturnType<T[Name]>>>;
};
type Message = { id?: number; result?: unknown; error?: string; miss?: string; ready?: boolean };

export type Program<T extends Record<string, (...args: never[]) => unknown>> = Remote<T> & {
  readonly process: ChildProcess;
};
export type SandboxClient = Program<SandboxOperations>;
export type FlowClient = Program<FlowSandboxOperations>;
export type { Sandbox };
export type Agent = Program<WorkerOperations>;

const SEGMENTS = { a: "192.0.2", b: "203.0.113" } as const;
const folder = import.meta.dirname;
const children: ChildProcess[] = [];
const folders: string[] = [];

export async function makeSegments(): Promise<void> {
  for (const [name, prefix] of Object.entries(SEGMENTS)) {
    await ip(
      `link add seg${name} type bridge forward_delay 0`,
      `address add ${prefix}.254/24 dev seg${name}`,
      `link set seg${name} up`,
    );
  }
  await exec("sh", ["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
}

export class LabWorker {
  readonly number: number;
  readonly address: string;
  readonly misses: string[] = [];
  readonly #holder: ChildProcess;
  readonly #stateDir: string;
  agent!: Agent;

  constructor(number: number, segment: keyof typeof SEGMENTS, holder: ChildProcess) {
    this.number = number;
    this.address = `${SEGMENTS[segment]}.${number}`;
    this.#holder = holder;
    this.#stateDir = mkdtempSync(join(tmpdir(), "oak-overlay-"));
    folders.push(this.#stateDir);
  }

  /** Of a process in its namespaces. */
  get pid(): string {
    return String(this.#holder.pid);
  }

  /** Runs a program on the worker, its output is the answer. */
  run(...args: string[]): Promise<string> {
    return exec("nsenter", [...this.#enter(), ...args]);
  }

  /** What runs a program in a sandbox of the worker. */
  enterArgs({ namespacePath }: Sandbox): string[] {
    return ["nsenter", ...this.#enter(), "ip", "netns", "exec", namespacePath.slice("/run/netns/".length)];
  }

  /** Starts a program in a sandbox, or on the worker itself. */
  spawn(where: Sandbox | "host", args: readonly string[]): ChildProcess {
    const inside = where === "host" ? [] : ["ip", "netns", "exec", where.namespacePath.slice("/run/netns/".length)];
    const child = spawn("nsenter", [...this.#enter(), ...inside, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    return child;
  }

  inSandbox(address: string, ...args: string[]): Promise<string> {
    return this.run("ip", "netns", "exec", `oak-${address}`, ...args);
  }

  /** A program of the worker that says "open" on a TCP port. */
  async serve(port: number): Promise<ChildProcess> {
    const script = `require("node:net").createServer((socket) => socket.end("open")).listen(${port}, "0.0.0.0", () => console.log("ready"))`;
    const child = spawn("nsenter", [...this.#enter(), process.execPath, "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(child);
    await new Promise((resolve) => child.stdout!.once("data", resolve));
    return child;
  }

  async startAgent(): Promise<void> {
    const onMessage = ({ miss }: Message) => miss !== undefined && this.misses.push(miss);
    const args = [
      ...this.#enter(),
      process.execPath,
      ...process.execArgv,
      join(folder, "overlay-worker.ts"),
      this.#stateDir,
    ];
    this.agent = await connectTo<WorkerOperations>(args, onMessage);
  }

  /** A server and client in a sandbox of the worker. */
  enter(sandbox: Sandbox, name: string): Promise<SandboxClient> {
    return connectTo<SandboxOperations>(this.#program(sandbox, "overlay-sandbox.ts", name));
  }

  /** The same on the worker itself. */
  enterHost(name: string): Promise<SandboxClient> {
    return connectTo<SandboxOperations>(this.#program("host", "overlay-sandbox.ts", name));
  }

  /** A server and client that keep flows. */
  enterFlows(where: Sandbox | "host", name: string): Promise<FlowClient> {
    return connectTo<FlowSandboxOperations>(this.#program(where, "flow-sandbox.ts", name));
  }

  #program(where: Sandbox | "host", file: string, name: string): string[] {
    const inside = where === "host" ? [] : ["ip", "netns", "exec", where.namespacePath.slice("/run/netns/".length)];
    return [...this.#enter(), ...inside, process.execPath, ...process.execArgv, join(folder, file), name];
  }

  #enter(): string[] {
    return ["--target", this.pid, "--mount", "--net", "--"];
  }
}

export async function makeWorker(number: number, segment: keyof typeof SEGMENTS): Promise<LabWorker> {
  const script = "mount -t tmpfs none /run && ip link set lo up && echo ready && exec sleep infinity";
  const holder = spawn("unshare", ["--net", "--mount", "--propagation=private", "--", "sh", "-c", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(holder);
  await new Promise((resolve) => holder.stdout!.once("data", resolve));
  const worker = new LabWorker(number, segment, holder);
  await ip(`link add port${number} type veth peer name up0 netns ${holder.pid}`);
  await ip(`link set port${number} master seg${segment} up`);
  await worker.run("ip", "address", "add", `${worker.address}/24`, "dev", "up0");
  await worker.run("ip", "link", "set", "up0", "up");
  await worker.run("ip", "route", "add", "default", "via", `${SEGMENTS[segment]}.254`);
  // Strict, as many distributions set it.
  await worker.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter");
  await worker.startAgent();
  return worker;
}

export function removeLab(): void {
  for (const child of children) child.kill("SIGKILL");
  for (const path of folders) rmSync(path, { recursive: true });
}

async function connectTo<T extends Record<string, (...args: never[]) => unknown>>(
  args: readonly string[],
  onMessage: (message: Message) => void = () => {},
): Promise<Program<T>> {
  const child = spawn("nsenter", args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  children.push(child);
  const pending = new Map<number, PromiseWithResolvers<unknown>>();
  const ready = Promise.withResolvers<void>();
  child.on("message", (message: Message) => {
    if (message.ready) return ready.resolve();
    const call = message.id === undefined ? undefined : pending.get(message.id);
    if (!call) return onMessage(message);
    pending.delete(message.id!);
    if (message.error === undefined) call.resolve(message.result);
    else call.reject(new Error(message.error));
  });
  child.on("exit", () => {
    for (const { reject } of [ready, ...pending.values()]) reject(new Error("the program ended"));
  });
  await ready.promise;
  let last = 0;
  const call = (method: string, parameters: unknown[]) => {
    const answer = Promise.withResolvers<unknown>();
    pending.set(++last, answer);
    child.send({ id: last, method, args: parameters });
    return answer.promise;
  };
  return new Proxy({ process: child } as Program<T>, {
    get: (target, name) => {
      if (name === "process") return target.process;
      // No promise, although every other name is a method.
      return name === "then" ? undefined : (...parameters: unknown[]) => call(String(name), parameters);
    },
  });
}
