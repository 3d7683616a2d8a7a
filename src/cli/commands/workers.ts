/** `oak worker ls|show|rm|token`: asked of the cluster itself, since the root does not know its workers. */
import * as z from "zod/mini";
import { hasCode } from "../../base/errors.ts";
import { askCluster, type ClusterAccess, WORKERS } from "../cluster-api.ts";
import { Anything } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { resolve } from "../names.ts";
import { megabytes, printable, showDocument, showRows } from "../output.ts";
import { JoinToken, showToken } from "./clusters.ts";

type ClusterOptions = ClusterAccess & Pick<ClientOptions, "output">;

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
    const { connected, root, problem } = await askCluster(edge, options, {
      schema: RootLink,
      method: "GET",
      path: "/api/root-link",
    });
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
  const request = { schema: WorkerDocument, method: "GET", path: `${WORKERS}/${id}` };
  showDocument(edge.terminal, options.output, await askCluster(edge, options, request));
}

export async function remove(edge: Edge, names: readonly string[], options: ClusterOptions): Promise<void> {
  for (const name of names) {
    const { id, hostname } = await findWorker(edge, name, options);
    await askCluster(edge, options, { schema: Anything, method: "DELETE", path: `${WORKERS}/${id}` });
    edge.terminal.err(`worker ${hostname} removed\n`);
  }
}

export async function token(edge: Edge, options: ClusterOptions): Promise<void> {
  const document = await askCluster(edge, options, { schema: JoinToken, method: "POST", path: "/api/join-token" });
  await showToken(edge, options, {
    document,
    where: "the new worker, as root",
    server: { what: "cluster", url: options.cluster, path: "/status" },
    command: (url) => `OAK_JOIN_TOKEN=${document.token} oak worker --cluster ${url}`,
  });
}

async function workers(edge: Edge, options: ClusterOptions) {
  return await askCluster(edge, options, { schema: z.array(WorkerDocument), method: "GET", path: WORKERS });
}

async function findWorker(edge: Edge, name: string, options: ClusterOptions) {
  const all = await workers(edge, options);
  return resolve(
    "worker",
    name,
    all.map((worker) => ({ ...worker, names: [worker.hostname] })),
  );
}

function memory(free: number | undefined, total: number | undefined): string {
  return free === undefined || total === undefined ? "" : `${megabytes(free)} of ${megabytes(total)}`;
}
