import { AppError } from "../../base/errors.ts";
import type { ErrorCode } from "../../protocol/error-codes.ts";

const SQLITE_FULL = 13;

export function notFound(kind: string, id: string): AppError<ErrorCode> {
  return new AppError("NOT_FOUND", `There is no ${kind} "${id}"`, { details: { kind, id } });
}

/** @param holder what has the name now, for the caller's eyes: `application "shop.prod"` */
export function nameTaken(kind: string, name: string, holder: Readonly<Record<string, unknown>>): AppError<ErrorCode> {
  return new AppError("NAME_TAKEN", `The name "${name}" is taken by another ${kind}`, { details: { name, holder } });
}

/** What SQLite and the file system throw becomes STORAGE_FULL or STORAGE_FAILED; errors of ours pass. */
export function storageError(error: unknown): unknown {
  const { errcode, errno, code } = (error ?? {}) as { errcode?: unknown; errno?: unknown; code?: unknown };
  if (typeof errcode !== "number" && typeof errno !== "number") return error;
  // The low byte of SQLite's code is the kind, the rest where it happened.
  const isFull = code === "ENOSPC" || (typeof errcode === "number" && (errcode & 0xff) === SQLITE_FULL);
  return isFull
    ? new AppError("STORAGE_FULL", "Cannot write the root's state: the disk is full", { cause: error })
    : new AppError("STORAGE_FAILED", "Cannot read or write the root's state", { cause: error });
}
