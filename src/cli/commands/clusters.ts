/** `oak cluster …`: what the root knows of its clusters, and tokens for new ones. */
import * as z from "zod/mini";
import { Anything } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { findCluster, listClusters, openApi } from "../lookup.ts";
import { showDocument, showRows } from "../output.ts";
import { reachableUrl } from "../reachable-url.ts";

export const JoinToken = z.looseObject({ token: z.string(), expires_at: z.union([z.string(), z.number()]) });

export async function list(edge: Edge, options: ClientOptions): Promise<void> {
  const clusters = await listClusters(await openApi(edge, options));
  showRows(edge.terminal, {
    format: options.output,
    rows: clusters,
    none: 'No cluster has joined; "oak cluster token" tells how one does',
    columns: [
      { title: "NAME", value: (cluster) => cluster.cluster_name },
      { title: "STATUS", value: (cluster) => (cluster.active ? "active" : "inactive") },
      { title: "LOCATION", value: (cluster) => cluster.cluster_location },
      { title: "WORKERS", value: (cluster) => cluster.active_nodes },
      { title: "CORES", value: (cluster) => cluster.total_cpu_cores },
      { title: "MEMORY MB", value: (cluster) => cluster.memory_in_mb },
      { title: "ID", value: (cluster) => cluster._id },
      { title: "REMARK", value: (cluster) => cluster.detail },
    ],
  });
}

export async function show(edge: Edge, name: string, options: ClientOptions): Promise<void> {
  showDocument(edge.terminal, options.output, await findCluster(await openApi(edge, options), name));
}

export async function remove(edge: Edge, names: readonly string[], options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  for (const name of names) {
    const { _id, cluster_name } = await findCluster(api, name);
    await api.call(Anything, "DELETE", `/api/cluster/${_id}`);
    edge.terminal.err(`cluster ${cluster_name} removed\n`);
  }
}

export async function token(edge: Edge, options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  const document = await api.call(JoinToken, "POST", "/api/cluster/token");
  await showToken(edge, options, {
    document,
    where: "the machine of the new cluster",
    server: { what: "root", url: api.server, path: "/api/health" },
    command: (url) => `OAK_JOIN_TOKEN=${document.token} oak cluster --root ${url} --name NAME --location PLACE`,
  });
}

interface Invitation {
  readonly document: z.infer<typeof JoinToken>;
  readonly where: string;
  /** Who is joined, and a path of it that answers anybody. */
  readonly server: { readonly what: "root" | "cluster"; readonly url: string; readonly path: string };
  readonly command: (url: string) => string;
}

/** The join command, ready to paste; or the document for programs. */
export async function showToken(
  edge: Edge,
  options: ClientOptions,
  { document, where, server, command }: Invitation,
): Promise<void> {
  if (options.output !== "table") {
    showDocument(edge.terminal, options.output, document);
    return;
  }
  edge.terminal.err(`Good for one use, until ${untilText(document.expires_at)}. Run on ${where}:\n`);
  const { url, answers } = await reachableUrl(server.url, server.path, edge.signal);
  edge.terminal.out(`${command(url)}\n`);
  if (answers) return;
  edge.terminal.err(
    `Other machines do not reach this ${server.what}: it listens on loopback only. Start it with --host 0.0.0.0; on this machine itself, use ${server.url}.\n`,
  );
}

function untilText(expires: string | number): string {
  return typeof expires === "string" ? expires : new Date(expires).toISOString();
}
