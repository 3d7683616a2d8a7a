/** `oak lab …`: prints what the lab tells. */
import type { ClientOptions, Edge, LabCut, LabStatus, LabTool, LabUpOptions } from "../edge.ts";
import { showRows } from "../output.ts";
import { readConfig } from "../role-settings.ts";

export interface LabOptions {
  readonly name: string;
  readonly stateDir: string;
}

interface UpOptions extends LabOptions, Omit<LabUpOptions, "topology"> {
  /** Path. */
  readonly topology?: string;
}

export async function up(edge: Edge, options: UpOptions): Promise<void> {
  const { name, stateDir, topology, ...rest } = options;
  const lab = await open(edge, { name, stateDir });
  const document = topology === undefined ? {} : { topology: (await readConfig(topology)).content };
  edge.terminal.err("making the lab; its parts start and join ...\n");
  const status = await lab.up({ ...rest, ...document }, edge.signal);
  showHosts(edge, status, "table");
  edge.terminal.err(howToUse(options, status));
}

export async function list(edge: Edge, options: LabOptions & Pick<ClientOptions, "output">): Promise<void> {
  const status = await (await open(edge, options)).status();
  showHosts(edge, status, options.output);
  if (options.output === "table") for (const cut of status.cuts) edge.terminal.err(`cut: ${describe(cut)}\n`);
}

export async function exec(edge: Edge, host: string, command: readonly string[], options: LabOptions): Promise<void> {
  // Everything after the host's name is the command's own, a separating "--" included.
  const own = command[0] === "--" ? command.slice(1) : command;
  const [file, args] = await (await open(edge, options)).command(host, own);
  edge.become(file, args);
}

export async function logs(
  edge: Edge,
  host: string,
  options: LabOptions & { readonly follow?: true; readonly tail: number },
): Promise<void> {
  const files = await (await open(edge, options)).logs(host);
  if (files.length === 0) edge.terminal.err(`nothing has run on ${host}\n`);
  else edge.become("tail", ["-n", String(options.tail), ...(options.follow ? ["-F"] : []), "--", ...files]);
}

export async function down(edge: Edge, options: LabOptions): Promise<void> {
  const wasThere = await (await open(edge, options)).down();
  edge.terminal.err(wasThere ? `lab ${options.name} removed\n` : `there is no lab ${options.name}\n`);
}

export async function cut(edge: Edge, what: LabCut, options: LabOptions): Promise<void> {
  await (await open(edge, options)).cut(what);
  edge.terminal.err(`cut: ${describe(what)}\n`);
}

export async function heal(edge: Edge, what: LabCut | undefined, options: LabOptions): Promise<void> {
  await (await open(edge, options)).heal(what);
  edge.terminal.err(what ? `healed: ${describe(what)}\n` : "everything is healed\n");
}

export async function kill(edge: Edge, host: string, options: LabOptions): Promise<void> {
  await (await open(edge, options)).kill(host);
  edge.terminal.err(`host ${host} is off\n`);
}

export async function start(edge: Edge, host: string, options: LabOptions): Promise<void> {
  await (await open(edge, options)).start(host, edge.signal);
  edge.terminal.err(`host ${host} is running\n`);
}

export async function carry(edge: Edge, file: string): Promise<void> {
  await (await edge.labs()).carry(file, () => edge.terminal.out("ready\n"), edge.signal);
}

async function open(edge: Edge, { name, stateDir }: LabOptions): Promise<LabTool> {
  return (await edge.labs()).open({ name, stateDir });
}

function showHosts(edge: Edge, status: LabStatus, format: ClientOptions["output"]): void {
  showRows(edge.terminal, {
    format,
    rows: status.hosts,
    documents: status,
    none: "No host",
    columns: [
      { title: "HOST", value: (host) => host.name },
      { title: "ROLE", value: (host) => host.role },
      { title: "SITE", value: (host) => host.site },
      { title: "ADDRESS", value: (host) => host.address },
      { title: "STATUS", value: (host) => host.status },
    ],
  });
}

function howToUse({ name }: LabOptions, { server, credentials, hosts }: LabStatus): string {
  const root = hosts.find(({ role }) => role === "root")!.name;
  const lab = name === "lab" ? "" : ` --name ${name}`;
  return `
On a host:     oak lab exec${lab} ${root} -- oak status
From here:     export OAK_SERVER=${server} OAK_CREDENTIALS=${credentials}
Remove it:     oak lab down${lab}
`;
}

function describe({ a, b }: LabCut): string {
  return b === undefined ? `${a} from everything` : `${a} from ${b}`;
}
