/** A service as the overlay sees it. Pure. */
import type { ServiceRoute } from "../protocol/route.ts";
import type { Instance, Service } from "./model.ts";

export function routeTable(service: Service, instances: readonly Instance[], generation: number): ServiceRoute {
  const lives = instances.flatMap(({ report }) => report?.live ?? []);
  return {
    serviceId: service.id,
    applicationId: service.applicationId,
    jobName: service.jobName,
    generation,
    roundRobin: service.roundRobin,
    closest: service.closest,
    instances: instances.map(({ number, address, report }) => ({
      number,
      address,
      ...(report?.live ? { live: { sandbox: report.live.sandbox, workerId: report.live.worker.id } } : {}),
    })),
    workers: [...new Map(lives.map(({ worker }) => [worker.id, worker])).values()],
  };
}
