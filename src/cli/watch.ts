/** Follows a service's events until its watched instances run, or one of them fails; shows each change on the way. */
import { pause } from "../base/clock.ts";
import { AppError, hasCode } from "../base/errors.ts";
import { validate } from "../base/validation.ts";
import type { Api } from "./api.ts";
import { ServiceDocument, shortName } from "./documents.ts";
import type { Edge } from "./edge.ts";
import { paint, printable } from "./output.ts";
import { judge, observe, type Sights, type Verdict } from "./progress.ts";

const RECONNECT_MS = 1000;

export interface Watched {
  readonly service: ServiceDocument;
  readonly instances: readonly number[];
}

export type Outcome = Exclude<Verdict, { kind: "waiting" }>;

/** @throws the signal's reason on abort, also when that was a limit of time */
export async function watch(
  edge: Edge,
  api: Api,
  { service, instances }: Watched,
  signal: AbortSignal,
): Promise<Outcome> {
  const oneShot = service.one_shot === true;
  const stop = new AbortController();
  const watching = AbortSignal.any([signal, stop.signal]);
  let sights: Sights = new Map();
  const updates = documents(edge, api, service.microserviceID, watching);
  try {
    let next = updates.next();
    for (;;) {
      const verdict = judge(sights, { oneShot, now: edge.clock.monotonic() });
      if (sights.size > 0 && verdict.kind !== "waiting") return verdict;
      const again = verdict.kind === "waiting" ? verdict.againInMs : undefined;
      const update = await firstOf(edge, next, again, watching);
      if (update === "later") continue;
      signal.throwIfAborted();
      if (update.done) return { kind: "failed", instance: instances[0] ?? 0, reason: "the service was removed" };
      const before = sights;
      sights = observe(before, { service: update.value, watched: instances, now: edge.clock.monotonic() });
      showChanges(edge, shortName(service), before, sights);
      next = updates.next();
    }
  } finally {
    stop.abort();
    // Ends with the abort; whatever it still throws is the quiet end of a stream that nobody reads.
    updates.return().catch(() => undefined);
  }
}

/** The next document, or "later" after `ms`. */
async function firstOf<T>(edge: Edge, next: Promise<T>, ms: number | undefined, signal: AbortSignal) {
  if (ms === undefined) return await next;
  const woken = new AbortController();
  const later = pause(edge.clock, ms, AbortSignal.any([signal, woken.signal])).then(() => "later" as const);
  try {
    return await Promise.race([next, later]);
  } finally {
    woken.abort();
  }
}

/** The service's documents as they change, over as many connections as it takes; ends when the service is gone. */
async function* documents(
  { clock }: Edge,
  api: Api,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<ServiceDocument, void, void> {
  while (!signal.aborted) {
    try {
      for await (const { event, data } of api.events(`/api/service/${id}/events`, signal)) {
        if (event !== "service") continue;
        const result = validate(ServiceDocument, JSON.parse(data));
        if (!result.ok) throw new AppError("ANSWER_INVALID", "The root sent a service that this program does not know");
        yield result.value;
      }
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return;
      if (!hasCode(error, "SERVER_UNREACHABLE")) throw error;
    }
    await pause(clock, RECONNECT_MS, signal);
  }
}

function showChanges({ terminal }: Edge, name: string, before: Sights, now: Sights): void {
  for (const [number, { status, detail }] of now) {
    const old = before.get(number);
    if (old?.status === status && old.detail === detail) continue;
    const text = detail === "" || detail === status ? "" : `  ${printable(detail)}`;
    terminal.err(`${name}/${number}  ${paint(status, terminal.colours)}${text}\n`);
  }
}
