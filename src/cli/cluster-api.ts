/** A cluster's own API, on its join port, as an operator's commands see it. */
import type * as z from "zod/mini";
import { readFileIfAny } from "../base/atomic-file.ts";
import { AppError, hasCode } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { HttpClient } from "../transport/http-client.ts";
import { refusal } from "./api.ts";
import type { Edge } from "./edge.ts";

export const WORKERS = "/api/workers";
const REMEDY = "--cluster wants the join port of a cluster, 10100 unless it was set otherwise";

export interface ClusterAccess {
  readonly cluster: string;
  readonly operatorTokenFile: string;
  /** The file goes before OAK_OPERATOR_TOKEN: it is this very cluster's. */
  readonly isOwnToken?: boolean;
}

interface Call<T> {
  readonly schema: T;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly timeoutMs?: number;
}

/** @throws AppError with the cluster's code when it refuses, LOGIN_NEEDED, NOT_A_CLUSTER, SERVER_UNREACHABLE, ANSWER_INVALID */
export async function askCluster<T extends z.ZodMiniType>(
  edge: Edge,
  access: ClusterAccess,
  { schema, method, path, ...request }: Call<T>,
): Promise<z.output<T>> {
  const client = new HttpClient(access.cluster);
  const token = await operatorToken(edge, access);
  const answer = await client.send(method, path, { ...request, token, signal: edge.signal });
  // Every cluster has this page: what answers is another server, a root most likely.
  if (answer.status === 404 && path === WORKERS)
    throw new AppError("NOT_A_CLUSTER", `${client.server.origin} is no cluster: ${REMEDY}`);
  if (answer.status >= 400) throw refusal(answer);
  const result = validate(schema, answer.body);
  if (result.ok) return result.value;
  throw new AppError("ANSWER_INVALID", `The cluster's answer is unknown: ${describeProblems(result.problems)}`);
}

async function operatorToken(edge: Edge, { operatorTokenFile, isOwnToken }: ClusterAccess): Promise<string> {
  const inEnvironment = isOwnToken ? undefined : edge.environment.OAK_OPERATOR_TOKEN;
  const given = inEnvironment ?? (await readToken(operatorTokenFile));
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
