/** What the commands read of the API's documents. Tolerant: a root of another version may send more, and leave things out. */
import * as z from "zod/mini";
import { applicationNames, type Named, serviceNames } from "./names.ts";

const text = z.optional(z.nullable(z.string()));
/** Metrics come as text, for the sake of existing clients. */
const figure = z.optional(z.nullable(z.union([z.number(), z.string()])));

export const InstanceDocument = z.looseObject({
  instance_number: z.number(),
  status: text,
  status_detail: text,
  cluster_id: text,
  cluster_name: text,
  cluster_location: text,
  publicip: text,
  cpu_percent: figure,
  memory_percent: figure,
  logs: text,
});
export type InstanceDocument = z.infer<typeof InstanceDocument>;

export const ServiceDocument = z.looseObject({
  microserviceID: z.string(),
  applicationID: z.string(),
  microservice_name: z.string(),
  microservice_namespace: z.string(),
  app_name: text,
  app_ns: text,
  job_name: text,
  image: text,
  code: text,
  status: text,
  status_detail: text,
  one_shot: z.optional(z.nullable(z.boolean())),
  port: text,
  /** What of the descriptor has no effect. */
  warnings: z._default(z.nullable(z.array(z.string())), []),
  instance_list: z._default(z.nullable(z.array(InstanceDocument)), []),
});
export type ServiceDocument = z.infer<typeof ServiceDocument>;

export const ApplicationDocument = z.looseObject({
  applicationID: z.string(),
  application_name: z.string(),
  application_namespace: z.string(),
  application_desc: text,
  userId: text,
  microservices: z._default(z.nullable(z.array(z.string())), []),
});
export type ApplicationDocument = z.infer<typeof ApplicationDocument>;

export const ClusterDocument = z.looseObject({
  _id: z.string(),
  cluster_name: z.string(),
  cluster_location: text,
  active: z.optional(z.nullable(z.boolean())),
  active_nodes: figure,
  total_cpu_cores: figure,
  memory_in_mb: figure,
  cpu_percent: figure,
  aggregated_cpu_percent: figure,
  last_modified_timestamp: figure,
});
export type ClusterDocument = z.infer<typeof ClusterDocument>;

export const Applications = z.nullable(z.array(ApplicationDocument));
export const Services = z.nullable(z.array(ServiceDocument));
export const Clusters = z.nullable(z.array(ClusterDocument));
export const Anything = z.unknown();

export const NewInstance = z.looseObject({ instance_number: z.number() });
export const Tokens = z.looseObject({ token: z.string(), refresh_token: z.string() });
export const RefreshedToken = z.looseObject({ token: z.string() });
export const VersionDocument = z.looseObject({ version: z.string() });

export const namedApplication = (document: ApplicationDocument): Named & { document: ApplicationDocument } => ({
  id: document.applicationID,
  names: applicationNames(document),
  document,
});

export const namedService = (document: ServiceDocument): Named & { document: ServiceDocument } => ({
  id: document.microserviceID,
  names: serviceNames({
    app: document.app_name ?? "",
    appNamespace: document.app_ns ?? "",
    name: document.microservice_name,
    namespace: document.microservice_namespace,
  }),
  document,
});

export const namedCluster = (document: ClusterDocument): Named & { document: ClusterDocument } => ({
  id: document._id,
  names: [document.cluster_name],
  document,
});

export function instancesOf(service: ServiceDocument): InstanceDocument[] {
  return service.instance_list ?? [];
}

/** `shop.web`: short enough to read, long enough to type again. */
export function shortName(service: ServiceDocument): string {
  return service.app_name ? `${service.app_name}.${service.microservice_name}` : service.microservice_name;
}
