/** Services as their documents show them: put together from the store, and from what only the orchestration knows. */
import { type Caller, maySee } from "../auth/auth.ts";
import type { Service } from "../model.ts";
import { type ServiceDocument, type Surroundings, serviceDocument } from "./documents.ts";
import { notFound } from "./errors.ts";
import type { ApiDeps } from "./route.ts";

type Deps = Pick<ApiDeps, "store" | "orchestration">;

/** @throws AppError NOT_FOUND, also for somebody else's */
export async function findService({ store }: Deps, caller: Caller, id: string): Promise<Service> {
  const service = await store.service(id);
  if (!service || !maySee(caller, service)) throw notFound("service", id);
  return service;
}

export async function serviceDocumentOf(deps: Deps, service: Service): Promise<ServiceDocument> {
  const instances = await deps.store.instances({ serviceId: service.id });
  return serviceDocument(service, instances, await surroundings(deps));
}

export async function serviceDocuments(deps: Deps, services: readonly Service[]): Promise<ServiceDocument[]> {
  if (services.length === 0) return [];
  const instances = Map.groupBy(await deps.store.instances(), ({ serviceId }) => serviceId);
  const around = await surroundings(deps);
  return services.map((service) => serviceDocument(service, instances.get(service.id) ?? [], around));
}

export async function surroundings({ store, orchestration }: Deps): Promise<Surroundings> {
  const clusters = new Map(
    (await store.clusters()).map(({ id, name, location, heardAt }) => [
      id,
      { name, location, silentSince: orchestration.isActive(id) ? undefined : heardAt },
    ]),
  );
  return { cluster: (id) => clusters.get(id), report: (instance) => orchestration.reportOf(instance) };
}
