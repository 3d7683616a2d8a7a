/** What each service needs of its place, links to other services included. Made once a pass, of all services at that moment. Pure. */
import type { MicroserviceDescriptor } from "../protocol/descriptor.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { linksOf, type Target, withTargets } from "../scheduler/links.ts";
import type { Instance, Service } from "./model.ts";
import { placementRequest } from "./request.ts";

export class ServiceRequests {
  readonly #services: ReadonlyMap<string, Service>;
  readonly #byApplication: ReadonlyMap<string, readonly Service[]>;
  readonly #made = new Map<MicroserviceDescriptor, PlacementRequest>();

  constructor(services: ReadonlyMap<string, Service>) {
    this.#services = services;
    this.#byApplication = Map.groupBy(services.values(), ({ applicationId }) => applicationId);
  }

  /** For its next placement. */
  of(service: Service): PlacementRequest {
    return this.#request(service, service.descriptor);
  }

  /** What the instance was placed with; links are as the application has them now. */
  ofInstance({ serviceId, descriptor }: Instance): PlacementRequest | undefined {
    const service = this.#services.get(serviceId);
    return service && this.#request(service, descriptor ?? service.descriptor);
  }

  #request(service: Service, descriptor: MicroserviceDescriptor): PlacementRequest {
    const known = this.#made.get(descriptor);
    if (known) return known;
    const links = this.#links(service);
    const request: PlacementRequest = {
      ...placementRequest(descriptor),
      serviceName: service.jobName,
      applicationId: service.applicationId,
      ...(links.length > 0 ? { links } : {}),
    };
    this.#made.set(descriptor, request);
    return request;
  }

  #links(service: Service) {
    const siblings = this.#byApplication.get(service.applicationId) ?? [];
    if (!siblings.some(({ descriptor }) => descriptor.connectivity?.length)) return [];
    const own = new Set(siblings.map(({ id }) => id));
    const elsewhere = (service.descriptor.connectivity ?? []).flatMap(({ target_microservice_id: id = "" }) =>
      own.has(id) ? [] : (this.#services.get(id) ?? []),
    );
    return linksOf(service.id, [...siblings, ...elsewhere]);
  }
}

/** The request as its cluster gets it: where linked services are outside of it. What is inside, the cluster knows better. */
export function requestFor(
  clusterId: string,
  request: PlacementRequest,
  targets: ReadonlyMap<string, readonly Target[]>,
): PlacementRequest {
  if (!request.links) return request;
  const outside = new Map(
    request.links.map(({ service }) => [
      service,
      (targets.get(service) ?? []).flatMap(({ candidateId, ...position }) =>
        candidateId === clusterId ? [] : [position],
      ),
    ]),
  );
  return withTargets(request, outside);
}
