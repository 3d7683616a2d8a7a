/** `oak explain` and `oak replay`: why things are where they are, and whether it would be so again. */
import * as z from "zod/mini";
import { AppError, describeError } from "../../base/errors.ts";
import { type DecisionRecord, replay as decideAgain, readRecord } from "../../scheduler/record.ts";
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
  remark: z.optional(z.string()),
});
type ExplainDocument = z.infer<typeof ExplainDocument>;

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
  const { job_name, instance_number, status, status_detail, timeline, decisions, missing, remark } = document;
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
    ...(remark === undefined ? [] : [`  ${printable(remark)}`]),
  ];
  return `${lines.join("\n")}\n`;
}

function time(at: number): string {
  return new Date(at).toISOString();
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
