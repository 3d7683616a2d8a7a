/** `oak deploy` and `oak scale`: ask for instances, then watch until they run or it is clear why they do not. */
import { readFile } from "node:fs/promises";
import { deadline } from "../../base/clock.ts";
import { AppError, describeError, hasCode } from "../../base/errors.ts";
import { formatPort, parsePorts } from "../../protocol/ports.ts";
import type { Api } from "../api.ts";
import { parseDescriptor } from "../descriptor-file.ts";
import {
  Anything,
  type ApplicationDocument,
  Applications,
  type InstanceDocument,
  instancesOf,
  NewInstance,
  type ServiceDocument,
  shortName,
} from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { findService, getService, openApi, servicesOf } from "../lookup.ts";
import { printable, showRows } from "../output.ts";
import { surplus } from "../progress.ts";
import { type Outcome, type Watched, watch } from "../watch.ts";

export interface WaitOptions extends ClientOptions {
  readonly detach?: boolean;
  readonly timeout: number;
}

export interface DeployOptions extends WaitOptions {
  readonly file: string;
  readonly instances: number;
  readonly keep?: boolean;
}

export async function deploy(edge: Edge, options: DeployOptions): Promise<void> {
  const { file } = options;
  const descriptor = parseDescriptor(await readDescriptor(edge, file), file === "-" ? "standard input" : file);
  const api = await openApi(edge, options);
  const applications = await register(api, descriptor);
  const services = (await Promise.all(applications.map(({ applicationID }) => servicesOf(api, applicationID)))).flat();
  try {
    const watched = await Promise.all(services.map((service) => addInstances(api, service, options.instances)));
    await settle(edge, api, watched, options);
  } catch (error) {
    // Of an interrupted or slow deployment nobody knows that it fails.
    if (options.keep || !hasCode(error, "DEPLOY_FAILED")) throw error;
    await Promise.all(applications.map(({ applicationID }) => remove(api, applicationID)));
    throw new AppError("DEPLOY_FAILED", `${describeError(error)}\nIt was removed again (--keep leaves it registered)`, {
      cause: error,
    });
  }
}

export async function scale(edge: Edge, reference: string, count: number, options: WaitOptions): Promise<void> {
  const api = await openApi(edge, options);
  const service = await findService(api, reference);
  const present = instancesOf(service).filter(({ status }) => status !== "UNDEPLOYED" && status !== "COMPLETED");
  for (const number of surplus(present, count)) {
    await api.call(Anything, "DELETE", `/api/service/${service.microserviceID}/instance/${number}`);
    edge.terminal.err(`${shortName(service)}/${number}  removed\n`);
  }
  const missing = Math.max(0, count - present.length);
  const watched = missing > 0 ? await addInstances(api, service, missing) : { service, instances: [] };
  try {
    await settle(edge, api, [watched], options);
  } catch (error) {
    if (!hasCode(error, "DEPLOY_FAILED")) throw error;
    const back = `oak scale ${shortName(service)} ${present.length}`;
    const message = `${describeError(error)}\nIt stays wanted and is tried again; "${back}" takes it back`;
    throw new AppError("DEPLOY_FAILED", message, { cause: error });
  }
}

/** @throws AppError INPUT_INVALID */
export async function readDescriptor(edge: Edge, file: string): Promise<string> {
  if (file === "-") return await edge.terminal.readInput();
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new AppError("INPUT_INVALID", `Cannot read "${file}": ${describeError(cause)}`, { cause });
  }
}

/** Registers all applications of the descriptor, and finds them in an answer that lists every one of the caller. */
async function register(
  api: Api,
  descriptor: { applications: readonly { application_name: string; application_namespace: string }[] },
): Promise<ApplicationDocument[]> {
  let all: readonly ApplicationDocument[] | null;
  try {
    all = await api.call(Applications, "POST", "/api/application/", { body: descriptor });
  } catch (error) {
    if (!hasCode(error, "NAME_TAKEN")) throw error;
    throw new AppError(
      "NAME_TAKEN",
      `${describeError(error)}\nRemove it first (oak app rm ${fullName(descriptor.applications[0]!)}), change its number of instances (oak scale SERVICE N), or deploy under another name`,
      { cause: error },
    );
  }
  const names = new Set(descriptor.applications.map(fullName));
  return (all ?? []).filter((application) => names.has(fullName(application)));
}

function fullName(application: { application_name: string; application_namespace: string }): string {
  return `${application.application_name}.${application.application_namespace}`;
}

/** Asks for `count` more instances; tells which numbers they got. */
async function addInstances(api: Api, service: ServiceDocument, count: number): Promise<Watched> {
  const instances: number[] = [];
  for (let added = 0; added < count; added++) {
    const path = `/api/service/${service.microserviceID}/instance`;
    instances.push((await api.call(NewInstance, "POST", path)).instance_number);
  }
  return { service, instances };
}

async function settle(edge: Edge, api: Api, all: readonly Watched[], options: WaitOptions): Promise<void> {
  if (!options.detach) await waitForAll(edge, api, all, options.timeout);
  const services = await Promise.all(all.map(({ service }) => getService(api, service.microserviceID)));
  for (const service of services) {
    for (const warning of service.warnings ?? []) edge.terminal.err(`warning: ${shortName(service)}: ${warning}\n`);
  }
  const rows = services.flatMap((service) => instancesOf(service).map((instance) => ({ service, instance })));
  showRows(edge.terminal, {
    format: options.output,
    rows,
    documents: services,
    none: "No instance",
    columns: [
      { title: "INSTANCE", value: ({ service, instance }) => `${shortName(service)}/${instance.instance_number}` },
      { title: "STATUS", value: ({ instance }) => instance.status },
      { title: "CLUSTER", value: ({ instance }) => instance.cluster_name },
      { title: "REACHED AT", value: ({ service, instance }) => reachedAt(service, instance) },
    ],
  });
}

function reachedAt(service: ServiceDocument, instance: InstanceDocument): string {
  const ports = parsePorts(service.port ?? "");
  if ("error" in ports) return "";
  return ports.map((port) => `${instance.publicip || "?"}:${formatPort(port)}`).join(", ");
}

async function waitForAll(edge: Edge, api: Api, all: readonly Watched[], timeoutSeconds: number): Promise<void> {
  const limit = deadline(timeoutSeconds * 1000, edge.signal);
  const stop = new AbortController();
  const signal = AbortSignal.any([limit, stop.signal]);
  let failed: { watched: Watched; outcome: Outcome & { kind: "failed" } } | undefined;
  await Promise.allSettled(
    all
      .filter(({ instances }) => instances.length > 0)
      .map(async (watched) => {
        const outcome = await watch(edge, api, watched, signal);
        if (outcome.kind !== "failed" || failed) return;
        failed = { watched, outcome };
        stop.abort();
      }),
  ).then((results) => {
    if (failed) return;
    edge.signal.throwIfAborted();
    if (limit.aborted) {
      throw new AppError(
        "DEPLOY_TIMEOUT",
        `Not everything runs after ${timeoutSeconds} s; it goes on without us: look with "oak status", or wait longer with --timeout`,
      );
    }
    const broken = results.find((result) => result.status === "rejected");
    if (broken) throw broken.reason;
  });
  if (failed) throw await failure(edge, api, failed.watched.service, failed.outcome);
}

async function failure(
  edge: Edge,
  api: Api,
  service: ServiceDocument,
  { instance, reason }: { instance: number; reason: string },
): Promise<AppError> {
  const lines = await lastLines(edge, api, service, instance);
  if (lines.length > 0) edge.terminal.err(`Its last output:\n${lines.map((line) => `  ${line}\n`).join("")}`);
  return new AppError("DEPLOY_FAILED", `${shortName(service)}/${instance} does not run: ${printable(reason)}`);
}

async function lastLines(edge: Edge, api: Api, service: ServiceDocument, instance: number): Promise<string[]> {
  let text = "";
  try {
    const signal = deadline(3000, edge.signal);
    const path = `/api/service/${service.microserviceID}/instance/${instance}/logs?tail=20`;
    for await (const chunk of api.stream(path, signal)) text += chunk;
  } catch {
    // Not every failure has an output: an image that is not there never ran.
  }
  return printable(text, true)
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-20);
}

async function remove(api: Api, applicationId: string): Promise<void> {
  await api.call(Anything, "DELETE", `/api/application/${applicationId}`);
}
