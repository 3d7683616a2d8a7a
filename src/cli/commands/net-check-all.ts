/** `oak net check --all`: every route of every worker, measured there and asked of the clusters themselves, as `oak worker ls` is. */
import { AppError, describeError, hasCode } from "../../base/errors.ts";
import { CHECK_ALL_WITHIN_MS, type CheckedRoute, ClusterCheck, type WorkerCheck } from "../../protocol/net-check.ts";
import { askCluster, type ClusterAccess } from "../cluster-api.ts";
import type { Edge } from "../edge.ts";
import { printable, showRows } from "../output.ts";
import type { Format } from "../output-format.ts";
import { shortName } from "./net.ts";

/** Beyond what the cluster takes, for the way there and back. */
const TRAVEL_MS = 15_000;

interface Options {
  readonly clusters: readonly string[];
  /** One for all, or one for each. */
  readonly operatorTokenFile: readonly string[];
  /** Seconds for each worker. */
  readonly within: number;
  readonly output: Format;
}

type Answer = { readonly url: string } & ({ readonly check: ClusterCheck } | { readonly error: AppError });

export async function checkAll(edge: Edge, options: Options): Promise<void> {
  const answers = await Promise.all(accesses(options).map((access) => checkCluster(edge, access, options.within)));
  const checks = answers.flatMap((answer) => ("check" in answer ? [answer.check] : []));
  const [first] = answers;
  const isOne = answers.length === 1;
  if (isOne && first && "error" in first) throw first.error;
  showRows(edge.terminal, {
    ...{ format: options.output, rows: checkRows(checks), none: "no worker has been asked" },
    documents: {
      clusters: answers.map((answer) => ({
        url: answer.url,
        ...("check" in answer ? answer.check : { error: describeError(answer.error) }),
      })),
    },
    columns: [
      ...(isOne ? [] : [{ title: "CLUSTER", value: ({ cluster }: Row) => cluster }]),
      { title: "FROM", value: ({ from }) => from },
      { title: "TO", value: ({ to }) => to },
      { title: "ROUTE", value: ({ route }) => route },
      { title: "RTT", value: ({ rttMs }) => (rttMs === undefined ? undefined : `${rttMs} ms`) },
      { title: "BODY", value: ({ body }) => body },
      { title: "INSTANCES", value: ({ instances }) => instances },
    ],
  });
  for (const answer of answers) if ("error" in answer) edge.terminal.err(`${printable(lineOf(answer))}\n`);
  const problem = whatFailed(checks, { silent: answers.length - checks.length, of: answers.length });
  if (problem !== undefined) throw new AppError("CHECK_FAILED", problem);
}

/** @throws AppError USAGE */
function accesses({ clusters, operatorTokenFile: files }: Options): ClusterAccess[] {
  if (files.length > 1 && files.length !== clusters.length) {
    const counts = `there are ${clusters.length} --cluster and ${files.length} --operator-token-file`;
    throw new AppError("USAGE", `Give one operator token for all clusters, or one for each, in their order: ${counts}`);
  }
  const isOwnToken = files.length > 1;
  return clusters.map((cluster, index) => ({ cluster, operatorTokenFile: files[index] ?? files[0]!, isOwnToken }));
}

/** Other clusters are shown even if one cannot be asked. */
async function checkCluster(edge: Edge, access: ClusterAccess, within: number): Promise<Answer> {
  const url = access.cluster;
  try {
    const check = await askCluster(edge, access, {
      ...{ schema: ClusterCheck, method: "POST", path: "/api/net-check", body: { within_s: within } },
      timeoutMs: CHECK_ALL_WITHIN_MS + TRAVEL_MS,
    });
    return { url, check };
  } catch (error) {
    edge.signal.throwIfAborted();
    if (!(error instanceof AppError) || hasCode(error, "SERVER_URL_INVALID")) throw error;
    if (!hasCode(error, "NOT_FOUND")) return { url, error };
    const remedy = "is that the join port of a cluster (10100 unless it was set otherwise), and of this version?";
    return { url, error: new AppError("NOT_A_CLUSTER", `${url} cannot check routes: ${remedy}`) };
  }
}

function lineOf({ url, error }: { readonly url: string; readonly error: AppError }): string {
  const text = describeError(error);
  return text.includes(url) ? text : `${url}: ${text}`;
}

interface Row {
  readonly cluster: string;
  readonly from: string;
  readonly to?: string;
  readonly route: string;
  readonly rttMs?: number | undefined;
  readonly body?: string | undefined;
  readonly instances?: string;
}

/** A row for each pair of workers, for each instance that is refused, and for each worker that has not checked. Pure. */
export function checkRows(checks: readonly ClusterCheck[]): Row[] {
  const workers = checks.flatMap(({ cluster, workers }) => workers.map((worker) => ({ cluster, worker })));
  const hostnames = new Map(workers.map(({ worker }) => [worker.worker_id, worker.hostname]));
  return workers.flatMap(({ cluster, worker }): Row[] => {
    const from = { cluster, from: worker.hostname };
    if (worker.outcome !== "checked") return [{ ...from, route: withoutRoutes(worker) }];
    const { routes, refused, left_out } = worker;
    const rows: Row[] = [
      ...routes.map((route) => ({ ...from, ...routeRow(route, hostnames.get(route.worker_id)) })).toSorted(byTarget),
      ...refused.map((one) => ({ ...from, to: nameOf(one), route: "refused: takes no traffic" })),
      ...(left_out > 0 ? [{ ...from, route: `${left_out} more are not shown` }] : []),
    ];
    return rows.length > 0 ? rows : [{ ...from, route: "none: no instance on another worker is in use here" }];
  });
}

/** Undefined: nothing. Workers whose network is off have no route that could. Pure. */
export function whatFailed(
  checks: readonly ClusterCheck[],
  clusters: { readonly silent: number; readonly of: number },
): string | undefined {
  const workers = checks.flatMap((check) => check.workers);
  const routes = workers.flatMap((worker) => (worker.outcome === "checked" ? worker.routes : []));
  const failed = routes.filter(({ error }) => error !== undefined).length;
  const unchecked = workers.filter(({ outcome }) => outcome !== "checked" && outcome !== "off").length;
  const parts = [
    ...(failed > 0 ? [`${failed} of ${routes.length} routes carried no body`] : []),
    ...(unchecked > 0 ? [`${unchecked} of ${workers.length} workers have not checked theirs`] : []),
    ...(clusters.silent > 0 ? [`${clusters.silent} of ${clusters.of} clusters could not be asked`] : []),
  ];
  return parts.length === 0 ? undefined : parts.join("; ");
}

function routeRow(
  { hostname, address, path, rtt_ms, body_ms, error, instances, more_instances }: CheckedRoute,
  inOtherCluster: string | undefined,
): Omit<Row, "cluster" | "from"> {
  const names = instances.map(nameOf);
  return {
    to: hostname ?? inOtherCluster ?? `worker at ${address}`,
    route: `${path} to ${address}`,
    ...{ rttMs: rtt_ms, body: error ?? (body_ms === undefined ? undefined : `1 MB in ${body_ms} ms`) },
    instances: more_instances > 0 ? `${names.join(", ")} and ${more_instances} more` : names.join(", "),
  };
}

function byTarget({ to: a = "" }: Row, { to: b = "" }: Row): number {
  return a < b ? -1 : Number(a > b);
}

function withoutRoutes(worker: Exclude<WorkerCheck, { outcome: "checked" }>): string {
  switch (worker.outcome) {
    case "off":
      return "none: its network is off (--net=off)";
    case "failed":
      return `could not check: ${worker.detail}`;
    case "silent":
      return worker.detail;
    case "not asked":
      return `not asked: ${worker.detail}`;
  }
}

function nameOf(instance: { readonly job_name: string; readonly number: number }): string {
  return `${shortName(instance)}/${instance.number}`;
}
