/** HTTP on the join port: workers register, operators look at them. Everything but /status wants a secret. */
import type { Clock } from "../base/clock.ts";
import { AppError } from "../base/errors.ts";
import { secretDigest } from "../base/random.ts";
import { describeProblems, validate } from "../base/validation.ts";
import { type ClusterCheck, ClusterCheckRequest } from "../protocol/net-check.ts";
import { jsonAnswer } from "../transport/http-answers.ts";
import type { Fetch, HttpRequest, HttpResponse } from "../transport/http-message.ts";
import { Router } from "../transport/http-router.ts";
import type { Admission } from "./admission.ts";
import { matchesDigest } from "./keys.ts";

export interface JoinApiOptions {
  readonly admission: Admission;
  readonly clusterName: string;
  readonly mqttPort: number;
  readonly operatorToken: string;
  readonly workers: () => { readonly id: string }[];
  readonly rootLink: () => RootLink;
  /** @throws AppError NOT_FOUND */
  readonly removeWorker: (id: string) => void;
  /** @throws AppError IN_USE */
  readonly checkRoutes: (withinMs: number, signal: AbortSignal) => Promise<ClusterCheck>;
  readonly clock: Clock;
}

export interface RootLink {
  readonly root: string;
  readonly connected: boolean;
  /** Why it is not; absent before the first try. */
  readonly problem?: string | undefined;
}

interface Route {
  readonly method: string;
  readonly path: string;
  readonly isOpen: boolean;
  readonly answer: (request: HttpRequest, params: Readonly<Record<string, string>>) => Promise<unknown>;
}

/** Refused requests an address may make in a window, before it has to wait for the next. */
const MAX_REFUSALS = 20;
const WINDOW_MS = 10_000;

/** A full WorkerInfo is a few hundred bytes. */
export const MAX_JOIN_BODY_BYTES = 64 * 1024;

export function joinApi(options: JoinApiOptions): Fetch {
  const router = new Router(routes(options));
  const operatorDigest = secretDigest(options.operatorToken);
  const limit = new RefusalLimit(options.clock);
  return async (request): Promise<HttpResponse> => {
    limit.check(request.remoteAddress);
    const match = router.find(request.method, request.path);
    if ("allowed" in match) throw noRoute(request, match.allowed);
    try {
      if (!match.route.isOpen) checkOperator(request, operatorDigest);
      return jsonAnswer(await match.route.answer(request, match.params));
    } catch (error) {
      limit.refused(request.remoteAddress);
      throw error;
    }
  };
}

function routes(options: JoinApiOptions): Route[] {
  const { admission, clusterName, mqttPort, workers, rootLink, removeWorker, checkRoutes } = options;
  return [
    { method: "GET", path: "/status", isOpen: true, answer: async () => ({ status: "ok", role: "cluster" }) },
    {
      method: "POST",
      path: "/api/node/register",
      isOpen: true,
      answer: async (request) => {
        const worker = admission.register(parse(await request.text()));
        return { id: worker.id, MQTT_BROKER_PORT: String(mqttPort), clusterName };
      },
    },
    { method: "GET", path: "/api/root-link", isOpen: false, answer: async () => rootLink() },
    { method: "GET", path: "/api/workers", isOpen: false, answer: async () => workers() },
    {
      method: "GET",
      path: "/api/workers/:id",
      isOpen: false,
      answer: async (_request, { id }) => {
        const worker = workers().find((one) => one.id === id);
        if (!worker) throw new AppError("NOT_FOUND", `There is no worker "${id}"`);
        return worker;
      },
    },
    {
      method: "DELETE",
      path: "/api/workers/:id",
      isOpen: false,
      answer: async (_request, { id }) => {
        removeWorker(id!);
        return { id };
      },
    },
    {
      method: "POST",
      path: "/api/net-check",
      isOpen: false,
      answer: async (request) => {
        const { within_s } = checkRequest((await request.text()) || "{}");
        return await checkRoutes(within_s * 1000, request.signal);
      },
    },
    {
      method: "POST",
      path: "/api/join-token",
      isOpen: false,
      answer: async () => {
        const { token, expiresAt } = admission.issueToken();
        return { token, expires_at: expiresAt };
      },
    },
  ];
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError("INVALID_JSON", "The body is not JSON", { cause });
  }
}

/** @throws AppError INVALID_JSON | INVALID_BODY */
function checkRequest(text: string): ClusterCheckRequest {
  const checked = validate(ClusterCheckRequest, parse(text));
  if (checked.ok) return checked.value;
  const { problems } = checked;
  throw new AppError("INVALID_BODY", describeProblems(problems), { details: { problems } });
}

function checkOperator({ headers }: HttpRequest, digest: string): void {
  const token = /^Bearer (\S+)$/i.exec(headers.authorization ?? "")?.[1];
  if (token === undefined)
    throw new AppError("TOKEN_MISSING", "Send the operator token of this cluster (operator-token in its state folder)");
  if (!matchesDigest(token, digest)) throw new AppError("TOKEN_INVALID", "This is not the operator token");
}

function noRoute({ method, path }: HttpRequest, allowed: readonly string[]): AppError {
  return allowed.length > 0
    ? new AppError("METHOD_NOT_ALLOWED", `${path} answers to ${allowed.join(", ")}, not to ${method}`)
    : new AppError("NOT_FOUND", `There is no ${path} here`);
}

/** Slows down whoever tries out keys and tokens. All counts end with the window, so memory is bounded by its traffic. */
class RefusalLimit {
  readonly #clock: Clock;
  readonly #refusals = new Map<string, number>();
  #windowEnds = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  check(address: string): void {
    const now = this.#clock.monotonic();
    if (now >= this.#windowEnds) {
      this.#refusals.clear();
      this.#windowEnds = now + WINDOW_MS;
    }
    if ((this.#refusals.get(address) ?? 0) >= MAX_REFUSALS)
      throw new AppError("TOO_MANY_LOGINS", "Too many refused requests from this address; wait a few seconds");
  }

  refused(address: string): void {
    this.#refusals.set(address, (this.#refusals.get(address) ?? 0) + 1);
  }
}
