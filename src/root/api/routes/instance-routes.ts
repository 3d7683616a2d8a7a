import * as z from "zod/mini";
import { AppError } from "../../../base/errors.ts";
import { quote } from "../../../protocol/names.ts";
import type { Instance, Service } from "../../model.ts";
import { InstanceDocument, instanceDocument } from "../documents.ts";
import { notFound } from "../errors.ts";
import { type ApiDeps, type Context, jsonRoute, type Route, rawRoute } from "../route.ts";
import { findService, surroundings } from "../service-view.ts";

const tag = "instances";
const DEFAULT_TAIL = 100;
const MAX_TAIL = 100_000;
/** In a path, stands for every instance. */
const ALL = -1;

export const INSTANCE_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "POST",
    path: "/api/service/:id/instance",
    tag,
    summary: "One more instance; answers before it is placed",
    access: "user",
    schema: z.object({ message: z.literal("ok"), instance_number: z.int() }),
    errors: ["NOT_FOUND", "NO_ADDRESS_LEFT"],
    handle: async ({ deps, params, caller }) => {
      const service = await findService(deps, caller, params.id!);
      const instance = await deps.store.addInstance(service.id, deps.clock.now());
      deps.orchestration.trigger();
      deps.changes.notify([service.id]);
      return { message: "ok" as const, instance_number: instance.number };
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/service/:id/instance/:number",
    tag,
    summary: "An instance",
    access: "user",
    schema: InstanceDocument,
    errors: ["NOT_FOUND"],
    handle: async (context) => {
      const { service, instance } = await findInstance(context);
      return instanceDocument(instance, service, await surroundings(context.deps));
    },
  }),
  jsonRoute({
    method: "DELETE",
    path: "/api/service/:id/instance/:number",
    tag,
    summary: "Withdraw an instance; -1 withdraws all",
    access: "user",
    schema: z.object({ message: z.literal("ok") }),
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      const number = instanceNumber(params.number!);
      const service = await findService(deps, caller, params.id!);
      const instances = await deps.store.instances({ serviceId: service.id });
      const wanted = number === ALL ? instances : [pick(instances, number)];
      for (const { id } of wanted) await deps.store.removeInstance(id);
      deps.orchestration.trigger();
      deps.changes.notify([service.id]);
      return { message: "ok" as const };
    },
  }),
  rawRoute({
    method: "GET",
    path: "/api/service/:id/instance/:number/logs",
    tag,
    summary: "What an instance has written to its standard output and error",
    access: "user",
    query: {
      tail: `How many of the last lines to begin with; ${DEFAULT_TAIL} unless told`,
      follow: "true: goes on as the instance writes",
    },
    contentType: "text/plain",
    errors: ["NOT_FOUND", "UNAVAILABLE"],
    handle: async (context) => {
      const { query, signal } = context.request;
      const tailLines = tailOf(query.get("tail"));
      const { instance } = await findInstance(context);
      const follow = query.get("follow") === "true";
      const log = context.deps.orchestration.openLog(instance.id, { follow, tailLines }, signal);
      return {
        status: 200,
        headers: { "content-type": "text/plain; charset=utf-8", "x-accel-buffering": "no" },
        body: await begun(log),
      };
    },
  }),
];

/** @throws AppError NOT_FOUND | INVALID_ID */
export async function findInstance({ deps, params, caller }: Context<undefined>): Promise<{
  service: Service;
  instance: Instance;
}> {
  const number = instanceNumber(params.number!);
  const service = await findService(deps, caller, params.id!);
  return { service, instance: pick(await instancesOf(deps, service), number) };
}

function instancesOf({ store }: ApiDeps, service: Service): Promise<readonly Instance[]> {
  return store.instances({ serviceId: service.id });
}

function pick(instances: readonly Instance[], number: number): Instance {
  const instance = instances.find((one) => one.number === number);
  if (!instance) throw notFound("instance", String(number));
  return instance;
}

function instanceNumber(text: string): number {
  if (!/^(?:-1|\d{1,9})$/.test(text)) throw new AppError("INVALID_ID", `${quote(text)} is not an instance number`);
  return Number(text);
}

function tailOf(text: string | null): number {
  if (text === null) return DEFAULT_TAIL;
  if (!/^\d{1,6}$/.test(text) || Number(text) > MAX_TAIL)
    throw new AppError("INVALID_BODY", `tail: ${quote(text)} is not a number of lines from 0 to ${MAX_TAIL}`);
  return Number(text);
}

/** Waits for the first part, so that a failure to begin is still an answer with a status of its own. */
async function begun(parts: AsyncIterable<string>): Promise<AsyncIterable<string>> {
  const iterator = parts[Symbol.asyncIterator]();
  const first = await iterator.next();
  return (async function* () {
    try {
      for (let part = first; !part.done; part = await iterator.next()) yield part.value;
    } finally {
      await iterator.return?.();
    }
  })();
}
