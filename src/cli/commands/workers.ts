/** `oak worker ls|show|rm|token`: asked of the cluster itself, since the root does not know its workers. */
import * as z from "zod/mini";
import { readFileIfAny } from "../../base/atomic-file.ts";
import { AppError, hasCode } from "../../base/errors.ts";
import { describeProblems, validate } from "../../base/validation.ts";
import { HttpClient } from "../../transport/http-client.ts";
import { refusal } from "../api.ts";
import { Anything } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { resolve } from "../names.ts";
import { megabytes, printable, showDocument, showRows } from "../output.ts";
import { JoinToken, showToken } from "./clusters.ts";

const WORKERS = "/api/workers";

export interface ClusterOptions extends Pick<ClientOptions, "output"> {
  readonly cluster: string;
  readonly operatorTokenFile: string;
}

const WorkerDocument = z.looseObject({
  id: z.string(),
  hostname: z.string(),
  status: z.string(),
  architecture: z.optional(z.string()),
  cpu_millis: z.optional(z.number()),
  cpu_millis_free: z.optional(z.number()),
  memory_bytes: z.optional(z.number()),
  memory_bytes_free: z.optional(z.number()),
  public_ip: z.optional(z.nullable(z.string())),
  detail: z.optional(z.string()),
  instances: z.optional(z.array(z.unknown())),
});

const RootLink = z.looseObject({ root: z.string(), connected: z.boolean(), problem: z.optional(z.string()) });

export async function list(edge: Edge, options: ClusterOptions): Promise<void> {
  showRows(edge.terminal, {
    format: options.output,
    rows: await workers(edge, options),
    none: 'No worker has joined; "oak worker token" tells how one does',
    columns: [
      { title: "NAME", value: (worker) => worker.hostname },
      { title: "STATUS", value: (worker) => worker.status },
      { title: "ARCH", value: (worker) => worker.architecture },
      { title: "CPU FREE", value: ({ cpu_millis_free, cpu_millis }) => `${cpu_millis_free}/${cpu_millis} m` },
      { title: "MEMORY FREE", value: (worker) => memory(worker.memory_bytes_free, worker.memory_bytes) },
      { title: "INSTANCES", value: (worker) => worker.instances?.length },
      { title: "ADDRESS", value: (worker) => worker.public_ip },
      { title: "ID", value: (worker) => worker.id },
      { title: "REMARK", value: (worker) => worker.detail },
    ],
  });
  await warnOfRoot(edge, options);
}

async function warnOfRoot(edge: Edge, options: ClusterOptions): Promise<void> {
  try {
    const { connected, root, problem } = await call(edge, options, RootLink, "GET", "/api/root-link");
    if (connected) return;
    const reason = printable(problem ?? "it has just been started");
    edge.terminal.err(`This cluster has no link to its root (${root}): ${reason}\n`);
  } catch (error) {
    // A cluster of an older version does not tell.
    if (!hasCode(error, "NOT_FOUND")) throw error;
  }
}

export async function show(edge: Edge, name: string, options: ClusterOptions): Promise<void> {
  const { id } = await findWorker(edge, name, options);
  showDocument(edge.terminal, options.output, await call(edge, options, WorkerDocument, "GET", `/api/workers/${id}`));
}

export async function remove(edge: Edge, names: readonly string[], options: ClusterOptions): Promise<void> {
  for (const name of names) {
    const { id, hostname } = await findWorker(edge, name, options);
    await call(edge, options, Anything, "DELETE", `/api/workers/${id}`);
    edge.terminal.err(`worker ${hostname} removed\n`);
  }
}

export async function token(edge: Edge, options: ClusterOptions): Promise<void> {
  const document = await call(edge, options, JoinToken, "POST", "/api/join-token");
  await showToken(edge, options, {
    document,
    where: "the new worker, as root",
    server: { what: "cluster", url: options.cluster, path: "/status" },
    command: (url) => `OAK_JOIN_TOKEN=${document.token} oak worker --cluster ${url}`,
  });
}

async function workers(edge: Edge, options: ClusterOptions) {
  return await call(edge, options, z.array(WorkerDocument), "GET", WORKERS);
}

async function findWorker(edge: Edge, name: string, options: ClusterOptions) {
  const all = await workers(edge, options);
  return resolve(
    "worker",
    name,
    all.map((worker) => ({ ...worker, names: [worker.hostname] })),
  );
}

async function call<T extends z.ZodMiniType>(
  edge: Edge,
  options: ClusterOptions,
  schema: T,
  method: string,
  path: string,
): Promise<z.output<T>> {
  const client = new HttpClient(options.cluster);
  const answer = await client.send(method, path, { token: await operatorToken(edge, options), signal: edge.signal });
  // Every cluster has this page: what answers is another server, a root most likely.
  if (answer.status === 404 && path === WORKERS) throw noCluster(client.server.origin);
  if (answer.status >= 400) throw refusal(answer);
  const result = validate(schema, answer.body);
  if (result.ok) return result.value;
  throw new AppError("ANSWER_INVALID", `The cluster's answer is unknown: ${describeProblems(result.problems)}`);
}

function noCluster(url: string): AppError {
  const remedy = "--cluster wants the join port of a cluster, 10100 unless it was set otherwise";
  return new AppError("NOT_A_CLUSTER", `${url} is no cluster: ${remedy}`);
}

async function operatorToken(edge: Edge, { operatorTokenFile }: ClusterOptions): Promise<string> {
  const given = edge.environment.OAK_OPERATOR_TOKEN ?? (await readToken(operatorTokenFile));
  if (given) return given.trim();
  throw new AppError(
    "LOGIN_NEEDED",
    `The cluster's operator token is needed: run this on the cluster's machine, where it is in "${operatorTokenFile}", or set OAK_OPERATOR_TOKEN`,
  );
}

async function readToken(path: string): Promise<string | undefined> {
  try {
    return await readFileIfAny(path);
  } catch (cause) {
    if (!hasCode(cause, "EACCES")) throw cause;
    throw new AppError("LOGIN_NEEDED", `Only root may read the cluster's operator token "${path}"`, { cause });
  }
}

function memory(free: number | undefined, total: number | undefined): string {
  return free === undefined || total === undefined ? "" : `${megabytes(free)} of ${megabytes(total)}`;
}
