/** A further process in a running container, to its end: four calls, and nothing of it is left. */
import { randomBytes } from "node:crypto";
import { deadline } from "../../base/clock.ts";
import { AppError, describeError, hasCode } from "../../base/errors.ts";
import { explainStartFailure } from "../start-failure.ts";
import { ContainersDefinition } from "./gen/containers.ts";
import { TasksDefinition } from "./gen/tasks.ts";
import { type GrpcClient, ignoreNotFound } from "./grpc-client.ts";

const PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const SIGKILL = 9;
/** In the words of containerd's shim and of runc. */
const NOT_RUNNING = /cannot exec in an? \w+ (?:state|container)|container .*not running/i;
/** For the end of a process that was killed, and for its removal, whatever became of the caller. */
const CLEANUP_MS = 10_000;

export interface ExecOptions {
  readonly client: GrpcClient;
  /** As containerd knows it. */
  readonly id: string;
  readonly command: readonly string[];
  readonly timeoutMs: number;
}

export async function execProcess(options: ExecOptions, signal: AbortSignal): Promise<{ exitCode: number }> {
  const { client, id: containerId, command, timeoutMs } = options;
  const limit = deadline(timeoutMs, signal);
  const execId = `exec-${randomBytes(8).toString("hex")}`;
  const process = { containerId, execId };
  try {
    const { container } = await client.unary(ContainersDefinition, "get", { id: containerId }, { signal: limit });
    const spec = { typeUrl: PROCESS_TYPE, value: processSpec(container?.spec?.value, command) };
    await client.unary(TasksDefinition, "exec", { ...process, spec }, { signal: limit });
    await client.unary(TasksDefinition, "start", process, { signal: limit });
    return { exitCode: await exitOf(client, process, limit) };
  } catch (error) {
    signal.throwIfAborted();
    throw explain(error, options, limit);
  } finally {
    await removeProcess(client, process);
  }
}

/** The container's own process, with other arguments: same user, capabilities, environment and folder. */
function processSpec(ociSpec: Uint8Array | undefined, command: readonly string[]): Uint8Array {
  const { process } = JSON.parse(Buffer.from(ociSpec ?? []).toString()) as { process: object };
  return Buffer.from(JSON.stringify({ ...process, args: command, terminal: false }));
}

/** Also right when it has ended before we ask. */
async function exitOf(
  client: GrpcClient,
  process: { readonly containerId: string; readonly execId: string },
  signal: AbortSignal,
): Promise<number> {
  // Not a unary call, whose default limit would end the wait.
  for await (const { exitStatus } of client.stream(TasksDefinition, "wait", process, { signal })) return exitStatus;
  throw new AppError("RUNTIME_UNAVAILABLE", "containerd ended its wait for a process");
}

async function removeProcess(
  client: GrpcClient,
  process: { readonly containerId: string; readonly execId: string },
): Promise<void> {
  const signal = deadline(CLEANUP_MS);
  const remove = () => client.unary(TasksDefinition, "deleteProcess", process, { signal });
  try {
    await remove().catch(async (error: unknown) => {
      if (hasCode(error, "NOT_FOUND") || hasCode(error, "RUNTIME_UNAVAILABLE")) return;
      // It runs, or was never started.
      const kill = { ...process, signal: SIGKILL, all: false };
      await client.unary(TasksDefinition, "kill", kill, { signal }).catch(ignoreNotFound);
      await exitOf(client, process, signal);
      await remove();
    });
  } catch {
    // What is left goes with the container.
  }
}

function explain(error: unknown, { id, command, timeoutMs }: ExecOptions, limit: AbortSignal): unknown {
  const what = `"${command[0]}" in "${id}"`;
  if (limit.aborted) return new AppError("EXEC_TIMEOUT", `${what} did not end within ${timeoutMs} ms`);
  if (hasCode(error, "RUNTIME_UNAVAILABLE")) return error;
  if (hasCode(error, "NOT_FOUND") || NOT_RUNNING.test(describeError(error)))
    return new AppError("NOT_RUNNING", `Cannot run ${what}: the container does not run`, { cause: error });
  const isMissing = explainStartFailure(id, error).code === "COMMAND_NOT_FOUND";
  if (isMissing) return new AppError("COMMAND_NOT_FOUND", `Cannot run ${what}: no such program`, { cause: error });
  return new AppError("EXEC_FAILED", `Cannot run ${what}: ${describeError(error)}`, { cause: error });
}
