/** One machine with the product on it: a lab host with containerd, `oak up` and the example's image, logged in as Admin. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, type LabHost, type Outcome, type Running, repository, startLabHost } from "./lab-host.ts";

export interface Machine {
  readonly host: LabHost;
  /** Runs a program inside; fails when it fails. */
  sh(script: string): Promise<string>;
  /** `bin/oak <args>`; its standard input is `input`. */
  oak(args: readonly string[], input?: string): Promise<Outcome>;
  /** `oak … -o json`, which must end with 0. */
  json<T>(...args: readonly string[]): Promise<T>;
  startContainerd(): Promise<Running>;
  startUp(): Promise<void>;
  containers(): Promise<ContainerFacts[]>;
}

export interface ContainerFacts {
  readonly id: string;
  readonly pid: number;
  /** Clock ticks since boot. */
  readonly startedAt: string;
}

/** @param prepare a script that runs before anything of the product does */
export async function startMachine(name: string, prepare = "true"): Promise<Machine> {
  const host = await startLabHost({ name });
  const machine = describe(host);
  try {
    await machine.sh(prepare);
    await machine.startContainerd();
    await machine.startUp();
    await machine.sh(`bin/oak login -u Admin --password-stdin </var/lib/oakestra/initial-admin-password`);
    await machine.sh("bin/oak image build -f examples/hello/image.yaml");
    return machine;
  } catch (error) {
    await host.stop();
    throw error;
  }
}

function describe(host: LabHost): Machine {
  const sh = async (script: string) => {
    const { exitCode, stdout, stderr } = await host.run(["sh", "-ec", script], { timeoutMs: 60_000 });
    if (exitCode !== 0) throw new Error(`"${script}" ended with ${exitCode}: ${stderr}${stdout}`);
    return stdout;
  };
  return {
    host,
    sh,
    async oak(args, input) {
      if (input === undefined) return await host.oak(args, { timeoutMs: 60_000 });
      const file = join(host.folder, "input");
      writeFileSync(file, input);
      const command = ["sh", "-c", 'input=$1; shift; exec bin/oak "$@" <"$input"', "sh", file, ...args];
      return await host.run(command, { timeoutMs: 60_000 });
    },
    async json<T>(...args: readonly string[]) {
      const { exitCode, stdout, stderr } = await host.oak([...args, "-o", "json"]);
      if (exitCode !== 0) throw new Error(`oak ${args.join(" ")} ended with ${exitCode}: ${stderr}`);
      return JSON.parse(stdout) as T;
    },
    async startContainerd() {
      const running = host.start("containerd", ["containerd"]);
      await eventually(() => sh("ctr --connect-timeout 2s version"), { what: "an answer of containerd" });
      return running;
    },
    async startUp() {
      await sh("bin/oak up --detach");
    },
    async containers() {
      const tasks = await sh("ctr -n edge.io tasks ls");
      const facts = [...tasks.matchAll(/^(\S+) +(\d+) +RUNNING/gm)].map(async ([, id, pid]) => {
        const stat = await sh(`cat /proc/${pid}/stat`);
        return { id: id!, pid: Number(pid), startedAt: stat.replace(/^.*\) /s, "").split(" ")[19]! };
      });
      return (await Promise.all(facts)).sort((left, right) => left.id.localeCompare(right.id));
    },
  };
}

export interface Residue {
  readonly containers: readonly string[];
  readonly tasks: readonly string[];
  readonly snapshots: number;
  readonly shims: number;
  readonly hostPorts: readonly string[];
}

/** What instances have on a machine while they live. */
export async function residue({ sh }: Machine): Promise<Residue> {
  const lines = async (script: string) =>
    (await sh(script))
      .split("\n")
      .filter((line) => line.trim() !== "")
      .sort();
  return {
    containers: await lines("ctr -n edge.io containers ls -q"),
    tasks: await lines("ctr -n edge.io tasks ls -q"),
    snapshots: (await lines("ctr -n edge.io snapshots ls | grep Active || true")).length,
    shims: (await lines("pgrep -f '[c]ontainerd-shim' || true")).length,
    hostPorts: await lines("nft list map ip oakestra host_ports | grep -o 'tcp \\. [0-9]*' | grep -o '[0-9]*' || true"),
  };
}

/** A descriptor with one service of the example's image; `service` overrides its fields. */
export function descriptor(application: string, service: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    sla_version: "v2.0",
    applications: [
      {
        application_name: application,
        application_namespace: "e2e",
        microservices: [
          {
            microservice_name: application,
            microservice_namespace: "e2e",
            virtualization: "container",
            code: "oakestra.local/hello:latest",
            memory: 16,
            ...service,
          },
        ],
      },
    ],
  });
}

export function readExample(path: string): string {
  return readFileSync(join(repository, "examples", path), "utf8");
}
