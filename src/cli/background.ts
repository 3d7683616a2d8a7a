/** Starts this program again in the background, and waits until it says that it is ready. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import { AppError } from "../base/errors.ts";

/** Number of the pipe on which the child says that it is ready: one line, shown to the user. */
export const READY_FD = 3;
export const READY_VARIABLE = "OAK_READY_FD";

const MAX_LOG_BYTES = 10 * 1024 * 1024;
const SHOWN_LOG_BYTES = 4000;

export interface BackgroundOptions {
  /** Program and arguments of the child. */
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly logPath: string;
  /** Ends the wait, and the child. */
  readonly signal: AbortSignal;
}

/** @returns what the child said. @throws AppError START_FAILED with the end of the log */
export async function startInBackground(options: BackgroundOptions): Promise<string> {
  const { command, environment, logPath, signal } = options;
  const log = openLog(logPath);
  const from = statSync(logPath).size;
  const [file, ...args] = command;
  const child = spawn(file, args, {
    detached: true,
    stdio: ["ignore", log, log, "pipe"],
    env: { ...environment, [READY_VARIABLE]: String(READY_FD) },
  });
  closeSync(log);
  try {
    const said = await firstLine(child, signal);
    child.unref();
    return said;
  } catch (cause) {
    child.kill("SIGTERM");
    const lines = endOfLog(logPath, from);
    throw new AppError(
      "START_FAILED",
      `It did not start${signal.aborted ? " in time" : ""}; the end of its log ("${logPath}"):\n${lines}`,
      { cause },
    );
  }
}

function firstLine(child: ChildProcess, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const pipe = child.stdio[READY_FD] as Readable;
    let text = "";
    pipe.setEncoding("utf8");
    pipe.on("data", (chunk: string) => {
      text += chunk;
      if (!text.endsWith("\n")) return;
      pipe.destroy();
      resolve(text);
    });
    child.on("error", reject);
    child.on("exit", (code, killedBy) => reject(new Error(`ended with ${killedBy ?? `exit code ${code}`}`)));
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Keeps one older log: what a start writes is little, and what runs writes changes only. */
function openLog(path: string): number {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size > MAX_LOG_BYTES) renameSync(path, `${path}.1`);
  return openSync(path, "a", 0o600);
}

function endOfLog(path: string, from: number): string {
  const size = statSync(path).size;
  const begin = Math.max(from, size - SHOWN_LOG_BYTES);
  const buffer = Buffer.alloc(size - begin);
  const file = openSync(path, "r");
  readSync(file, buffer, 0, buffer.length, begin);
  closeSync(file);
  const text = buffer.toString();
  // The log's own lines are JSON for programs: for people, what they say.
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.slice(-10).map(readable).join("\n") || "  (nothing)";
}

function readable(line: string): string {
  try {
    const { level, message, error } = JSON.parse(line) as {
      level: string;
      message: string;
      error?: { message: string };
    };
    return `  ${level}: ${message}${error ? `: ${describe(error)}` : ""}`;
  } catch {
    return `  ${line}`;
  }
}

function describe(error: { message: string; cause?: { message: string } }): string {
  return error.cause ? `${error.message}: ${describe(error.cause)}` : error.message;
}
