/** The root's HTTP API: finds the row, checks who asks and what they send, lets the row answer, turns errors into answers. */
import { dirname, join } from "node:path";
import { AppError, describeError, hasCode, isAbort } from "../../base/errors.ts";
import { validate } from "../../base/validation.ts";
import { Id } from "../../protocol/names.ts";
import { jsonAnswer } from "../../transport/http-answers.ts";
import type { HttpRequest, HttpResponse } from "../../transport/http-message.ts";
import { Router } from "../../transport/http-router.ts";
import { type Caller, requireRole } from "../auth/auth.ts";
import { readBody } from "./body.ts";
import { apiError, noSuchRoute } from "./errors.ts";
import type { ApiDeps, Route } from "./route.ts";
import { ROUTES } from "./routes.ts";

const NOBODY: Caller = { id: "", name: "", roles: [], tokenEpoch: 0 };

/** Tokens come in a header, never in a cookie, so a foreign page gains nothing from being allowed to ask. */
const ANY_ORIGIN = { "access-control-allow-origin": "*", "access-control-expose-headers": "warning, retry-after" };
const PREFLIGHT = {
  ...ANY_ORIGIN,
  "access-control-allow-methods": "GET, POST, PUT, DELETE",
  "access-control-allow-headers": "authorization, content-type",
  "access-control-max-age": "600",
};
const SAFE = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
};

export function createApi(deps: ApiDeps): { fetch: (request: HttpRequest) => Promise<HttpResponse> } {
  const router = new Router(ROUTES);
  return {
    fetch: async (request) => {
      if (request.method === "OPTIONS") return { status: 204, headers: PREFLIGHT };
      const response = await answer(deps, router, request).catch((error: unknown) => failed(deps, request, error));
      return { ...response, headers: { ...SAFE, ...ANY_ORIGIN, ...response.headers } };
    },
  };
}

/** The build's folder: where the bundle is, or where the build puts things when the sources run directly. */
export function distDirectory(): string {
  const here = dirname(import.meta.filename);
  return import.meta.filename.endsWith(".cjs") ? here : join(here, "../../../dist");
}

async function answer(deps: ApiDeps, router: Router<Route>, request: HttpRequest): Promise<HttpResponse> {
  const found = router.find(request.method, request.path);
  if ("allowed" in found) throw noSuchRoute(request.method, request.path, found.allowed);
  const { route, params } = found;
  const caller = await authenticate(deps, route, request);
  checkId(params.id);
  const warnings: string[] = [];
  const value = await route.handle({
    deps,
    request,
    params,
    caller,
    body: route.body ? await readBody(request, route.body) : undefined,
    warn: (text) => warnings.push(text),
  });
  if (route.answer.kind === "raw") return value as HttpResponse;
  return withWarnings(jsonAnswer(encode(value, route.answer.twice, deps.encoding)), warnings);
}

async function authenticate({ auth }: ApiDeps, { access }: Route, { headers }: HttpRequest): Promise<Caller> {
  if (access === "open") return NOBODY;
  const caller = await auth.caller(headers.authorization, access === "refresh" ? "refresh" : "access");
  if (typeof access !== "string") requireRole(caller, access);
  return caller;
}

function checkId(id: string | undefined): void {
  if (id === undefined) return;
  const checked = validate(Id, id);
  if (!checked.ok) throw new AppError("INVALID_ID", checked.problems[0]!.message);
}

/** The 2023 release encoded some bodies twice, and its scripts decode them twice. Pure. */
export function encode(value: unknown, twice: boolean, encoding: ApiDeps["encoding"]): unknown {
  return twice && encoding === "atc23" ? JSON.stringify(value) : value;
}

/** RFC 7234's form, which no client minds and every one can show. */
function withWarnings(response: HttpResponse, warnings: readonly string[]): HttpResponse {
  if (warnings.length === 0) return response;
  const warning = warnings
    .slice(0, 20)
    .map((text) => `299 oakestra ${JSON.stringify(text)}`)
    .join(", ");
  return { ...response, headers: { ...response.headers, warning } };
}

function failed({ log }: ApiDeps, { method, path }: HttpRequest, error: unknown): HttpResponse {
  const response = apiError(error);
  const isClientGone = isAbort(error) || hasCode(error, "ECONNRESET");
  if (response.status >= 500 && !isClientGone) {
    // What says why stands in the error's causes; a body or a header never does.
    log.error({ method, path, error, reason: describeError(error) }, "request failed");
  }
  return response;
}
