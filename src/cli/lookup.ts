/** Finds applications, services and clusters by name or id, over the API. */
import * as z from "zod/mini";
import { hasCode } from "../base/errors.ts";
import { Id } from "../protocol/names.ts";
import { Api } from "./api.ts";
import {
  type ApplicationDocument,
  Applications,
  type ClusterDocument,
  Clusters,
  namedApplication,
  namedCluster,
  namedService,
  ServiceDocument,
  Services,
} from "./documents.ts";
import type { ClientOptions, Edge } from "./edge.ts";
import { resolve } from "./names.ts";

const UserId = z.looseObject({ _id: z.union([z.string(), z.looseObject({ $oid: z.string() })]) });

export function openApi(edge: Edge, options: Pick<ClientOptions, "server">): Promise<Api> {
  return Api.open({
    server: options.server ?? edge.environment.OAK_SERVER,
    token: edge.environment.OAK_TOKEN,
    credentialsPath: edge.credentialsPath,
    signal: edge.signal,
  });
}

/** Every application that the caller may act on: all of them for an Admin, else the caller's own. */
export async function listApplications(api: Api): Promise<ApplicationDocument[]> {
  try {
    return (await api.get(Applications, "/api/applications/")) ?? [];
  } catch (error) {
    if (!hasCode(error, "FORBIDDEN")) throw error;
    const { _id } = await api.get(UserId, `/api/user/${encodeURIComponent(api.user ?? "")}`);
    return (await api.get(Applications, `/api/applications/${typeof _id === "string" ? _id : _id.$oid}`)) ?? [];
  }
}

export async function listServices(api: Api): Promise<ServiceDocument[]> {
  const applications = await listApplications(api);
  return (await Promise.all(applications.map(({ applicationID }) => servicesOf(api, applicationID)))).flat();
}

export async function servicesOf(api: Api, applicationId: string): Promise<ServiceDocument[]> {
  return (await api.get(Services, `/api/services/${applicationId}`)) ?? [];
}

export async function listClusters(api: Api): Promise<ClusterDocument[]> {
  return (await api.get(Clusters, "/api/clusters/")) ?? [];
}

export async function findApplication(api: Api, reference: string): Promise<ApplicationDocument> {
  return resolve("application", reference, (await listApplications(api)).map(namedApplication)).document;
}

export async function findService(api: Api, reference: string): Promise<ServiceDocument> {
  if (Id.safeParse(reference).success) return await getService(api, reference);
  return resolve("service", reference, (await listServices(api)).map(namedService)).document;
}

export async function getService(api: Api, id: string): Promise<ServiceDocument> {
  return await api.get(ServiceDocument, `/api/service/${id}`);
}

export async function findCluster(api: Api, reference: string): Promise<ClusterDocument> {
  return resolve("cluster", reference, (await listClusters(api)).map(namedCluster)).document;
}
