/** How a worker gets into its cluster: its own key, made once, and the first time a join token. */
import { readFile } from "node:fs/promises";
import { AppError, describeError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { ownSecret } from "../base/own-secret.ts";
import { describeProblems, validate } from "../base/validation.ts";
import type { WorkerInfo } from "../protocol/capacity.ts";
import { type RegisterRequest, RegisterResponse } from "../protocol/mqtt.ts";
import { PROTOCOL_VERSION } from "../protocol/uplink.ts";
import type { HttpAnswer, HttpClient } from "../transport/http-client.ts";

export interface Credentials {
  /** The worker's id in its cluster. */
  readonly id: string;
  readonly key: string;
  readonly mqttPort: number;
  readonly clusterName: string;
}

export interface RegistrationParts {
  readonly http: HttpClient;
  readonly keyPath: string;
  /** Where a token comes from, if from anywhere. */
  readonly joinToken: (() => Promise<string | undefined>) | undefined;
  readonly info: (signal: AbortSignal) => Promise<WorkerInfo>;
}

/**
 * One try. A known key needs no token, so a token, which may serve only once, is fetched when the key alone was refused.
 * @throws AppError JOIN_REFUSED for what only an operator can mend; SERVER_UNREACHABLE | SERVER_TIMEOUT | JOIN_FAILED otherwise
 */
export async function register(parts: RegistrationParts, signal: AbortSignal): Promise<Credentials> {
  const { secret: key, isNew } = await ownSecret(parts.keyPath);
  const info = await parts.info(signal);
  const send = (joinToken?: string) => {
    const body: RegisterRequest = { protocol: PROTOCOL_VERSION, key, info, ...(joinToken ? { joinToken } : {}) };
    return parts.http.send("POST", "/api/node/register", { body, signal, timeoutMs: 15_000 });
  };
  let answer = isNew ? undefined : await send();
  if (!answer || isUnknown(answer)) {
    const token = await parts.joinToken?.();
    if (token || !answer) answer = await send(token);
  }
  if (answer.status === 404 || answer.status === 405) throw await misdirected(parts.http, signal);
  return { key, ...read(answer, parts.http.server.host) };
}

const isUnknown = ({ status }: HttpAnswer) => status === 401 || status === 403;
/** Another version, a taken name, an inadmissible description: the next try would be answered the same. */
const REFUSALS: ReadonlySet<number> = new Set([400, 401, 403, 409, 422]);

/** There is a server, but nobody registers there: the mistake that is made most often has words of its own. */
async function misdirected(http: HttpClient, signal: AbortSignal): Promise<AppError> {
  const { body } = await http.send("GET", "/api/version", { signal, timeoutMs: 15_000 });
  const isRoot = typeof (body as { version?: unknown } | null)?.version === "string";
  const what = isRoot ? "is a root, not a cluster" : "is no cluster";
  const remedy = "--cluster wants the join port of a cluster, 10100 unless it was set otherwise";
  return new AppError("JOIN_REFUSED", `${http.server.origin} ${what}: ${remedy}`);
}

function read(answer: HttpAnswer, server: string): Omit<Credentials, "key"> {
  const { status, body } = answer;
  const reason = (body as { message?: unknown } | null)?.message ?? `HTTP ${status}`;
  if (REFUSALS.has(status))
    throw new AppError("JOIN_REFUSED", `The cluster at ${server} refuses this worker: ${reason}`);
  if (status !== 200 && status !== 201)
    throw new AppError("JOIN_FAILED", `Cannot join the cluster at ${server}: ${reason}`);
  const checked = validate(RegisterResponse, body);
  const problem = checked.ok ? undefined : describeProblems(checked.problems);
  const mqttPort = checked.ok ? Number(checked.value.MQTT_BROKER_PORT) : Number.NaN;
  if (!checked.ok || !Number.isInteger(mqttPort)) {
    throw new AppError(
      "JOIN_FAILED",
      `The answer of the cluster at ${server} makes no sense: ${problem ?? "MQTT_BROKER_PORT"}`,
    );
  }
  return { id: checked.value.id, mqttPort, clusterName: checked.value.clusterName };
}

/** The token in a file; without one the cluster's refusal tells what is missing. */
export async function tokenFromFile(path: string, log: Logger): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim() || undefined;
  } catch (error) {
    log.warn({ path, reason: describeError(error) }, "join token file cannot be read");
    return undefined;
  }
}
