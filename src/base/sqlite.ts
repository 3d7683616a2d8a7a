/** The one seam to SQLite. WAL, synchronous=NORMAL for speed where a lost last write is repaired, FULL where it is not. */
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { AppError } from "./errors.ts";

export type Database = DatabaseSync;

const SQLITE_FULL = 13;

/**
 * Opens (and creates) a database and brings it to the newest version.
 * @param migrations SQL scripts in order; the database remembers in `user_version` how many ran. Never edit one that shipped.
 * @throws STORE_TOO_NEW when a newer program wrote the file.
 */
export function openDatabase(path: string, migrations: readonly string[]): Database {
  if (path !== ":memory:") makePrivate(path);
  const database = new DatabaseSync(path);
  database.exec(
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA busy_timeout=5000; PRAGMA cache_size=-512; PRAGMA journal_size_limit=1048576;",
  );
  const { user_version: version } = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (version > migrations.length) {
    database.close();
    throw new AppError(
      "STORE_TOO_NEW",
      `Cannot open "${path}": it was written by a newer version (schema ${version}, this program knows ${migrations.length})`,
    );
  }
  for (let next = version; next < migrations.length; next++) {
    transaction(database, () => {
      database.exec(migrations[next]!);
      database.exec(`PRAGMA user_version=${next + 1}`);
    });
  }
  return database;
}

/** Digests, keys and secrets stand in there. SQLite gives the files beside it the same mode. */
function makePrivate(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
}

/** Runs `work` in one transaction: all of it is kept, or nothing when it throws. Not reentrant. */
export function transaction<T>(database: Database, work: () => T): T {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    // A full disk may have rolled it back already; a second one would hide why.
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

/** What SQLite and the file system throw becomes STORAGE_FULL or STORAGE_FAILED; errors of ours pass. @param store as in "the root's state" */
export function storageError(error: unknown, store: string): unknown {
  const { errcode, errno, code } = (error ?? {}) as { errcode?: unknown; errno?: unknown; code?: unknown };
  if (typeof errcode !== "number" && typeof errno !== "number") return error;
  // The low byte of SQLite's code is the kind, the rest where it happened.
  const isFull = code === "ENOSPC" || (typeof errcode === "number" && (errcode & 0xff) === SQLITE_FULL);
  return isFull
    ? new AppError("STORAGE_FULL", `Cannot write ${store}: the disk is full`, { cause: error })
    : new AppError("STORAGE_FAILED", `Cannot read or write ${store}`, { cause: error });
}
