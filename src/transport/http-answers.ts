/** Answers of our HTTP servers: JSON, and errors in the one shape that all of them use. */
import { AppError } from "../base/errors.ts";
import { ERROR_CODES, type ErrorCode } from "../protocol/error-codes.ts";
import type { HttpResponse } from "./http-message.ts";

export interface ErrorBody {
  readonly error: ErrorCode;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export function jsonAnswer(value: unknown, status = 200): HttpResponse {
  return { status, headers: { "content-type": "application/json" }, body: JSON.stringify(value) };
}

/** An AppError whose code is public speaks for itself; of everything else nothing is told. */
export function errorAnswer(error: unknown): HttpResponse {
  const body = errorBody(error);
  return jsonAnswer(body, ERROR_CODES[body.error].status);
}

export function errorBody(error: unknown): ErrorBody {
  if (error instanceof AppError && error.code in ERROR_CODES) {
    return { error: error.code as ErrorCode, message: error.message, details: error.details };
  }
  return {
    error: "INTERNAL",
    message: "Something went wrong inside; the log of the server has the details",
    details: {},
  };
}
