/** Errors as the API's clients read them: `error`, `message`, `details`, and beside these the words of the original. */
import { STATUS_CODES } from "node:http";
import { AppError } from "../../base/errors.ts";
import { ERROR_CODES } from "../../protocol/error-codes.ts";
import { errorBody, jsonAnswer } from "../../transport/http-answers.ts";
import type { HttpResponse } from "../../transport/http-message.ts";

export function apiError(error: unknown): HttpResponse {
  const body = errorBody(error);
  const { status } = ERROR_CODES[body.error];
  const { msg, allow, route, ...details } = body.details;
  const answer = jsonAnswer(
    {
      ...body,
      details,
      ...(typeof msg === "string" ? { msg } : {}),
      // What the original's web framework answers by itself has this shape.
      ...(route === undefined && allow === undefined ? {} : { code: status, status: STATUS_CODES[status] }),
    },
    status,
  );
  const headers = {
    ...(Array.isArray(allow) ? { allow: allow.join(", ") } : {}),
    ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
    ...(typeof details.retryAfterSeconds === "number" ? { "retry-after": String(details.retryAfterSeconds) } : {}),
  };
  return { ...answer, headers: { ...answer.headers, ...headers } };
}

export function noSuchRoute(method: string, path: string, allow: readonly string[]): AppError {
  return allow.length > 0
    ? new AppError("METHOD_NOT_ALLOWED", `${path} answers to ${allow.join(", ")}, not to ${method}`, {
        details: { allow },
      })
    : new AppError("NOT_FOUND", `There is no ${path} here; see /api/docs`, { details: { route: path } });
}

export function notFound(what: string, id: string): AppError {
  return new AppError("NOT_FOUND", `There is no ${what} ${JSON.stringify(id)}`);
}
