/**
 * The documents of applications, services and instances, with every field that a known client reads. Schemas for the
 * documentation, and the pure functions that make them.
 */
import * as z from "zod/mini";
import { UNENFORCED_CONSTRAINTS, UNENFORCED_LINK_CONSTRAINTS } from "../../protocol/descriptor.ts";
import type { InstanceReport } from "../../protocol/instance.ts";
import { parsePorts } from "../../protocol/ports.ts";
import type { Application, Cluster, Instance, Service } from "../model.ts";
import { canonicalVirtualization } from "../request.ts";
import { detailOf } from "../silence.ts";
import { aggregateStatus } from "./aggregate-status.ts";

export const ObjectId = z.object({ $oid: z.string() });

export const ApplicationDocument = z.looseObject({
  _id: ObjectId,
  applicationID: z.string(),
  application_name: z.string(),
  application_namespace: z.string(),
  application_desc: z.string(),
  /** The owner's name. */
  userId: z.string(),
  /** Ids of its services. */
  microservices: z.array(z.string()),
});
export type ApplicationDocument = z.infer<typeof ApplicationDocument>;

const HistoryPoint = z.object({ value: z.string(), timestamp: z.string() });

export const InstanceDocument = z.object({
  instance_number: z.int(),
  /** Its own address in the overlay. */
  instance_ip: z.string(),
  status: z.string(),
  /** Always says why. */
  status_detail: z.string(),
  cluster_id: z.string(),
  cluster_name: z.string(),
  cluster_location: z.string(),
  worker_id: z.string(),
  publicip: z.string(),
  host_ip: z.string(),
  /** The first mapped host port; 0: none. */
  host_port: z.int(),
  cpu: z.string(),
  cpu_percent: z.string(),
  /** Bytes, although one name says percent: so it always was. */
  memory: z.string(),
  memory_percent: z.string(),
  disk: z.string(),
  cpu_history: z.array(HistoryPoint),
  memory_history: z.array(HistoryPoint),
  /** The end of the output, after a failure. */
  logs: z.string(),
  last_modified_timestamp: z.number(),
  restarts: z.int(),
  exit_code: z.optional(z.int()),
  /** Epoch milliseconds. */
  started_at: z.optional(z.int()),
});
export type InstanceDocument = z.infer<typeof InstanceDocument>;

export const ServiceDocument = z.looseObject({
  _id: ObjectId,
  microserviceID: z.string(),
  applicationID: z.string(),
  app_name: z.string(),
  app_ns: z.string(),
  service_name: z.string(),
  service_ns: z.string(),
  microservice_name: z.string(),
  microservice_namespace: z.string(),
  job_name: z.string(),
  image: z.string(),
  code: z.string(),
  /** `docker` for containers, as it always was. */
  virtualization: z.string(),
  next_instance_progressive_number: z.int(),
  instance_list: z.array(InstanceDocument),
  /** The most urgent of its instances'; absent while there are none. */
  status: z.optional(z.string()),
  status_detail: z.optional(z.string()),
  /** Its addresses in the overlay, one for each balancing policy. */
  RR_ip: z.string(),
  closest_ip: z.string(),
  addresses: z.looseObject({ rr_ip: z.string(), closest_ip: z.string() }),
  /** What of the descriptor has no effect. */
  warnings: z.optional(z.array(z.string())),
});
export type ServiceDocument = z.infer<typeof ServiceDocument>;

/** What a service's document needs from elsewhere. */
export interface Surroundings {
  cluster(id: string): (Pick<Cluster, "name" | "location"> & { readonly silentSince?: number | undefined }) | undefined;
  /** The newest report of an instance, of whatever generation. */
  report(instance: Pick<Instance, "id" | "clusterId">): InstanceReport | undefined;
}

/** Keys of the document that are not the descriptor's: what a descriptor says under these names is neither shown nor kept. */
const OWN_KEYS = [
  "_id",
  "microserviceID",
  "applicationID",
  "app_name",
  "app_ns",
  "service_name",
  "service_ns",
  "job_name",
  "image",
  "next_instance_progressive_number",
  "instance_list",
  "status",
  "status_detail",
  "RR_ip",
  "closest_ip",
  "warnings",
] as const;

export function applicationDocument(application: Application, serviceIds: readonly string[]): ApplicationDocument {
  const { id, name, namespace, description, owner, extra } = application;
  return {
    ...extra,
    _id: { $oid: id },
    applicationID: id,
    application_name: name,
    application_namespace: namespace,
    application_desc: description,
    userId: owner,
    microservices: [...serviceIds],
  };
}

export function serviceDocument(
  service: Service,
  instances: readonly Instance[],
  surroundings: Surroundings,
): ServiceDocument {
  const { id, descriptor, jobName, roundRobin, closest } = service;
  // Names have no dots.
  const [appName = "", appNamespace = ""] = jobName.split(".");
  const placeOf = (id: string | undefined) => (id === undefined ? undefined : surroundings.cluster(id));
  const overall = aggregateStatus(instances.map((one) => ({ ...one, detail: detailOf(one, placeOf(one.clusterId)) })));
  const warnings = descriptorWarnings(descriptor);
  return {
    ...withoutOwnKeys(descriptor),
    _id: { $oid: id },
    microserviceID: id,
    applicationID: service.applicationId,
    app_name: appName,
    app_ns: appNamespace,
    service_name: descriptor.microservice_name,
    service_ns: descriptor.microservice_namespace,
    microservice_name: descriptor.microservice_name,
    microservice_namespace: descriptor.microservice_namespace,
    job_name: jobName,
    code: descriptor.code,
    image: descriptor.code,
    virtualization: shownVirtualization(descriptor.virtualization),
    next_instance_progressive_number: service.nextInstanceNumber,
    instance_list: instances.map((instance) => instanceDocument(instance, service, surroundings)),
    ...(overall ? { status: overall.status, status_detail: overall.detail } : {}),
    RR_ip: roundRobin,
    closest_ip: closest,
    addresses: { ...descriptor.addresses, rr_ip: roundRobin, closest_ip: closest },
    ...(warnings.length > 0 ? { warnings } : {}),
  };
}

export function instanceDocument(
  instance: Instance,
  service: Pick<Service, "descriptor">,
  { cluster, report: newest }: Surroundings,
): InstanceDocument {
  const place = instance.clusterId === undefined ? undefined : cluster(instance.clusterId);
  const fresh = newest(instance);
  // A report of an older generation is about another container.
  const report = fresh?.generation === instance.generation ? fresh : instance.report;
  const cpu = report?.cpuPercent?.toFixed(2) ?? "0";
  const memory = String(report?.memoryBytes ?? 0);
  return {
    instance_number: instance.number,
    instance_ip: instance.address,
    status: instance.status,
    status_detail: detailOf(instance, place),
    cluster_id: instance.clusterId ?? "",
    cluster_name: place?.name ?? "",
    cluster_location: place?.location ?? "",
    worker_id: report?.workerId ?? "",
    publicip: report?.publicIp ?? "",
    host_ip: report?.publicIp ?? "",
    host_port: firstHostPort((instance.descriptor ?? service.descriptor).port),
    cpu,
    cpu_percent: cpu,
    memory,
    memory_percent: memory,
    disk: "0",
    cpu_history: [],
    memory_history: [],
    logs: report?.logTail ?? "",
    last_modified_timestamp: instance.since / 1000,
    restarts: report?.restarts ?? 0,
    ...(report?.exitCode === undefined ? {} : { exit_code: report.exitCode }),
    ...(report?.startedAt === undefined ? {} : { started_at: report.startedAt }),
  };
}

/** One sentence for each part of a descriptor that is kept without effect. */
export function descriptorWarnings({
  constraints = [],
  connectivity = [],
}: Pick<Service["descriptor"], "constraints" | "connectivity">): string[] {
  const linkTypes = connectivity.flatMap(({ con_constraints }) => con_constraints.map(({ type }) => type));
  const types = new Set([
    ...constraints.map(({ type }) => type).filter((type) => UNENFORCED_CONSTRAINTS.has(type)),
    ...linkTypes.filter((type) => UNENFORCED_LINK_CONSTRAINTS.has(type)),
  ]);
  return [...types].map((type) => `constraint "${type}" is kept, but this version does not enforce it`);
}

/** A descriptor's part of a document: clients send back what they were shown. */
export function withoutOwnKeys(document: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const rest = { ...document };
  for (const key of OWN_KEYS) delete rest[key];
  return rest;
}

function shownVirtualization(word: string): string {
  return canonicalVirtualization(word) === "container" ? "docker" : word;
}

function firstHostPort(port = ""): number {
  const ports = parsePorts(port);
  return "error" in ports ? 0 : (ports[0]?.hostPort ?? 0);
}
