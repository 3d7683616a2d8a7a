/** Commands about machines: clusters, workers, and the images of this one. */
import type { Command } from "commander";
import { CONTAINERD_SOCKET, client, LOCAL_CLUSTER, OPERATOR_TOKEN_FILE, output } from "./command-options.ts";
import type { Edge } from "./edge.ts";

const clusters = () => import("./commands/clusters.ts");
const workers = () => import("./commands/workers.ts");
const images = () => import("./commands/images.ts");

export function addClusterCommands(cluster: Command, edge: Edge): void {
  client(cluster.command("ls"))
    .description("list the root's clusters")
    .action(async (options) => (await clusters()).list(edge, options));
  client(cluster.command("show <cluster>"))
    .description("a cluster's aggregate")
    .action(async (name, options) => (await clusters()).show(edge, name, options));
  client(cluster.command("rm <cluster...>"))
    .description("forget clusters")
    .action(async (names, options) => (await clusters()).remove(edge, names, options));
  client(cluster.command("token"))
    .description("let a new cluster join: prints the command for it")
    .action(async (options) => (await clusters()).token(edge, options));
}

export function addWorkerCommands(worker: Command, edge: Edge): void {
  operator(worker.command("ls"))
    .description("list the cluster's workers")
    .action(async (options) => (await workers()).list(edge, options));
  operator(worker.command("show <worker>"))
    .description("a worker and its instances")
    .action(async (name, options) => (await workers()).show(edge, name, options));
  operator(worker.command("rm <worker...>"))
    .description("forget workers; their instances are placed anew")
    .action(async (names, options) => (await workers()).remove(edge, names, options));
  operator(worker.command("token"))
    .description("let a new worker join: prints the command for it")
    .action(async (options) => (await workers()).token(edge, options));
}

export function addImageCommands(program: Command, edge: Edge): void {
  const image = program
    .command("image")
    .description("images of this machine's containerd, for sites without a registry");
  local(image.command("build"))
    .description("make an image from files, without Docker")
    .requiredOption("-f, --file <file>", "what the image holds; see examples/hello/image.yaml")
    .action(async (options) => (await images()).build(edge, options.file, options));
  local(image.command("load <archive>"))
    .description("read an OCI or Docker archive")
    .action(async (archive, options) => (await images()).load(edge, archive, options));
  local(image.command("ls"))
    .description("list images")
    .action(async (options) => (await images()).list(edge, options));
  local(image.command("rm <image...>"))
    .description("remove images")
    .action(async (names, options) => (await images()).remove(edge, names, options));
}

function operator(command: Command): Command {
  return output(command)
    .option("--cluster <url>", "join URL of the cluster", LOCAL_CLUSTER)
    .option("--operator-token-file <file>", "the cluster's operator token; or OAK_OPERATOR_TOKEN", OPERATOR_TOKEN_FILE);
}

function local(command: Command): Command {
  return output(command).option("--containerd-socket <path>", "unix socket of containerd", CONTAINERD_SOCKET);
}
