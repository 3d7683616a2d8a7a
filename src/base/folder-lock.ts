/** One process a state folder. The kernel holds the lock, through SQLite, and lets go of it however the process ends. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { AppError, describeError } from "./errors.ts";

export interface FolderLock {
  release(): void;
}

/** @throws AppError FOLDER_LOCKED | FOLDER_UNUSABLE */
export function lockFolder(folder: string, pid: number): FolderLock {
  const holder = join(folder, "lock.pid");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const database = new DatabaseSync(join(folder, "lock"));
    try {
      // Without a journal on disk nothing is written: a full one does not matter.
      database.exec("PRAGMA journal_mode=MEMORY; BEGIN EXCLUSIVE");
    } catch (error) {
      database.close();
      throw error;
    }
    writeHolder(holder, pid);
    return { release: () => database.close() };
  } catch (cause) {
    if (/database is locked/.test(describeError(cause))) {
      throw new AppError("FOLDER_LOCKED", `"${folder}" is in use by another oak${readHolder(holder)}`, { cause });
    }
    throw new AppError("FOLDER_UNUSABLE", `Cannot use the state folder "${folder}"`, { cause });
  }
}

/** For the message of whoever comes next; the lock does not depend on it. */
function writeHolder(path: string, pid: number): void {
  try {
    writeFileSync(path, `${pid}\n`);
  } catch {
    // a full disk, for one
  }
}

function readHolder(path: string): string {
  try {
    return ` (process ${readFileSync(path, "utf8").trim()})`;
  } catch {
    return "";
  }
}
