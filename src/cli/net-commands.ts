/** Commands about the overlay as a worker of this machine sees it, and as all workers of a cluster do. */
import { type Command, InvalidArgumentError } from "commander";
import { CHECK_WITHIN } from "../protocol/net-check.ts";
import { CONTROL_SOCKET } from "../protocol/net-document.ts";
import { LOCAL_CLUSTER, OPERATOR_TOKEN_FILE, output, positive } from "./command-options.ts";
import type { Edge } from "./edge.ts";

const commands = () => import("./commands/net.ts");

export function addNetCommands(program: Command, edge: Edge): void {
  const net = program.command("net").description("the overlay network, as the worker of this machine sees it");
  local(net.command("show [service]"))
    .description("what happens to a packet for each service that the worker knows, or for one")
    .action(async (service, options) => (await commands()).show(edge, service, options));
  local(net.command("check"))
    .description(
      "measure every route of this worker: round-trip time, and a body of 1 MB to each other worker by the path of instances; --all: of every worker",
    )
    .option("--all", "from every worker of a cluster, not of this machine's alone; asked of the cluster")
    .option("--cluster <url...>", `with --all: join URL of the cluster, or of several; default: ${LOCAL_CLUSTER}`)
    .option(
      "--operator-token-file <file...>",
      "with --all: the cluster's operator token, or one for each cluster; or OAK_OPERATOR_TOKEN",
      [OPERATOR_TOKEN_FILE],
    )
    .option(
      "--within <seconds>",
      `with --all: time for each worker, up to ${CHECK_WITHIN.max}`,
      within,
      CHECK_WITHIN.default,
    )
    .action(async ({ all, cluster, ...options }) =>
      all || cluster
        ? (await import("./commands/net-check-all.ts")).checkAll(edge, {
            clusters: cluster ?? [LOCAL_CLUSTER],
            ...options,
          })
        : (await commands()).check(edge, options),
    );
  local(net.command("trace <from> <to>"))
    .description("the way of a packet from an instance (shop.web/0) to a service, an instance or an address")
    .action(async (from, to, options) => (await commands()).trace(edge, from, to, options));
}

function within(text: string): number {
  const seconds = positive(text);
  if (seconds > CHECK_WITHIN.max) throw new InvalidArgumentError(`It must be at most ${CHECK_WITHIN.max}.`);
  return seconds;
}

function local(command: Command): Command {
  return output(command).option("--socket <path>", "the worker's socket", CONTROL_SOCKET);
}
