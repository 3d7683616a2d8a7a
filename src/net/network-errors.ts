/** The failures that the port promises, made in one place so that the fake's are the real ones. */
import { AppError } from "../base/errors.ts";
import { formatPort } from "../protocol/ports.ts";
import type { PortMapping } from "./network.ts";

export type NetworkErrorCode = "NET_CLASH" | "NET_UNAVAILABLE" | "NET_EXHAUSTED" | "NOT_ATTACHED" | "PORT_BUSY";

export type PortHolder =
  | { readonly kind: "instance"; readonly instanceId: string }
  /** `pid` and `name` are unknown when the process is not visible to us. */
  | { readonly kind: "worker" }
  | { readonly kind: "process"; readonly pid?: number | undefined; readonly name?: string | undefined };

export function portBusy(port: PortMapping, holder: PortHolder): AppError<NetworkErrorCode> {
  return new AppError("PORT_BUSY", `Host port ${formatPort(port)} is in use by ${describeHolder(holder)}`, {
    details: { port: port.hostPort, protocol: port.protocol, holder },
  });
}

export function exhausted(subnets: readonly string[]): AppError<NetworkErrorCode> {
  const what =
    subnets.length === 0
      ? "This worker has no subnet yet: its cluster has to give it one"
      : `No sandbox address is left in ${subnets.join(", ")}: stop instances, or give the worker another subnet`;
  return new AppError("NET_EXHAUSTED", what, { details: { subnets } });
}

export function clash(range: string, why: string, remedy: string): AppError<NetworkErrorCode> {
  return new AppError("NET_CLASH", `Cannot use the range ${range}: ${why}; ${remedy}`, { details: { range } });
}

export function notAttached(instanceId: string): AppError<NetworkErrorCode> {
  return new AppError("NOT_ATTACHED", `Cannot publish ports of "${instanceId}": it has no sandbox`);
}

export function unavailable(action: string, cause?: unknown): AppError<NetworkErrorCode> {
  return new AppError("NET_UNAVAILABLE", `Cannot ${action}`, { cause });
}

export function otherWorker(cause: unknown): AppError<NetworkErrorCode> {
  const text =
    "Another worker runs on this machine: there can be one only. Stop it (oak down), or give this one --net=off";
  return new AppError("NET_UNAVAILABLE", text, { cause });
}

export function nftFailed(text: string, cause?: unknown): AppError {
  return new AppError("NFT_FAILED", `nft refused the rules: ${text.trim().slice(0, 1000)}`, { cause });
}

function describeHolder(holder: PortHolder): string {
  if (holder.kind === "instance") return `instance "${holder.instanceId}"`;
  if (holder.kind === "worker") return "the workers among themselves";
  if (holder.pid === undefined) return "a process of the host";
  return `process ${holder.pid} ("${holder.name ?? "?"}") of the host`;
}
