/** One check of an instance, from the worker to its sandbox address or inside its container. */
import { request } from "node:http";
import { connect } from "node:net";
import { deadline } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Healthcheck } from "../protocol/healthcheck.ts";
import type { ContainerRuntime } from "../runtime/container-runtime.ts";

export type ProbeResult = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export interface ProbeTarget {
  readonly containerId: string;
  /** Sandbox address. */
  readonly address: string;
  readonly check: Healthcheck;
}

export type Probe = (target: ProbeTarget, signal: AbortSignal) => Promise<ProbeResult>;

/** Rejects only when `signal` aborts. */
export function createProbe(runtime: Pick<ContainerRuntime, "exec">): Probe {
  return async (target, signal) => {
    const { check } = target;
    const limit = deadline(check.timeoutMs, signal);
    try {
      return await probe(runtime, target, limit);
    } catch (error) {
      signal.throwIfAborted();
      const reason = limit.aborted ? `no answer within ${check.timeoutMs / 1000} s` : describeError(error);
      return { ok: false, reason: `${what(target)}: ${reason}` };
    }
  };
}

async function probe(
  runtime: Pick<ContainerRuntime, "exec">,
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { check, address, containerId } = target;
  if (address === "" && check.type !== "exec") {
    return { ok: false, reason: "the network of this worker is off (setting net)" };
  }
  switch (check.type) {
    case "tcp":
      await connects(address, check.port, signal);
      return { ok: true };
    case "http": {
      const status = await httpStatus({ address, port: check.port, path: check.path }, signal);
      return status >= 200 && status < 400 ? { ok: true } : { ok: false, reason: `${what(target)}: status ${status}` };
    }
    case "exec": {
      const { exitCode } = await runtime.exec(containerId, check.command, { timeoutMs: check.timeoutMs }, signal);
      return exitCode === 0 ? { ok: true } : { ok: false, reason: `${what(target)}: exit code ${exitCode}` };
    }
  }
}

function what({ check }: ProbeTarget): string {
  switch (check.type) {
    case "tcp":
      return `port ${check.port}`;
    case "http":
      return `GET :${check.port}${check.path}`.slice(0, 100);
    case "exec":
      return check.command.join(" ").slice(0, 100);
  }
}

function connects(host: string, port: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, signal });
    socket.on("error", reject);
    socket.on("connect", () => {
      socket.destroy();
      resolve();
    });
  });
}

/** The status line is all that counts: the body, which may have no end, is not read. */
function httpStatus(
  { address, port, path }: { readonly address: string; readonly port: number; readonly path: string },
  signal: AbortSignal,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { "user-agent": "oakestra-healthcheck", connection: "close" };
    const call = request({ host: address, port, path, headers, signal, agent: false });
    call.on("error", reject);
    call.on("response", (response) => {
      resolve(response.statusCode ?? 0);
      response.on("error", () => {});
      response.destroy();
    });
    call.end();
  });
}
