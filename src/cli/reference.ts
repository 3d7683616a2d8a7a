/** The command reference as Markdown, made from the command tree. Pure. */
import { allCommands, type CommandNode, type OptionNode } from "./command-tree.ts";

export function commandReference(root: CommandNode): string {
  return allCommands(root)
    .filter((node) => node !== root && (node.options.length > 0 || node.commands.length === 0))
    .map(section)
    .join("\n");
}

function section(node: CommandNode): string {
  const usage = [...node.path, ...node.arguments].join(" ");
  const options = node.options.length > 0 ? `\n| option | |\n|---|---|\n${node.options.map(row).join("\n")}\n` : "";
  return `### ${node.path.join(" ")}\n\n\`${usage}\`: ${node.description}.\n${options}`;
}

function row({ flags, description, choices, default: value }: OptionNode): string {
  const parts = [
    description,
    choices.length > 0 ? `one of ${choices.join(", ")}` : "",
    value === undefined ? "" : `default: ${value}`,
  ].filter((part) => part !== "");
  return `| \`${escapePipe(flags)}\` | ${escapePipe(parts.join("; "))} |`;
}

function escapePipe(text: string): string {
  return text.replaceAll("|", "\\|");
}
