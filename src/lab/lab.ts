/**
 * A lab: a whole edge of many machines on this one. Everything of it is in one folder and in processes that name this folder in
 * their arguments, so that each command finds what there is, whoever made it, and can repair or remove it.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { formatSubnet, type Subnet } from "../addressing/subnet.ts";
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { exec } from "../base/exec.ts";
import { lockFolder } from "../base/folder-lock.ts";
import { type Cut, checkCut, isSameCut } from "./cuts.ts";
import { hostProblem } from "./host.ts";
import { joinAll, LOGIN_FILE, rootUrl } from "./join.ts";
import { LabHosts, type Program } from "./lab-hosts.ts";
import {
  freeNetwork,
  type HostPlan,
  type LabPlan,
  machineDevice,
  parseNetwork,
  planLab,
  takenSubnets,
} from "./plan.ts";
import type { Kill } from "./processes.ts";
import { type LabRecord, readRecord, writeRecord } from "./store.ts";
import { documentFromFlags, parseTopology, type TopologyFlags } from "./topology.ts";
import { applyCuts, connectMachine, disconnectMachine, hasNetem, startCarrier, wireRouters } from "./wiring.ts";

export interface LabOptions {
  /** Letters and digits. */
  readonly name: string;
  /** Of all labs; each has its folder in it. */
  readonly stateDir: string;
  readonly program: Program;
  /** Of this process, for the lock. */
  readonly pid: number;
  readonly isRoot: boolean;
  readonly clock: Clock;
  readonly kill: Kill;
}

export interface UpOptions extends TopologyFlags {
  /** As `parseTopology` takes it; goes before the numbers. */
  readonly topology?: unknown;
  /** Default: the first free part of 10.213.0.0/17. */
  readonly network?: string | undefined;
}

export interface HostStatus {
  readonly name: string;
  readonly role: string;
  readonly site: string;
  readonly address: string;
  readonly status: "running" | "off";
}

export interface LabStatus {
  readonly hosts: readonly HostStatus[];
  readonly cuts: readonly Cut[];
  /** URL of the root, as this machine reaches it. */
  readonly server: string;
  /** Login file that fits it. */
  readonly credentials: string;
}

interface Current {
  readonly record: LabRecord;
  readonly plan: LabPlan;
}

const NAME = /^[a-z][a-z0-9]{0,11}$/;
/** The other half of 10.213.0.0/16 is for hosts that are in no lab. */
const RANGE: Subnet = parseNetwork("10.213.0.0/17");
const PREFIX = 20;

export class Lab {
  readonly #options: LabOptions;
  readonly #folder: string;
  readonly #hosts: LabHosts;

  /** @throws AppError CONFIG_INVALID for the name */
  constructor(options: LabOptions) {
    const { name, stateDir } = options;
    if (!NAME.test(name)) {
      throw new AppError(
        "CONFIG_INVALID",
        `A lab cannot be called "${name}": write at most 12 lower-case letters and digits`,
      );
    }
    this.#options = options;
    this.#folder = join(stateDir, name);
    this.#hosts = new LabHosts({ ...options, folder: this.#folder });
  }

  /** Makes the lab, or what is missing of it, and returns when every part has joined. */
  async up({ network, topology: given, ...flags }: UpOptions, signal: AbortSignal): Promise<LabStatus> {
    const problem = hostProblem(this.#options.isRoot);
    if (problem !== undefined) throw new AppError("LAB_IMPOSSIBLE", `No lab can be made here: it ${problem}`);
    const topology = given ?? documentFromFlags(flags);
    const wanted = parseTopology(topology);
    return await this.#locked(async () => {
      const known = await readRecord(this.#folder);
      if (known && JSON.stringify(known.topology) !== JSON.stringify(topology)) {
        throw new AppError(
          "LAB_DIFFERS",
          `The lab "${this.#options.name}" exists, with another topology: remove it first (oak lab down)`,
        );
      }
      const record = known ?? (await newRecord(topology, network));
      const current = {
        record,
        plan: planLab(wanted, { network: parseNetwork(record.network), hasNetem: record.hasNetem }),
      };
      await writeRecord(this.#folder, record);
      await this.#powerOn(current);
      await joinAll({ plan: current.plan, clock: this.#options.clock, ...this.#hosts.operator(signal) }, signal);
      return this.#statusOf(current);
    });
  }

  /** Ends and removes everything of the lab, also of one that is damaged; state included. True when there was something. */
  async down(): Promise<boolean> {
    if (!existsSync(this.#folder)) return false;
    await this.#locked(async () => {
      const record = await readRecord(this.#folder).catch(() => undefined);
      await this.#hosts.powerOff();
      if (record) await disconnectMachine(machineDevice(parseNetwork(record.network)));
    });
    rmSync(this.#folder, { recursive: true, force: true });
    return true;
  }

  async status(): Promise<LabStatus> {
    return this.#statusOf(await this.#current());
  }

  /** From now on the two lose every packet between them; with one name, that one loses all. */
  async cut(cut: Cut): Promise<void> {
    await this.#change(async (cuts, plan) => {
      checkCut(plan, cut);
      return [...cuts.filter((other) => !isSameCut(cut, other)), cut];
    });
  }

  /** Undoes that cut, or all. */
  async heal(cut?: Cut): Promise<void> {
    await this.#change(async (cuts) => {
      if (cut === undefined) return [];
      const rest = cuts.filter((other) => !isSameCut(cut, other));
      if (rest.length < cuts.length) return rest;
      const named = cut.b === undefined ? `"${cut.a}" is not cut off` : `"${cut.a}" and "${cut.b}" are not cut apart`;
      throw new AppError("NOT_FOUND", `${named}: "oak lab ls" shows what is`);
    });
  }

  /** A power cut: its processes end at once, its disk stays. */
  async kill(name: string): Promise<void> {
    await this.#locked(async () => this.#hosts.stop(findHost(await this.#current(), name)));
  }

  async start(name: string, signal: AbortSignal): Promise<void> {
    await this.#locked(async () => {
      const current = await this.#current();
      const host = findHost(current, name);
      await this.#powerOn(current, [host]);
      this.#hosts.operator(signal).boot(host);
    });
  }

  /** What to run, here, to run `args` on the host. @throws AppError HOST_OFF */
  async command(name: string, args: readonly string[], workingFolder = "/"): Promise<[string, string[]]> {
    return this.#hosts.command(findHost(await this.#current(), name), args, workingFolder);
  }

  /** Files with the output of what runs on the host. */
  async logs(name: string): Promise<readonly string[]> {
    return this.#hosts.logs(findHost(await this.#current(), name));
  }

  /** The last lines of each host's output, for a report of what went wrong. */
  async tail(lines: number): Promise<string> {
    const { plan } = await this.#current();
    const parts = plan.hosts.flatMap((host) =>
      this.#hosts.logs(host).map((path) => {
        const text = readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
        return `==> ${host.host.name} ${basename(path)}\n${text}\n`;
      }),
    );
    return parts.join("\n");
  }

  async #current(): Promise<Current> {
    const record = await readRecord(this.#folder);
    if (!record) {
      throw new AppError("NOT_FOUND", `There is no lab "${this.#options.name}": "oak lab up" makes one`);
    }
    const { network, hasNetem: isShaped } = record;
    const plan = planLab(parseTopology(record.topology), { network: parseNetwork(network), hasNetem: isShaped });
    return { record, plan };
  }

  #statusOf({ record, plan }: Current): LabStatus {
    const holders = this.#hosts.holders(plan);
    const root = plan.hosts.find(({ host }) => host.role === "root")!;
    return {
      hosts: plan.hosts.map(({ host, site, address }) => ({
        ...{ name: host.name, role: host.role, site, address },
        status: holders.has(host.name) ? "running" : "off",
      })),
      cuts: record.cuts,
      server: rootUrl(plan),
      credentials: join(this.#hosts.folderOf(root), LOGIN_FILE),
    };
  }

  /** Networks first; when a part of them is missing, as after a reboot, all of it is made anew. */
  async #powerOn({ plan, record }: Current, hosts: readonly HostPlan[] = plan.hosts): Promise<void> {
    const present = this.#hosts.holders(plan);
    const isWired = plan.routers.every(({ name }) => present.has(name));
    if (!isWired || (plan.carried.length > 0 && !this.#hosts.isCarrierRunning())) {
      await this.#hosts.powerOff();
      await disconnectMachine(plan.machine.device);
      const holders = await this.#hosts.startRouters(plan);
      await connectMachine(plan, holders);
      const { oak } = this.#options.program;
      if (plan.carried.length > 0) await startCarrier(plan, { holders, folder: this.#folder, oak });
      await wireRouters(plan, holders);
      await applyCuts(plan, holders, record.cuts);
    }
    const holders = this.#hosts.holders(plan);
    await Promise.all(
      hosts.filter(({ host }) => !holders.has(host.name)).map((host) => this.#hosts.start(plan, host, holders)),
    );
  }

  async #change(change: (cuts: readonly Cut[], plan: LabPlan) => Promise<Cut[]>): Promise<void> {
    await this.#locked(async () => {
      const { record, plan } = await this.#current();
      const cuts = await change(record.cuts, plan);
      await writeRecord(this.#folder, { ...record, cuts });
      await applyCuts(plan, this.#hosts.holders(plan), cuts);
    });
  }

  async #locked<T>(work: () => Promise<T>): Promise<T> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const lock = lockFolder(this.#folder, this.#options.pid);
    try {
      return await work();
    } finally {
      lock.release();
    }
  }
}

function findHost({ plan }: Current, name: string): HostPlan {
  const found = plan.hosts.find(({ host }) => host.name === name);
  if (found) return found;
  const names = plan.hosts.map(({ host }) => host.name).join(", ");
  throw new AppError("NOT_FOUND", `The lab has no host "${name}"; there are ${names}`);
}

/** @throws AppError NETWORK_TAKEN when this machine uses addresses of the network already */
async function newRecord(topology: unknown, network: string | undefined): Promise<LabRecord> {
  const [addresses, routes] = await Promise.all([exec("ip", ["-o", "-4", "address"]), exec("ip", ["-4", "route"])]);
  const taken = takenSubnets(addresses, routes);
  const range = network === undefined ? RANGE : parseNetwork(network);
  const free = freeNetwork(range, network === undefined ? PREFIX : range.prefix, taken);
  return { topology, network: formatSubnet(free), hasNetem: await hasNetem(), cuts: [] };
}
