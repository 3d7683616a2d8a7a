/** Completion scripts for shells, made from the command tree. Pure. They know commands and options, and ask nobody. */
import { AppError } from "../base/errors.ts";
import { quote } from "../protocol/names.ts";
import { allCommands, type CommandNode } from "./command-tree.ts";

export function completionScript(shell: string, root: CommandNode): string {
  if (shell === "bash") return bash(root);
  if (shell === "zsh") return zsh(root);
  if (shell === "fish") return fish(root);
  throw new AppError("USAGE", `There is no completion for ${quote(shell)}: use bash, zsh or fish`);
}

/** `oak app` → what may follow: commands, then options. */
function words(node: CommandNode): string[] {
  return [...node.commands.map((child) => child.path.at(-1)!), ...node.options.map(({ long }) => long), "--help"];
}

/** One `case` line a command; the path so far is what was typed, without options. */
function cases(root: CommandNode, line: (path: string, words: string) => string): string {
  return allCommands(root)
    .map((node) => line(node.path.join(" "), words(node).join(" ")))
    .join("\n");
}

function bash(root: CommandNode): string {
  return `# oak completion bash > /etc/bash_completion.d/oak
_oak() {
  local word path=oak reply previous=\${COMP_WORDS[COMP_CWORD-1]}
  case $previous in
    -f | --file | --config | --*-file | --*-dir | --*-socket) COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;
    -o | --output) COMPREPLY=($(compgen -W "${choices(root)}" -- "\${COMP_WORDS[COMP_CWORD]}")); return ;;
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case " ${paths(root)} " in *" $(echo "$path $word" | tr ' ' /) "*) path="$path $word" ;; esac
  done
  case $path in
${cases(root, (path, list) => `    "${path}") reply="${list}" ;;`)}
  esac
  COMPREPLY=($(compgen -W "$reply" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _oak oak
`;
}

function zsh(root: CommandNode): string {
  return `#compdef oak
# oak completion zsh > "\${fpath[1]}/_oak"
_oak() {
  local word command_path=oak
  case $words[CURRENT-1] in
    -f | --file | --config | --*-file | --*-dir | --*-socket) _files; return ;;
    -o | --output) compadd ${choices(root)}; return ;;
  esac
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case " ${paths(root)} " in *" \${command_path// //}/$word "*) command_path="$command_path $word" ;; esac
  done
  case $command_path in
${cases(root, (path, list) => `    "${path}") compadd -- ${list} ;;`)}
  esac
}
compdef _oak oak
# Autoloaded by its first use: then it has to answer at once.
[ "$funcstack[1]" != _oak ] || _oak
`;
}

function fish(root: CommandNode): string {
  const lines = allCommands(root).flatMap((node) => {
    const here = `-n '__oak_at "${node.path.join(" ")}"'`;
    return [
      ...node.commands.map(
        (child) => `complete -c oak -f ${here} -a ${child.path.at(-1)} -d '${escapeQuote(child.description)}'`,
      ),
      ...node.options.map(
        ({ long, description }) => `complete -c oak ${here} -l ${long.slice(2)} -d '${escapeQuote(description)}'`,
      ),
    ];
  });
  return `# oak completion fish > ~/.config/fish/completions/oak.fish
function __oak_at
  set -l path oak
  for word in (commandline -opc)[2..-1]
    string match -q -- "* "(string join / (string split ' ' -- "$path $word"))" *" " ${paths(root)} "; and set path "$path $word"
  end
  test "$path" = "$argv[1]"
end
${lines.join("\n")}
`;
}

/** `oak oak/app oak/app/ls …`: to tell a command from an argument. */
function paths(root: CommandNode): string {
  return allCommands(root)
    .map(({ path }) => path.join("/"))
    .join(" ");
}

function choices(root: CommandNode): string {
  const option = allCommands(root)
    .flatMap((node) => node.options)
    .find(({ long }) => long === "--output");
  return (option?.choices ?? []).join(" ");
}

function escapeQuote(text: string): string {
  return text.replaceAll("'", "\\'");
}
