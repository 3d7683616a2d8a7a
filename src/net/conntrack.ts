import { AppError } from "../base/errors.ts";
import { exec } from "../base/exec.ts";
import type { Logger } from "../base/log.ts";

/**
 * Forgets connections that match any of the filters, so that none goes on towards a sandbox that is gone, or past a mapping that
 * is new. Costs a process each, so never on a hot path; a failure is logged only, since entries die of old age as well.
 */
export async function forgetConnections(filters: readonly (readonly string[])[], log: Logger): Promise<void> {
  await Promise.all(
    filters.map(async (filter) => {
      try {
        await exec("conntrack", ["-D", ...filter]);
      } catch (error) {
        // Exit code 1 with "0 flow entries have been deleted" is its way to say that there were none.
        if (error instanceof AppError && error.message.includes(" 0 flow entries")) return;
        log.warn({ filter: filter.join(" "), error }, "cannot flush connections");
      }
    }),
  );
}

/** Connections to (through a host port) and from the sandboxes with the address, or in the subnet. */
export const ofSandboxes = (addresses: string): readonly (readonly string[])[] => [
  ["--reply-src", addresses],
  ["--orig-src", addresses],
];

/** A UDP flow that began before the mapping would bypass it for as long as it is in use. */
export const ofUdpPort = (port: number): readonly string[] => ["-p", "udp", "--orig-port-dst", String(port)];
