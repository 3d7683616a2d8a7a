/** `oak down` */
import { pause } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import type { DownOptions, Edge } from "../edge.ts";
import { readPidFile, removePidFile } from "../pid-file.ts";

const POLL_MS = 50;
const KILL_MS = 5000;

export async function down(edge: Edge, options: DownOptions): Promise<void> {
  if (options.state && !options.purge) {
    throw new AppError("USAGE", "--state removes what the instances belong to: it needs --purge");
  }
  const pid = await readPidFile(edge.pidFile);
  if (pid === undefined) edge.terminal.err("oak up does not run here\n");
  else await stop(edge, pid, options.timeout * 1000);
  await removePidFile(edge.pidFile);
  if (!options.purge) {
    if (pid !== undefined) edge.terminal.err('Instances keep running; "oak down --purge" removes them as well.\n');
    return;
  }
  const count = await edge.purge(options);
  edge.terminal.err(`removed ${count} instance(s), their networks and packet rules\n`);
  if (!options.state) {
    edge.terminal.err(`"${options.stateDir}" still says that they are wanted: the next "oak up" starts them again.\n`);
  }
}

async function stop(edge: Edge, pid: number, timeoutMs: number): Promise<void> {
  edge.kill(pid, "SIGTERM");
  if (await hasEnded(edge, timeoutMs)) return edge.terminal.err(`stopped process ${pid}\n`);
  edge.terminal.err(`process ${pid} did not stop within ${timeoutMs / 1000} s: killing it\n`);
  edge.kill(pid, "SIGKILL");
  if (!(await hasEnded(edge, KILL_MS))) throw new AppError("STOP_FAILED", `Process ${pid} cannot be killed`);
}

async function hasEnded(edge: Edge, withinMs: number): Promise<boolean> {
  const end = edge.clock.monotonic() + withinMs;
  while ((await readPidFile(edge.pidFile)) !== undefined) {
    edge.signal.throwIfAborted();
    if (edge.clock.monotonic() >= end) return false;
    await pause(edge.clock, POLL_MS, edge.signal);
  }
  return true;
}
