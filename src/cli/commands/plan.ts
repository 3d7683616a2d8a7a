/** `oak plan`: what a descriptor would change, and where instances would go. Changes nothing. */
import * as z from "zod/mini";
import { AppError, describeError, hasCode } from "../../base/errors.ts";
import { parseDescriptor } from "../descriptor-file.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { openApi } from "../lookup.ts";
import { printable, showDocument } from "../output.ts";
import { readDescriptor } from "./deploy.ts";

const Numbers = z.array(z.number());

const PlannedService = z.looseObject({
  name: z.string(),
  action: z.string(),
  changes: z.array(z.looseObject({ field: z.string(), is: z.unknown(), would_be: z.unknown() })),
  instances: z.looseObject({ add: Numbers, replace: Numbers, keep: Numbers, remove: Numbers }),
});
type PlannedService = z.infer<typeof PlannedService>;

const PlannedPlacement = z.looseObject({
  job_name: z.string(),
  instance_number: z.number(),
  placed: z.boolean(),
  cluster_name: z.string(),
  worker_name: z.string(),
  status: z.string(),
  detail: z.string(),
  decisions: z.array(z.looseObject({ tier: z.string(), cluster_name: z.string(), lines: z.array(z.string()) })),
});
type PlannedPlacement = z.infer<typeof PlannedPlacement>;

const PlanDocument = z.looseObject({
  ok: z.boolean(),
  applications: z.array(z.looseObject({ name: z.string(), action: z.string(), services: z.array(PlannedService) })),
  placements: z.array(PlannedPlacement),
  warnings: z.array(z.string()),
});
type PlanDocument = z.infer<typeof PlanDocument>;

export interface PlanOptions extends ClientOptions {
  readonly file: string;
  readonly instances: number;
}

export async function plan(edge: Edge, options: PlanOptions): Promise<void> {
  const { file, output } = options;
  const document = await ask(edge, options, file === "-" ? "standard input" : file);
  if (output !== "table") showDocument(edge.terminal, output, document);
  else for (const line of planLines(document)) edge.terminal.out(`${printable(line)}\n`);
  if (!document.ok) throw new AppError("PLAN_REFUSED", "Not everything would be placed now: see above");
}

async function ask(edge: Edge, options: PlanOptions, source: string): Promise<PlanDocument> {
  const descriptor = parseDescriptor(await readDescriptor(edge, options.file), source);
  const api = await openApi(edge, options);
  try {
    return await api.call(PlanDocument, "POST", `/api/plan?instances=${options.instances}`, { body: descriptor });
  } catch (error) {
    // Two of one name in one descriptor: a fault of the file.
    if (!hasCode(error, "NAME_TAKEN")) throw error;
    throw new AppError("INPUT_INVALID", `${source}: ${describeError(error)}`, { cause: error });
  }
}

function planLines({ applications, placements, warnings }: PlanDocument): string[] {
  return [
    ...applications.flatMap(({ name, action, services }) => [
      applicationLine(name, action),
      ...services.flatMap(serviceLines),
    ]),
    ...placements.flatMap(placementLines),
    ...warnings.map((warning) => `warning: ${warning}`),
  ];
}

function applicationLine(name: string, action: string): string {
  if (action === "create") return `+ application ${name}`;
  if (action === "same") return `= application ${name}`;
  if (action === "change") return `~ application ${name}`;
  return `! application ${name} is another user's: "oak deploy" would be refused`;
}

const SIGNS: Readonly<Record<string, string>> = { create: "+", change: "~", same: "=", remove: "-" };

function serviceLines({ name, action, changes, instances }: PlannedService): string[] {
  const { add, replace, keep, remove } = instances;
  const counts = [
    ...counted(add, "new"),
    ...counted(replace, "made anew"),
    ...counted(keep, "kept"),
    ...counted(remove, "removed"),
  ];
  const note = action === "remove" ? " is not in the descriptor" : "";
  return [
    `  ${SIGNS[action] ?? "?"} service ${name}${note}${counts.length > 0 ? `: ${counts.join(", ")}` : ""}`,
    ...changes.map(({ field, is, would_be }) => `      ${field}: ${shown(is)} → ${shown(would_be)}`),
  ];
}

function counted(numbers: readonly number[], what: string): string[] {
  if (numbers.length === 0) return [];
  return [`${numbers.length} ${numbers.length === 1 ? "instance" : "instances"} ${what}`];
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "none";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function placementLines({ job_name, instance_number, placed, ...rest }: PlannedPlacement): string[] {
  const name = `${job_name}/${instance_number}`;
  const { cluster_name, worker_name, status, detail, decisions } = rest;
  if (placed) {
    const worker = worker_name === "" ? "" : `, worker ${worker_name}`;
    return [`→ ${name} to cluster ${cluster_name}${worker}${detail === "" ? "" : ` (${detail})`}`];
  }
  return [
    `✗ ${name} ${status}: ${detail}`,
    ...decisions
      .filter(({ lines }) => lines.length > 0)
      .flatMap(({ tier, cluster_name: cluster, lines }) => [
        `    the ${tier}${cluster === "" ? "" : ` ${cluster}`} would decide`,
        ...lines.map((line) => `      ${line}`),
      ]),
  ];
}
