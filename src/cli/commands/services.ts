/** `oak service …` and `oak instance …` */
import { AppError } from "../../base/errors.ts";
import { quote } from "../../protocol/names.ts";
import type { Api } from "../api.ts";
import { Anything, type InstanceDocument, instancesOf, type ServiceDocument, shortName } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { findApplication, findService, listServices, openApi, servicesOf } from "../lookup.ts";
import { parseInstance } from "../names.ts";
import { type Column, showDocument, showRows } from "../output.ts";

export async function list(edge: Edge, application: string | undefined, options: ClientOptions): Promise<void> {
  const services = await servicesIn(await openApi(edge, options), application);
  showRows(edge.terminal, {
    format: options.output,
    rows: services,
    none: "No service",
    columns: [
      { title: "SERVICE", value: fullName },
      { title: "RUNNING", value: (service) => `${running(service)}/${instancesOf(service).length}` },
      { title: "IMAGE", value: (service) => service.image ?? service.code },
      { title: "PORTS", value: (service) => service.port },
      { title: "ID", value: (service) => service.microserviceID },
    ],
  });
}

export async function show(edge: Edge, name: string, options: ClientOptions): Promise<void> {
  const service = await findService(await openApi(edge, options), name);
  showDocument(edge.terminal, options.output, service);
}

export async function remove(edge: Edge, names: readonly string[], options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  for (const name of names) {
    const service = await findService(api, name);
    await api.call(Anything, "DELETE", `/api/service/${service.microserviceID}`);
    edge.terminal.err(`service ${shortName(service)} removed\n`);
  }
}

export async function listInstances(edge: Edge, service: string | undefined, options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  const services = service === undefined ? await listServices(api) : [await findService(api, service)];
  showRows(edge.terminal, {
    format: options.output,
    rows: services.flatMap(withInstances),
    documents: services.flatMap(instancesOf),
    none: "No instance",
    columns: INSTANCE_COLUMNS,
  });
}

export async function showInstance(edge: Edge, reference: string, options: ClientOptions): Promise<void> {
  const { instance } = await findInstance(await openApi(edge, options), reference);
  showDocument(edge.terminal, options.output, instance);
}

export async function removeInstances(edge: Edge, references: readonly string[], options: ClientOptions) {
  const api = await openApi(edge, options);
  for (const reference of references) {
    const { service, instance } = await findInstance(api, reference);
    await api.call(Anything, "DELETE", `/api/service/${service.microserviceID}/instance/${instance.instance_number}`);
    edge.terminal.err(`instance ${shortName(service)}/${instance.instance_number} removed\n`);
  }
}

interface Row {
  readonly service: ServiceDocument;
  readonly instance: InstanceDocument;
}

export const INSTANCE_COLUMNS: readonly Column<Row>[] = [
  { title: "INSTANCE", value: ({ service, instance }) => `${shortName(service)}/${instance.instance_number}` },
  { title: "STATUS", value: ({ instance }) => instance.status },
  { title: "CLUSTER", value: ({ instance }) => instance.cluster_name },
  { title: "ADDRESS", value: ({ instance }) => instance.publicip },
  { title: "WHY", value: ({ instance }) => instance.status_detail },
];

export function withInstances(service: ServiceDocument): Row[] {
  return instancesOf(service).map((instance) => ({ service, instance }));
}

export function running(service: ServiceDocument): number {
  return instancesOf(service).filter(({ status }) => status === "RUNNING").length;
}

async function servicesIn(api: Api, application: string | undefined): Promise<ServiceDocument[]> {
  if (application === undefined) return await listServices(api);
  return await servicesOf(api, (await findApplication(api, application)).applicationID);
}

/** The instance of `web/0`; `web` alone when the service has just one. */
async function findInstance(api: Api, reference: string): Promise<Row> {
  const { service: name, number } = parseInstance(reference);
  const service = await findService(api, name);
  const instances = instancesOf(service);
  const found =
    number === undefined && instances.length === 1
      ? instances[0]
      : instances.find(({ instance_number }) => instance_number === number);
  if (found) return { service, instance: found };
  const there = instances.map(({ instance_number }) => `${shortName(service)}/${instance_number}`).join(", ");
  if (number === undefined && instances.length > 1)
    throw new AppError("NAME_AMBIGUOUS", `${quote(reference)} may be ${there}: say which`);
  throw new AppError(
    "NAME_UNKNOWN",
    `There is no instance ${quote(reference)}. ${there === "" ? "The service has none" : `There are: ${there}`}`,
  );
}

function fullName(service: ServiceDocument): string {
  return service.job_name ?? shortName(service);
}
