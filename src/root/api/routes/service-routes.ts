import * as z from "zod/mini";
import { Descriptor, MicroserviceDescriptor } from "../../../protocol/descriptor.ts";
import { Id } from "../../../protocol/names.ts";
import { checked, invalidBody } from "../body.ts";
import { descriptorWarnings, ServiceDocument, withoutOwnKeys } from "../documents.ts";
import { refuseServiceContradictions } from "../refuse-contradictions.ts";
import { jsonRoute, type Route, rawRoute } from "../route.ts";
import { serviceEvents } from "../service-events.ts";
import { findService, serviceDocumentOf, serviceDocuments } from "../service-view.ts";
import { findApplication, refuseDuplicateServices } from "./application-routes.ts";

const tag = "services";
/** An SLA; what its first service says replaces what is stored under the same keys. */
const ServiceChange = z.looseObject({
  applications: z
    .array(z.looseObject({ microservices: z.array(z.looseObject({})).check(z.minLength(1)) }))
    .check(z.minLength(1)),
});

export const SERVICE_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "POST",
    path: "/api/service",
    tag,
    summary: "Add services to the application that `applications[0].applicationID` names: all of them, or none",
    access: "user",
    body: Descriptor,
    schema: z.object({
      /** Of the last one. */
      job_id: z.string(),
      deployed_services: z.array(z.object({ service_name: z.string(), status: z.int() })),
      failed_services: z.array(z.unknown()),
    }),
    errors: ["NOT_FOUND", "NAME_TAKEN", "ADDRESS_TAKEN", "NO_ADDRESS_LEFT"],
    handle: async (context) => {
      const { deps, caller, body } = context;
      const field = "applications[0]";
      const { applicationID, microservices } = body.applications[0]!;
      if (!z.safeParse(Id, applicationID).success)
        throw invalidBody([{ field: `${field}.applicationID`, message: "must be the id of an application" }]);
      if (microservices.length === 0)
        throw invalidBody([{ field: `${field}.microservices`, message: "must have at least one service" }]);
      refuseDuplicateServices(microservices, `${field}.microservices`);
      const application = await findApplication(deps, caller, applicationID!);
      refuseServiceContradictions(microservices, {
        all: await deps.store.services(),
        applicationId: application.id,
        field: `${field}.microservices`,
      });
      const services = await deps.store.addServices(application.id, microservices);
      deps.changes.notify(services.map(({ id }) => id));
      for (const { descriptor } of services) {
        for (const text of descriptorWarnings(descriptor)) context.warn(`${descriptor.microservice_name}: ${text}`);
      }
      return {
        job_id: services.at(-1)!.id,
        deployed_services: services.map(({ descriptor }) => ({
          service_name: descriptor.microservice_name,
          status: 200,
        })),
        failed_services: [],
      };
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/services",
    tag,
    summary: "Everybody's services",
    access: ["Admin"],
    schema: z.array(ServiceDocument),
    twice: true,
    handle: async ({ deps }) => serviceDocuments(deps, await deps.store.services()),
  }),
  jsonRoute({
    method: "GET",
    path: "/api/services/:id",
    tag,
    summary: "The services of an application",
    access: "user",
    schema: z.array(ServiceDocument),
    twice: true,
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      const application = await findApplication(deps, caller, params.id!);
      return serviceDocuments(deps, await deps.store.services({ applicationId: application.id }));
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/service/:id",
    tag,
    summary: "A service with its instances",
    access: "user",
    schema: ServiceDocument,
    twice: true,
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller }) => serviceDocumentOf(deps, await findService(deps, caller, params.id!)),
  }),
  jsonRoute({
    method: "PUT",
    path: "/api/service/:id",
    tag,
    summary:
      "Change a service: the descriptor's first service is merged over the stored one. " +
      "Running instances go on as they are; the next placement takes the change",
    access: "user",
    body: ServiceChange,
    schema: z.object({}),
    errors: ["NOT_FOUND", "NAME_TAKEN", "ADDRESS_TAKEN", "IN_USE"],
    handle: async (context) => {
      const { deps, params, caller, body } = context;
      const service = await findService(deps, caller, params.id!);
      const merged = { ...service.descriptor, ...withoutOwnKeys(body.applications[0]!.microservices[0]!) };
      const descriptor = checked(MicroserviceDescriptor, merged);
      refuseServiceContradictions([descriptor], {
        all: await deps.store.services(),
        applicationId: service.applicationId,
        field: "applications[0].microservices",
        replaces: service.id,
      });
      await deps.store.updateService(service.id, descriptor);
      for (const text of descriptorWarnings(descriptor)) context.warn(text);
      deps.orchestration.trigger();
      deps.changes.notify([service.id]);
      return {};
    },
  }),
  jsonRoute({
    method: "DELETE",
    path: "/api/service/:id",
    tag,
    summary: "Remove a service with all its instances",
    access: "user",
    schema: z.object({ message: z.string() }),
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      const service = await findService(deps, caller, params.id!);
      await deps.store.removeService(service.id);
      deps.orchestration.trigger();
      deps.changes.notify([service.id]);
      return { message: "Job deleted" };
    },
  }),
  rawRoute({
    method: "GET",
    path: "/api/service/:id/events",
    tag,
    summary: "Follow a service: its document at once and at each change, as events named `service`",
    access: "user",
    contentType: "text/event-stream",
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller, request }) => {
      const service = await findService(deps, caller, params.id!);
      return {
        status: 200,
        headers: { "content-type": "text/event-stream", "x-accel-buffering": "no" },
        body: serviceEvents(deps, service.id, request.signal),
      };
    },
  }),
];
