/**
 * `ip` or `bridge` for one batch. Costs a process, but knows the links as they are now: a long-lived one remembers the numbers of
 * links that others have made anew since.
 */
import { AppError, hasCode } from "../base/errors.ts";
import { exec } from "../base/exec.ts";

/** @param options.tolerate failures whose message matches are none; without it the first failure ends the batch. */
export async function runBatch(
  program: "ip" | "bridge",
  commands: readonly string[],
  options: { readonly tolerate?: RegExp; readonly namespace?: string } = {},
): Promise<void> {
  const { tolerate, namespace } = options;
  if (commands.length === 0) return;
  const where = namespace === undefined ? [] : ["-n", namespace];
  const force = tolerate === undefined ? [] : ["-force"];
  try {
    await exec(program, [...where, ...force, "-batch", "-"], { stdin: `${commands.join("\n")}\n` });
  } catch (error) {
    if (!hasCode(error, "EXEC_FAILED") || !tolerate) throw error;
    const [, ...lines] = (error as AppError).message.split(/(?<=\(exit \d+\)): |\n/);
    const failure = lines.find((line) => line !== "" && !/^Command failed /.test(line) && !tolerate.test(line));
    if (failure !== undefined) throw new AppError("IP_FAILED", `"${program}" failed: ${failure}`, { cause: error });
  }
}
