/** Commands of labs: whole edges of machines made of namespaces, on this machine. */
import type { Command } from "commander";
import { count, output, STATE_DIR } from "./command-options.ts";
import type { Edge } from "./edge.ts";

const commands = () => import("./commands/lab.ts");

export function addLabCommands(program: Command, edge: Edge): void {
  const lab = program.command("lab").description("a whole edge on this machine: hosts made of namespaces; needs root");
  addMaking(lab, edge);
  addDisturbing(lab, edge);
  lab
    .command("carry <file>", { hidden: true })
    .description("carry a lab's slow links; started by the lab itself")
    .action(async (file) => (await commands()).carry(edge, file));
}

function addMaking(lab: Command, edge: Edge): void {
  named(lab.command("up"))
    .description("make a lab, or start what is missing of it, and wait until every part has joined")
    .option("--clusters <number>", "how many clusters, each at a site of its own", count, 1)
    .option("--workers <number>", "how many workers each cluster has", count, 1)
    .option("--delay <time>", "one way between sites, such as 20ms")
    .option("--loss <share>", "of packets between sites, each way, such as 1%")
    .option("--nat", "clusters are behind NAT: nothing outside can connect to them")
    .option("--topology <file>", "sites, hosts and links as YAML or JSON, instead of the above; see docs/lab.md")
    .option("--network <subnet>", "addresses of the lab; default: a free /20 of 10.213.0.0/17")
    .action(async (options) => (await commands()).up(edge, options));
  output(named(lab.command("ls")))
    .description("list the lab's hosts")
    .action(async (options) => (await commands()).list(edge, options));
  named(lab.command("exec <host> <command...>"))
    .description("run a command on a host: oak lab exec root -- oak status")
    .passThroughOptions()
    .action(async (host, command, options) => (await commands()).exec(edge, host, command, options));
  named(lab.command("logs <host>"))
    .description("what runs on a host has printed")
    .option("-f, --follow", "go on as output comes")
    .option("--tail <lines>", "begin with the last lines", count, 100)
    .action(async (host, options) => (await commands()).logs(edge, host, options));
  named(lab.command("down"))
    .description("end and remove the lab, with all its state")
    .action(async (options) => (await commands()).down(edge, options));
}

function addDisturbing(lab: Command, edge: Edge): void {
  named(lab.command("cut <a> [b]"))
    .description("lose every packet between two hosts or sites; or between one and all others")
    .action(async (a, b, options) => (await commands()).cut(edge, { a, b }, options));
  named(lab.command("heal [a] [b]"))
    .description("undo a cut, or all of them")
    .action(async (a, b, options) => (await commands()).heal(edge, a === undefined ? undefined : { a, b }, options));
  named(lab.command("kill <host>"))
    .description("cut the host's power: its processes end at once, its disk stays")
    .action(async (host, options) => (await commands()).kill(edge, host, options));
  named(lab.command("start <host>"))
    .description("start a host that was killed")
    .action(async (host, options) => (await commands()).start(edge, host, options));
}

function named(command: Command): Command {
  return command
    .option("--name <lab>", "the lab's name", "lab")
    .option("--state-dir <folder>", "folder of all labs", `${STATE_DIR}/lab`);
}
