/** Interests and route updates in parts that fit any link. The parts are sent in order; together they mean what the whole meant. */
import type { Interest, RouteUpdate, ServiceRoute } from "./route.ts";

/** At most 150 bytes each: the part stays well below what the broker takes in one packet (2 MiB). */
const MAX_KEYS = 5_000;
/** A part is at least one table, and a table is never cut. */
const MAX_UPDATE_CHARS = 512 * 1024;

/** Only the first part is `full`. */
export function interestParts({ full, add, remove }: Interest): Interest[] {
  const parts: Interest[] = chunks(add).map((some) => ({ full: false, add: some, remove: [] }));
  parts.push(...chunks(remove).map((some) => ({ full: false, add: [], remove: some })));
  if (!full) return parts;
  const [first = { full, add: [], remove: [] }, ...rest] = parts;
  return [{ ...first, full }, ...rest];
}

function chunks<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / MAX_KEYS) }, (_, index) =>
    items.slice(index * MAX_KEYS, (index + 1) * MAX_KEYS),
  );
}

/**
 * Answers come first, since a receiver keeps only tables that an answer to a key of its own covers.
 * A table with many instances is a part of its own, and as large as it is.
 */
export function updateParts({ tables, answers, gone }: RouteUpdate): RouteUpdate[] {
  const parts: { tables: ServiceRoute[]; answers: RouteUpdate["answers"]; gone: string[]; chars: number }[] = [];
  const partFor = (chars: number) => {
    let part = parts.at(-1);
    if (!part || part.chars + chars > MAX_UPDATE_CHARS) {
      part = { tables: [], answers: [], gone: [], chars: 0 };
      parts.push(part);
    }
    part.chars += chars;
    return part;
  };
  for (const answer of answers) partFor(200 + 30 * answer.serviceIds.length).answers.push(answer);
  for (const table of tables) partFor(tableChars(table)).tables.push(table);
  for (const serviceId of gone) partFor(30).gone.push(serviceId);
  return parts.map(({ chars: _estimate, ...part }) => part);
}

/** What it is at most, without encoding it. */
function tableChars({ instances, workers }: ServiceRoute): number {
  return 450 + 150 * instances.length + workers.reduce((sum, { subnets }) => sum + 80 + 22 * subnets.length, 0);
}

/** @param textOf JSON of a table: a sender to many encodes each once */
export function updateText({ tables, answers, gone }: RouteUpdate, textOf: (table: ServiceRoute) => string): string {
  return `{"tables":[${tables.map(textOf).join()}],"answers":${JSON.stringify(answers)},"gone":${JSON.stringify(gone)}}`;
}
