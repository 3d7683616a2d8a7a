/** What is said of instances whose cluster is silent. Derived when shown, never stored: the status stays the cluster's last word. Pure. */
import { isTerminal } from "../protocol/instance.ts";
import type { Instance } from "./model.ts";

/** @param silentSince epoch ms of the last word of a cluster without a link; undefined: it is connected */
export function detailOf(
  { status, detail }: Pick<Instance, "status" | "detail">,
  cluster: { readonly name: string; readonly silentSince?: number | undefined } | undefined,
): string {
  if (cluster?.silentSince === undefined || isTerminal(status)) return detail;
  const since = new Date(cluster.silentSince).toISOString();
  return `cluster "${cluster.name}" not heard from since ${since}; its last word: ${detail}`;
}
