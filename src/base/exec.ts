import { spawn } from "node:child_process";
import { deadline } from "./clock.ts";
import { AppError, hasCode } from "./errors.ts";

/**
 * Runs a program with an argument array (never a shell) and resolves with its standard output.
 * Rejects with EXEC_FAILED (exit code, last output in details), EXEC_TIMEOUT, or EXEC_MISSING when there is no such program.
 */
export function exec(
  file: string,
  args: readonly string[],
  options: { stdin?: string; timeoutMs?: number; signal?: AbortSignal } = {},
): Promise<string> {
  const { stdin, timeoutMs = 30_000, signal } = options;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    // Not spawn's own `timeout`: its timer outlives a child that could not be spawned.
    const limit = deadline(timeoutMs, signal);
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], signal: limit, killSignal: "SIGKILL" });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    child.on("error", (cause) => {
      if (signal?.aborted) reject(signal.reason);
      else if (limit.aborted)
        reject(new AppError("EXEC_TIMEOUT", `"${file}" did not end within ${timeoutMs} ms`, { cause }));
      else if (hasCode(cause, "ENOENT"))
        reject(new AppError("EXEC_MISSING", `Cannot run "${file}": no such program`, { cause }));
      else reject(cause);
    });
    child.on("close", (exitCode, killedBy) => {
      if (exitCode === 0) return resolve(Buffer.concat(out).toString());
      const output = Buffer.concat(err).toString().trim() || Buffer.concat(out).toString().trim();
      const message = `"${file}" failed (${killedBy ?? `exit ${exitCode}`}): ${output.slice(-2000)}`;
      reject(new AppError("EXEC_FAILED", message, { details: { exitCode } }));
    });
    // EPIPE means that the program did not read its input: its exit code tells more.
    child.stdin.on("error", (error) => err.push(Buffer.from(`${error.message}\n`)));
    child.stdin.end(stdin ?? "");
  });
}
