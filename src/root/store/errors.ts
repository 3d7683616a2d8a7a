import { AppError } from "../../base/errors.ts";
import type { ErrorCode } from "../../protocol/error-codes.ts";

export function notFound(kind: string, id: string): AppError<ErrorCode> {
  return new AppError("NOT_FOUND", `There is no ${kind} "${id}"`, { details: { kind, id } });
}

/** @param holder what has the name now, for the caller's eyes: `application "shop.prod"` */
export function nameTaken(kind: string, name: string, holder: Readonly<Record<string, unknown>>): AppError<ErrorCode> {
  return new AppError("NAME_TAKEN", `The name "${name}" is taken by another ${kind}`, { details: { name, holder } });
}
