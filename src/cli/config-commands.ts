/** Commands about what roles are told. */
import type { Command } from "commander";
import { output } from "./command-options.ts";
import type { Edge } from "./edge.ts";

export function addConfigCommands(program: Command, edge: Edge): void {
  const config = program.command("config").description("settings of the roles").enablePositionalOptions();
  output(config.command("explain"))
    .description(
      "each setting of a role: its value, where that comes from, what it accepts and means; ends with 2 when one is wrong",
    )
    .argument("[role]", "up, root, cluster or worker; default: up")
    .argument("[flags...]", "as the role itself would be given them, --config included")
    .passThroughOptions()
    .allowUnknownOption()
    .action(async (role: string | undefined, flags: string[], options) =>
      (await import("./commands/config.ts")).explain(edge, [...(role === undefined ? [] : [role]), ...flags], options),
    );
}
