/** Answers the names that sandboxes ask, from the route table; what is not known yet is asked of the cluster first. */
import { deadline } from "../../base/clock.ts";
import type { DnsServerOptions } from "../../net/dns/dns-server.ts";
import { interestIn } from "../../protocol/route.ts";
import { type Asker, type Resolution, resolveName } from "./names.ts";
import type { RouteTable } from "./route-table.ts";

export interface NameAnswersOptions {
  readonly routes: RouteTable;
  /** Whose sandbox has the address. */
  readonly askerAt: (address: string) => Asker | undefined;
  readonly isServiceAddress: (address: string) => boolean;
  /** How long the cluster may take; resolvers repeat themselves after 5 s. */
  readonly timeoutMs?: number;
}

export function createNameAnswers(options: NameAnswersOptions): DnsServerOptions["answer"] {
  const { routes, askerAt, isServiceAddress, timeoutMs = 3000 } = options;
  return async ({ name, source }, signal) => {
    const question = { name, asker: askerAt(source), isServiceAddress };
    const resolution = resolveName(question, routes);
    if (resolution.kind !== "unknown") return toAnswer(resolution, routes);
    const key = "jobName" in resolution ? interestIn.name(resolution.jobName) : interestIn.address(resolution.address);
    if (routes.want(key, source) === "asked") {
      try {
        await routes.settled(key, deadline(timeoutMs, signal));
      } catch {
        return { kind: "failed" };
      }
    }
    const known = resolveName(question, routes);
    if (known.kind !== "unknown") return toAnswer(known, routes);
    return { kind: routes.isRefused(key) ? "none" : "failed" };
  };
}

function toAnswer(resolution: Exclude<Resolution, { kind: "unknown" }>, routes: RouteTable) {
  if (resolution.kind === "foreign") return { kind: "forward" } as const;
  // Who asks for a name is about to use it.
  if (resolution.kind === "address") routes.used([resolution.address]);
  return resolution;
}
