/** `oak explain`, `oak plan` and `oak replay`: why things are where they are, where they would be, and whether it would be so again. */
import * as z from "zod/mini";
import { AppError, describeError } from "../../base/errors.ts";
import { type DecisionRecord, replay as decideAgain, readRecord } from "../../scheduler/record.ts";
import { parseDescriptor } from "../descriptor-file.ts";
import { shortName } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { findService, openApi } from "../lookup.ts";
import { parseInstance } from "../names.ts";
import { paint, printable, showDocument } from "../output.ts";
import { readDescriptor } from "./deploy.ts";

const ExplainDocument = z.looseObject({
  job_name: z.string(),
  instance_number: z.number(),
  status: z.string(),
  status_detail: z.string(),
  timeline: z.array(z.looseObject({ at: z.number(), tier: z.string(), status: z.string(), detail: z.string() })),
  decisions: z.array(z.looseObject({ at: z.number(), tier: z.string(), lines: z.array(z.string()) })),
  missing: z.optional(z.string()),
});
type ExplainDocument = z.infer<typeof ExplainDocument>;

const PlanDocument = z.looseObject({
  ok: z.boolean(),
  applications: z.array(
    z.looseObject({
      name: z.string(),
      action: z.string(),
      services: z.array(
        z.looseObject({
          name: z.string(),
          action: z.string(),
          changes: z.array(z.looseObject({ field: z.string(), is: z.unknown(), would_be: z.unknown() })),
        }),
      ),
    }),
  ),
  placements: z.array(
    z.looseObject({
      job_name: z.string(),
      instance_number: z.number(),
      placed: z.boolean(),
      cluster_name: z.string(),
      status: z.string(),
      detail: z.string(),
    }),
  ),
  warnings: z.array(z.string()),
});
type PlanDocument = z.infer<typeof PlanDocument>;

export async function explain(edge: Edge, reference: string, options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  const { service: name, number } = parseInstance(reference);
  const service = await findService(api, name);
  const path = `/api/service/${service.microserviceID}`;
  const documents =
    number === undefined
      ? await api.get(z.array(ExplainDocument), `${path}/explain`)
      : [await api.get(ExplainDocument, `${path}/instance/${number}/explain`)];
  if (options.output !== "table") return showDocument(edge.terminal, options.output, documents);
  if (documents.length === 0) edge.terminal.err(`${shortName(service)} has no instance\n`);
  for (const document of documents) edge.terminal.out(describe(document, edge.terminal.colours));
}

function describe(document: ExplainDocument, colours: boolean): string {
  const { job_name, instance_number, status, status_detail, timeline, decisions, missing } = document;
  const width = Math.max(0, ...timeline.map((entry) => entry.status.length));
  const lines = [
    `${job_name}/${instance_number}  ${paint(status, colours)}  ${printable(status_detail)}`,
    ...timeline.map(
      ({ at, tier, status: word, detail }) =>
        `  ${time(at)}  ${tier.padEnd(7)}  ${word.padEnd(width)}  ${printable(detail)}`,
    ),
    ...decisions.flatMap(({ at, tier, lines: words }) => [
      `  ${time(at)}  the ${tier} decided`,
      ...words.map((line) => `    ${printable(line)}`),
    ]),
    ...(missing === undefined ? [] : [`  the cluster's part is missing: ${printable(missing)}`]),
  ];
  return `${lines.join("\n")}\n`;
}

function time(at: number): string {
  return new Date(at).toISOString();
}

export interface PlanOptions extends ClientOptions {
  readonly file: string;
  readonly instances: number;
}

export async function plan(edge: Edge, options: PlanOptions): Promise<void> {
  const { file, instances, output } = options;
  const descriptor = parseDescriptor(await readDescriptor(edge, file), file === "-" ? "standard input" : file);
  const api = await openApi(edge, options);
  const document = await api.call(PlanDocument, "POST", `/api/plan?instances=${instances}`, { body: descriptor });
  if (output !== "table") showDocument(edge.terminal, output, document);
  else
    edge.terminal.out(
      `${planLines(document)
        .map((line) => printable(line))
        .join("\n")}\n`,
    );
  if (!document.ok) throw new AppError("PLAN_REFUSED", "Deployed now, not everything would run: see above");
}

function planLines({ applications, placements, warnings }: PlanDocument): string[] {
  return [
    ...applications.flatMap(({ name, action, services }) => [
      action === "create"
        ? `+ application ${name}`
        : `! application ${name} is there already: "oak deploy" would be refused`,
      ...services.flatMap(serviceLines),
    ]),
    ...placements.map(({ job_name, instance_number, placed, cluster_name, status, detail }) =>
      placed
        ? `→ ${job_name}/${instance_number} to cluster ${cluster_name}`
        : `✗ ${job_name}/${instance_number} ${status}: ${detail}`,
    ),
    ...warnings.map((warning) => `warning: ${warning}`),
  ];
}

const SIGNS: Readonly<Record<string, string>> = { create: "+", change: "~", same: "=", only_there: "-" };

function serviceLines({ name, action, changes }: PlanDocument["applications"][number]["services"][number]): string[] {
  const note = action === "only_there" ? " is not in the descriptor" : "";
  return [
    `  ${SIGNS[action] ?? "?"} service ${name}${note}`,
    ...changes.map(({ field, is, would_be }) => `      ${field}: ${JSON.stringify(is)} → ${JSON.stringify(would_be)}`),
  ];
}

export async function replay(edge: Edge, file: string): Promise<void> {
  const records = recordsIn(parseJson(await readDescriptor(edge, file), file));
  if (records.length === 0) {
    throw new AppError("INPUT_INVALID", `${file}: holds no decision; make one with "oak explain SERVICE -o json"`);
  }
  let different = 0;
  for (const record of records) {
    const { same, differences } = decideAgain(record);
    if (!same) different += 1;
    const words = same ? "the same again" : "otherwise now";
    edge.terminal.out(`${record.instanceId}  ${time(record.at)}  ${record.tier}  ${words}\n`);
    for (const difference of differences) edge.terminal.out(`  ${printable(difference)}\n`);
  }
  if (different > 0) {
    throw new AppError("REPLAY_DIFFERS", `${different} of ${records.length} decisions would be different now`);
  }
}

/** Of what `oak explain -o json` prints, whole or in part. */
function recordsIn(value: unknown): DecisionRecord[] {
  if (Array.isArray(value)) return value.flatMap(recordsIn);
  if (typeof value !== "object" || value === null) return [];
  const record = readRecord(value);
  if (record) return [record];
  const { decisions, record: inner } = value as { decisions?: unknown; record?: unknown };
  return [...recordsIn(decisions), ...recordsIn(inner)];
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError("INPUT_INVALID", `${file}: is not JSON: ${describeError(cause)}`, { cause });
  }
}
