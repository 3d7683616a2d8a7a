/** Why there is no link to the root, in words with a remedy. */
import { AppError, hasCode } from "../base/errors.ts";
import { HttpClient } from "../transport/http-client.ts";
import { whyUnreachable } from "../transport/unreachable.ts";

export function unreachable(cause: Error, rootUrl: string): AppError {
  const server = new URL(rootUrl);
  return new AppError(
    "UPLINK_UNREACHABLE",
    `Cannot reach the root at ${server.origin}: ${whyUnreachable(cause, server)}`,
    {
      cause,
    },
  );
}

/** The root wants an operator to do something, or there is no root. */
export function isRefusal(error: unknown): boolean {
  return hasCode(error, "UPLINK_REFUSED") || hasCode(error, "UPLINK_MISDIRECTED");
}

/** A server that opens no link: the mistake that is made most often has words of its own. */
export async function whoAnswers(rootUrl: string, status: number, signal: AbortSignal): Promise<AppError> {
  const { origin } = new URL(rootUrl);
  if (status === 429)
    return new AppError("UPLINK_CLOSED", `The root at ${origin} has refused too many tries from here`);
  if (status >= 500) return new AppError("UPLINK_CLOSED", `The root at ${origin} takes no links now (HTTP ${status})`);
  const { body } = await new HttpClient(origin).send("GET", "/status", { signal });
  const isCluster = (body as { role?: unknown } | null)?.role === "cluster";
  const what = isCluster ? "is a cluster, not a root" : `is no root (it answers HTTP ${status})`;
  const remedy = "--root wants the URL of a root's API, on port 10000 unless it was set otherwise";
  return new AppError("UPLINK_MISDIRECTED", `${origin} ${what}: ${remedy}`);
}
