/**
 * The command tree: names, arguments, options and help. What a command does is in `commands/`, loaded when it is called, so
 * that a role does not carry the client's code, nor a client the roles'.
 */
import { Command } from "commander";
import { addClientCommands } from "./client-commands.ts";
import { CONTAINERD_SOCKET, positive, STATE_DIR } from "./command-options.ts";
import { addConfigCommands } from "./config-commands.ts";
import { type Edge, ROLES, type RoleName } from "./edge.ts";
import { addLabCommands } from "./lab-commands.ts";
import { addClusterCommands, addImageCommands, addWorkerCommands } from "./machine-commands.ts";
import { addNetCommands } from "./net-commands.ts";
import { addSettings, typedSettings } from "./settings-options.ts";

export function createProgram(edge: Edge): Command {
  const program = new Command("oak")
    .description("Oakestra: containers at the edge, in clusters, behind NAT.")
    .version(edge.version, "-V, --version", "print the version of this program")
    .helpOption("-h, --help", "help for the command")
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => edge.terminal.out(text),
      writeErr: (text) => edge.terminal.err(text),
      outputError: (text, write) => write(text.replace(/^error: /, "oak: ")),
    });
  addRole(program, edge, "up", "run root, cluster and worker on this machine, in one process").option(
    "-d, --detach",
    "run in the background; return when it is ready",
  );
  addDown(program, edge);
  addRole(program, edge, "root", "run a root: the API, users, applications");
  addClusterCommands(addRole(program, edge, "cluster", "run a cluster, or look at those of the root"), edge);
  addWorkerCommands(addRole(program, edge, "worker", "run a worker, or look at those of a cluster"), edge);
  addClientCommands(program, edge);
  addConfigCommands(program, edge);
  addImageCommands(program, edge);
  addNetCommands(program, edge);
  addLabCommands(program, edge);
  program
    .command("completion <shell>")
    .description("print the completion script for bash, zsh or fish")
    .action(async (shell: string) => {
      const [{ completionScript }, { describeCommand }] = await Promise.all([
        import("./completion.ts"),
        import("./command-tree.ts"),
      ]);
      edge.terminal.out(completionScript(shell, describeCommand(await createFullProgram(edge))));
    });
  program.hook("preSubcommand", (_, command) => completeRole(command, edge));
  return program;
}

/** The tree with every role's flags, which are otherwise added when the role is called. */
export async function createFullProgram(edge: Edge): Promise<Command> {
  const program = createProgram(edge);
  for (const command of program.commands) await completeRole(command, edge);
  return program;
}

function addRole(program: Command, edge: Edge, role: RoleName, description: string): Command {
  return program
    .command(role)
    .description(description)
    .option("--config <file>", "settings as JSON or YAML, by the names of the flags in camelCase")
    .addHelpText("after", "\nEach flag can also be set as an environment variable: --state-dir is OAK_STATE_DIR.")
    .action(async (options: Record<string, unknown>) =>
      edge.runRole(role, {
        settings: typedSettings(await edge.roleSettings(role), options),
        config: options.config as string | undefined,
        detach: options.detach === true,
      }),
    );
}

/** Only now, since a role's settings load a part of its code. */
async function completeRole(command: Command, edge: Edge): Promise<void> {
  const role = ROLES.find((name) => name === command.name());
  if (role) addSettings(command, await edge.roleSettings(role));
}

function addDown(program: Command, edge: Edge): void {
  program
    .command("down")
    .description('stop the "oak up" of this machine; instances keep running')
    .option("--purge", "also remove all instances, their networks and packet rules")
    .option("--state", "with --purge: also remove the state folder, with all users and applications")
    .option("--state-dir <folder>", "state folder", STATE_DIR)
    .option("--containerd-socket <path>", "unix socket of containerd", CONTAINERD_SOCKET)
    .option("--timeout <seconds>", "until it is killed", positive, 30)
    .action(async (options) => (await import("./commands/down.ts")).down(edge, options));
}
