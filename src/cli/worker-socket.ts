/** Asks the worker of this machine, over its socket. */
import { request } from "node:http";
import type * as z from "zod/mini";
import { deadline } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";
import { describeProblems, validate } from "../base/validation.ts";
import type { Edge } from "./edge.ts";

export interface SocketOptions {
  readonly socket: string;
}

const LIMIT_MS = 120_000;

/** @param route method and path, as `GET /net` @throws AppError WORKER_UNREACHABLE | ANSWER_INVALID */
export async function askWorker<T extends z.ZodMiniType>(
  { signal }: Pick<Edge, "signal">,
  { socket }: SocketOptions,
  { route, schema }: { readonly route: string; readonly schema: T },
): Promise<z.output<T>> {
  const text = await send(socket, route, deadline(LIMIT_MS, signal)).catch((cause: unknown) => {
    const why = hasCode(cause, "EACCES") ? "only root may" : "is one running here, with its network on?";
    throw new AppError("WORKER_UNREACHABLE", `Cannot ask the worker at "${socket}": ${why}`, { cause });
  });
  const checked = validate(schema, JSON.parse(text));
  if (!checked.ok) {
    throw new AppError("ANSWER_INVALID", `The worker's answer makes no sense: ${describeProblems(checked.problems)}`);
  }
  return checked.value;
}

function send(socketPath: string, route: string, signal: AbortSignal): Promise<string> {
  const [method, path] = route.split(" ", 2);
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, signal }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("error", reject);
      response.on("end", () => resolve(text));
    });
    call.on("error", reject);
    call.end();
  });
}
