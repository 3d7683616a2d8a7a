/** Commands about the overlay as a worker of this machine sees it. */
import type { Command } from "commander";
import { CONTROL_SOCKET } from "../protocol/net-document.ts";
import { output } from "./command-options.ts";
import type { Edge } from "./edge.ts";

const commands = () => import("./commands/net.ts");

export function addNetCommands(program: Command, edge: Edge): void {
  const net = program.command("net").description("the overlay network, as the worker of this machine sees it");
  local(net.command("show [service]"))
    .description("what happens to a packet for each service that the worker knows, or for one")
    .action(async (service, options) => (await commands()).show(edge, service, options));
  local(net.command("check"))
    .description(
      "measure every route: round-trip time, and a body of 1 MB to each other worker by the path of instances",
    )
    .action(async (options) => (await commands()).check(edge, options));
  local(net.command("trace <from> <to>"))
    .description("the way of a packet from an instance (shop.web/0) to a service, an instance or an address")
    .action(async (from, to, options) => (await commands()).trace(edge, from, to, options));
}

function local(command: Command): Command {
  return output(command).option("--socket <path>", "the worker's socket", CONTROL_SOCKET);
}
