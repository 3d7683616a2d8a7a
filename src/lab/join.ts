/** Lets clusters into the root and workers into their clusters, as an operator would: with the commands of the product. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod/mini";
import type { Clock } from "../base/clock.ts";
import { AppError, describeError } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { type HostPlan, type LabPlan, PORTS } from "./plan.ts";
import { JOIN_TOKEN } from "./roles.ts";

export interface Joining {
  readonly plan: LabPlan;
  readonly clock: Clock;
  readonly folderOf: (host: HostPlan) => string;
  readonly pidOf: (host: HostPlan) => number;
  /** Runs a command line of the product on that host; resolves with its output. @throws AppError EXEC_FAILED */
  readonly oak: (host: HostPlan, args: readonly string[], stdin?: string) => Promise<string>;
  /** Starts what the host runs. */
  readonly boot: (host: HostPlan) => void;
  readonly isBooted: (host: HostPlan) => boolean;
}

const POLL_MS = 100;
const JOIN_POLL_MS = 400;
const LIMIT_MS = 60_000;
/** Below the root host's folder. */
const ADMIN_PASSWORD = "var-lib/oakestra/root/initial-admin-password";
export const LOGIN_FILE = "root/.config/oak/login.json";

const Token = z.looseObject({ token: z.string() });
const Clusters = z.array(z.looseObject({ cluster_name: z.string(), active: z.boolean() }));
const Workers = z.array(z.looseObject({ hostname: z.string(), status: z.string() }));

/** Boots every host, top down, and returns when all are members. What is one already needs no token. */
export async function joinAll(joining: Joining, signal: AbortSignal): Promise<void> {
  const { plan, clock } = joining;
  const boot = (host: HostPlan) => {
    if (!joining.isBooted(host)) joining.boot(host);
  };
  const [root] = byRole(plan, "root");
  boot(root!);
  for (const host of byRole(plan, "none")) boot(host);
  await listening(joining, root!, PORTS.root, signal);
  await login(joining, root!, signal);
  const members = await clustersOf(joining, root!);
  const joinCluster = async (cluster: HostPlan) => {
    const isMember = members.some(({ cluster_name }) => cluster_name === nameOf(cluster));
    if (!isMember) await handToken(joining, cluster, await joining.oak(root!, ["cluster", "token", "-o", "json"]));
    boot(cluster);
    await listening(joining, cluster, PORTS.join, signal);
    await joinWorkers(joining, cluster, boot, signal);
  };
  await Promise.all(byRole(plan, "cluster").map(joinCluster));
  const names = byRole(plan, "cluster").map(nameOf);
  await until("every cluster to join the root", { clock, everyMs: JOIN_POLL_MS }, signal, async () => {
    const active = (await clustersOf(joining, root!)).filter((cluster) => cluster.active);
    return names.every((name) => active.some(({ cluster_name }) => cluster_name === name));
  });
}

async function joinWorkers(
  joining: Joining,
  cluster: HostPlan,
  boot: (host: HostPlan) => void,
  signal: AbortSignal,
): Promise<void> {
  const workers = byRole(joining.plan, "worker").filter(({ host }) => host.cluster === cluster.host.name);
  const list = async () => read(Workers, await joining.oak(cluster, ["worker", "ls", "-o", "json"]));
  const members = await list();
  for (const worker of workers) {
    const isMember = members.some(({ hostname }) => hostname === worker.host.name);
    if (!isMember) await handToken(joining, worker, await joining.oak(cluster, ["worker", "token", "-o", "json"]));
    boot(worker);
  }
  const options = { clock: joining.clock, everyMs: JOIN_POLL_MS };
  await until(`every worker to join "${cluster.host.name}"`, options, signal, async () => {
    const active = (await list()).filter(({ status }) => status === "active");
    return workers.every(({ host }) => active.some(({ hostname }) => hostname === host.name));
  });
}

/** Under the address that the machine outside reaches, too: the login serves both. */
async function login({ plan, clock, folderOf, oak }: Joining, root: HostPlan, signal: AbortSignal): Promise<void> {
  if (existsSync(join(folderOf(root), LOGIN_FILE))) return;
  const path = join(folderOf(root), ADMIN_PASSWORD);
  await until("the root's password", { clock, everyMs: POLL_MS }, signal, () => existsSync(path));
  const command = ["login", rootUrl(plan), "-u", "Admin", "--password-stdin"];
  await oak(root, command, readFileSync(path, "utf8"));
}

export function rootUrl(plan: LabPlan): string {
  return `http://${byRole(plan, "root")[0]!.address}:${PORTS.root}`;
}

async function clustersOf(joining: Joining, root: HostPlan): Promise<z.infer<typeof Clusters>> {
  return read(Clusters, await joining.oak(root, ["cluster", "ls", "-o", "json"]));
}

async function handToken({ folderOf }: Joining, host: HostPlan, answer: string): Promise<void> {
  writeFileSync(join(folderOf(host), JOIN_TOKEN), `${read(Token, answer).token}\n`, { mode: 0o600 });
}

/** Seen from outside, through the host's own table of sockets: no packet, no process. */
async function listening(joining: Joining, host: HostPlan, port: number, signal: AbortSignal): Promise<void> {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  const isListening = () =>
    readFileSync(`/proc/${joining.pidOf(host)}/net/tcp`, "utf8")
      .split("\n")
      .some((line) => line.includes(local) && / 0A /.test(line));
  await until(`"${host.host.name}" to listen`, { clock: joining.clock, everyMs: POLL_MS }, signal, isListening);
}

async function until(
  what: string,
  { clock, everyMs }: { readonly clock: Clock; readonly everyMs: number },
  signal: AbortSignal,
  check: () => Promise<boolean> | boolean,
): Promise<void> {
  const end = clock.monotonic() + LIMIT_MS;
  let problem = "";
  for (;;) {
    try {
      if (await check()) return;
    } catch (error) {
      signal.throwIfAborted();
      problem = describeError(error);
    }
    if (clock.monotonic() > end) {
      const message = `Waited ${LIMIT_MS / 1000} s for ${what}, in vain${problem ? `: ${problem}` : ""}; "oak lab logs HOST" tells more`;
      throw new AppError("LAB_TIMEOUT", message);
    }
    await clock.sleep(everyMs, { signal });
  }
}

function byRole({ hosts }: LabPlan, role: string): HostPlan[] {
  return hosts.filter(({ host }) => host.role === role);
}

const nameOf = ({ host }: HostPlan) => String(host.settings.name ?? host.name);

function read<T extends z.ZodMiniType>(schema: T, text: string): z.output<T> {
  const result = validate(schema, JSON.parse(text));
  if (result.ok) return result.value;
  throw new AppError("LAB_FAILED", `An answer of the product is not as expected: ${describeProblems(result.problems)}`);
}
