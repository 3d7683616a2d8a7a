import { spawn } from "node:child_process";
import { AppError } from "./errors.ts";

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
    const child = spawn(file, args, {
      stdio: ["pipe", "pipe", "pipe"],
      signal,
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    child.on("error", (cause) => {
      const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
      if (missing) reject(new AppError("EXEC_MISSING", `Cannot run "${file}": no such program`, { cause }));
      else reject(cause);
    });
    child.on("close", (exitCode, killedBy) => {
      if (exitCode === 0) return resolve(Buffer.concat(out).toString());
      const output = Buffer.concat(err).toString().trim() || Buffer.concat(out).toString().trim();
      const code = killedBy === "SIGKILL" ? "EXEC_TIMEOUT" : "EXEC_FAILED";
      reject(
        new AppError(code, `"${file}" failed (${killedBy ?? `exit ${exitCode}`}): ${output.slice(-2000)}`, {
          details: { exitCode },
        }),
      );
    });
    child.stdin.on("error", () => {}); // EPIPE: the exit code tells more
    child.stdin.end(stdin ?? "");
  });
}
