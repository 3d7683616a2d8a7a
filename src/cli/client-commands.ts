/** Commands that speak to the root: applications and what they run, users, what there is. */
import type { Command } from "commander";
import { client, count, password, positive, STATE_DIR, server } from "./command-options.ts";
import type { Edge } from "./edge.ts";

const deployment = () => import("./commands/deploy.ts");
const applications = () => import("./commands/applications.ts");
const explanations = () => import("./commands/explain.ts");
const services = () => import("./commands/services.ts");
const account = () => import("./commands/account.ts");
const users = () => import("./commands/users.ts");
const registries = () => import("./commands/registries.ts");
const status = () => import("./commands/status.ts");

export function addClientCommands(program: Command, edge: Edge): void {
  addDeployment(program, edge);
  addExplanations(program, edge);
  addApplications(program.command("app").description("applications"), edge);
  addServices(program.command("service").description("services of applications"), edge);
  addInstances(program.command("instance").description("instances of services"), edge);
  client(program.command("status"))
    .description("what runs, and what does not and why")
    .action(async (options) => (await status()).status(edge, options));
  client(program.command("version"))
    .description("versions of this program and of the root")
    .action(async (options) => (await status()).version(edge, options));
  addLogin(program, edge);
  addUsers(program.command("user").description("users of the root"), edge);
  addRegistries(program.command("registry").description("credentials to pull images with"), edge);
}

function addDeployment(program: Command, edge: Edge): void {
  waiting(program.command("deploy"))
    .description("register the applications of a descriptor, run them, and wait until they do")
    .requiredOption("-f, --file <file>", "SLA descriptor, JSON or YAML; - reads standard input")
    .option("-n, --instances <number>", "instances of each service", count, 1)
    .option("--keep", "leave the applications registered when they do not run")
    .action(async (options) => (await deployment()).deploy(edge, options));
  waiting(program.command("scale <service>"))
    .description("change how many instances a service has")
    .argument("<number>", "how many", count)
    .action(async (service, number, options) => (await deployment()).scale(edge, service, number, options));
  server(program.command("logs <service>"))
    .description("print the output of SERVICE, or of one instance: SERVICE/NUMBER")
    .option("-f, --follow", "go on as output comes")
    .option("--tail <lines>", "begin with the last lines", count, 100)
    .action(async (service, options) => (await import("./commands/logs.ts")).logs(edge, service, options));
}

function addExplanations(program: Command, edge: Edge): void {
  client(program.command("plan"))
    .description(
      "what a descriptor would change, and where its instances would go; changes nothing, ends with 2 if not all would be placed",
    )
    .requiredOption("-f, --file <file>", "SLA descriptor, JSON or YAML; - reads standard input")
    .option("-n, --instances <number>", "instances of each service that is new", count, 1)
    .action(async (options) => (await import("./commands/plan.ts")).plan(edge, options));
  client(program.command("explain <service>"))
    .description("why instances are where they are, or nowhere: of SERVICE, or of SERVICE/NUMBER")
    .action(async (service, options) => (await explanations()).explain(edge, service, options));
  program
    .command("replay <file>")
    .description('decide again what "oak explain -o json" has recorded, and compare')
    .action(async (file) => (await explanations()).replay(edge, file));
}

function addApplications(app: Command, edge: Edge): void {
  client(app.command("ls"))
    .description("list applications")
    .action(async (options) => (await applications()).list(edge, options));
  client(app.command("show <application>"))
    .description("an application and its services")
    .action(async (name, options) => (await applications()).show(edge, name, options));
  client(app.command("rm <application...>"))
    .description("remove applications with all they run")
    .action(async (names, options) => (await applications()).remove(edge, names, options));
}

function addServices(service: Command, edge: Edge): void {
  client(service.command("ls [application]"))
    .description("list services")
    .action(async (application, options) => (await services()).list(edge, application, options));
  client(service.command("show <service>"))
    .description("a service and its instances")
    .action(async (name, options) => (await services()).show(edge, name, options));
  client(service.command("rm <service...>"))
    .description("remove services with their instances")
    .action(async (names, options) => (await services()).remove(edge, names, options));
}

function addInstances(instance: Command, edge: Edge): void {
  client(instance.command("ls [service]"))
    .description("list instances, and why they are as they are")
    .action(async (name, options) => (await services()).listInstances(edge, name, options));
  client(instance.command("show <instance>"))
    .description("an instance: SERVICE/NUMBER")
    .action(async (name, options) => (await services()).showInstance(edge, name, options));
  client(instance.command("rm <instance...>"))
    .description("remove instances: SERVICE/NUMBER")
    .action(async (names, options) => (await services()).removeInstances(edge, names, options));
}

function addLogin(program: Command, edge: Edge): void {
  password(program.command("login [server]"))
    .description("log in to a root, for the commands that follow")
    .option("-u, --user <name>", "user", "Admin")
    .action(async (url, options) => (await account()).login(edge, url, options));
  program
    .command("logout")
    .description("forget the login")
    .action(async () => (await account()).logout(edge));
}

function addUsers(user: Command, edge: Edge): void {
  client(user.command("ls"))
    .description("list users; needs the role Admin")
    .action(async (options) => (await users()).list(edge, options));
  server(password(user.command("add <name>")))
    .description("add a user; needs the role Admin")
    .option("--email <address>", "e-mail address", "")
    .option("--role <role...>", "Admin, Application_Provider or Infrastructure_Provider", ["Application_Provider"])
    .action(async (name, options) => (await users()).add(edge, name, options));
  client(user.command("rm <name...>"))
    .description("remove users; needs the role Admin")
    .action(async (names, options) => (await users()).remove(edge, names, options));
  server(password(user.command("passwd")))
    .description("change your own password; from standard input: the old and the new one, a line each")
    .action(async (options) => (await users()).changePassword(edge, options));
  user
    .command("reset-admin")
    .description("on the root's machine, as root: give Admin a new password and print it, also while no root runs")
    .option("--state-dir <folder>", "state folder of `oak up` or of the root", STATE_DIR)
    .action(async (options) => (await users()).resetAdmin(edge, options));
}

function addRegistries(registry: Command, edge: Edge): void {
  client(registry.command("ls"))
    .description("list registries")
    .action(async (options) => (await registries()).list(edge, options));
  server(password(registry.command("add <name> <registry>")))
    .description("store credentials of a registry, for example ghcr.io; services name them (registry: NAME)")
    .requiredOption("-u, --user <name>", "user at the registry")
    .action(async (name, host, options) => (await registries()).add(edge, name, host, options));
  client(registry.command("rm <name...>"))
    .description("forget credentials")
    .action(async (names, options) => (await registries()).remove(edge, names, options));
}

function waiting(command: Command): Command {
  return client(command)
    .option("-d, --detach", "do not wait until it runs")
    .option("--timeout <seconds>", "how long to wait", positive, 300);
}
