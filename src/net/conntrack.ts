/** Forgets connections, so that none goes on towards a sandbox that is gone, or past a mapping that is new. */

import { formatAddress } from "../addressing/subnet.ts";
import { AppError } from "../base/errors.ts";
import { exec } from "../base/exec.ts";
import type { Logger } from "../base/log.ts";
import { deleteConnections } from "./conntrack-netlink.ts";

/**
 * Connections to the sandbox, through whatever address, and from it. By one message to the kernel; where that is not possible by a
 * process. A failure is logged only, since entries die of old age as well.
 */
export async function forgetSandbox(address: number, log: Logger): Promise<void> {
  if (await deleteConnections(address)) return;
  const text = formatAddress(address);
  await Promise.all([forget(["--reply-src", text], log), forget(["--orig-src", text], log)]);
}

/** A UDP flow that began before the mapping would bypass it for as long as it is in use. */
export function forgetUdpPort(port: number, log: Logger): Promise<void> {
  return forget(["-p", "udp", "--orig-port-dst", String(port)], log);
}

async function forget(filter: readonly string[], log: Logger): Promise<void> {
  try {
    await exec("conntrack", ["-D", ...filter]);
  } catch (error) {
    // Its ways to say that there were none, and that one has ended in between.
    if (error instanceof AppError && / 0 flow entries|such conntrack doesn't exist/.test(error.message)) return;
    log.warn({ filter: filter.join(" "), error }, "cannot flush connections");
  }
}
