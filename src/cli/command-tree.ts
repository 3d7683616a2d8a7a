/** The command tree as plain data: what completion scripts and the reference are made from. */
import type { Command } from "commander";

export interface CommandNode {
  /** From the program's name on: `oak app ls`. */
  readonly path: readonly string[];
  readonly description: string;
  /** `<application...>` */
  readonly arguments: readonly string[];
  readonly options: readonly OptionNode[];
  readonly commands: readonly CommandNode[];
}

export interface OptionNode {
  readonly flags: string;
  readonly long: string;
  readonly description: string;
  readonly choices: readonly string[];
  readonly default?: string | undefined;
}

export function describeCommand(command: Command, parents: readonly string[] = []): CommandNode {
  const path = [...parents, command.name()];
  return {
    path,
    description: command.description(),
    arguments: command.registeredArguments.map((argument) => {
      const name = argument.name() + (argument.variadic ? "..." : "");
      return argument.required ? `<${name}>` : `[${name}]`;
    }),
    options: command.options
      .filter((option) => option.long !== undefined)
      .map((option) => ({
        flags: option.flags,
        long: option.long!,
        description: option.description,
        choices: option.argChoices ?? [],
        default:
          option.defaultValue === undefined || option.defaultValue === "" ? undefined : String(option.defaultValue),
      })),
    commands: command
      .createHelp()
      .visibleCommands(command)
      .filter((child) => child.name() !== "help")
      .map((child) => describeCommand(child, path)),
  };
}

/** The node and all below it, parents first. */
export function allCommands(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(allCommands)];
}
