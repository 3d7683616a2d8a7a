import * as z from "zod/mini";
import { AppError } from "../../../base/errors.ts";
import { type ApplicationDescriptor, Descriptor } from "../../../protocol/descriptor.ts";
import { Name, quote } from "../../../protocol/names.ts";
import { type Caller, forbidden, isAdmin, maySee } from "../../auth/auth.ts";
import type { Application } from "../../model.ts";
import { invalidBody } from "../body.ts";
import { ApplicationDocument, applicationDocument, descriptorWarnings } from "../documents.ts";
import { notFound } from "../errors.ts";
import { refuseContradictions } from "../refuse-contradictions.ts";
import { type ApiDeps, type Context, jsonRoute, type Route } from "../route.ts";

const Message = z.object({ message: z.string() });
const tag = "applications";

export const APPLICATION_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "POST",
    path: "/api/application",
    tag,
    summary: "Register applications with their services: all of them, or none. Answers with all that the caller has",
    access: "user",
    body: Descriptor,
    schema: z.array(ApplicationDocument),
    twice: true,
    errors: ["NAME_TAKEN", "ADDRESS_TAKEN", "NO_ADDRESS_LEFT"],
    handle: async (context) => {
      const { deps, caller, body } = context;
      refuseDuplicates(body.applications);
      refuseContradictions(body);
      const added = await deps.store.addApplications(caller.name, body.applications);
      for (const service of body.applications.flatMap(({ microservices }) => microservices)) {
        for (const text of descriptorWarnings(service)) context.warn(`${service.microservice_name}: ${text}`);
      }
      for (const text of await deadLinks(context)) context.warn(text);
      const services = await Promise.all(added.map(({ id }) => deps.store.services({ applicationId: id })));
      deps.changes.notify(services.flat().map(({ id }) => id));
      return documents(deps, caller.name);
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/applications",
    tag,
    summary: "Everybody's applications",
    access: ["Admin"],
    schema: z.array(ApplicationDocument),
    twice: true,
    handle: ({ deps }) => documents(deps, undefined),
  }),
  jsonRoute({
    method: "GET",
    path: "/api/applications/:id",
    tag,
    summary: "A user's applications, by the user's id: one's own, or anybody's for an Admin",
    access: "user",
    schema: z.array(ApplicationDocument),
    twice: true,
    errors: ["FORBIDDEN", "NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      if (params.id === caller.id) return documents(deps, caller.name);
      if (!isAdmin(caller)) throw forbidden("these are another user's applications");
      const owner = (await deps.store.users()).find(({ id }) => id === params.id);
      if (!owner) throw notFound("user", params.id!);
      return documents(deps, owner.name);
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/application/:id",
    tag,
    summary: "An application",
    access: "user",
    schema: ApplicationDocument,
    twice: true,
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      const application = await findApplication(deps, caller, params.id!);
      const services = await deps.store.services({ applicationId: application.id });
      return applicationDocument(
        application,
        services.map(({ id }) => id),
      );
    },
  }),
  jsonRoute({
    method: "PUT",
    path: "/api/application/:id",
    tag,
    summary: "Change name, namespace or description; what is not sent stays. Not renamed while it has instances",
    access: "user",
    body: z.looseObject({
      application_name: z.optional(Name),
      application_namespace: z.optional(Name),
      application_desc: z.optional(z.string().check(z.maxLength(10_000))),
    }),
    schema: Message,
    errors: ["NOT_FOUND", "NAME_TAKEN", "IN_USE"],
    handle: updateApplication,
  }),
  jsonRoute({
    method: "DELETE",
    path: "/api/application/:id",
    tag,
    summary: "Remove an application with all its services and instances",
    access: "user",
    schema: Message,
    errors: ["NOT_FOUND"],
    handle: async ({ deps, params, caller }) => {
      const application = await findApplication(deps, caller, params.id!);
      const serviceIds = await deps.store.removeApplication(application.id);
      deps.orchestration.trigger();
      deps.changes.notify(serviceIds);
      return { message: "Application Deleted" };
    },
  }),
];

/** @throws AppError NOT_FOUND, also for somebody else's */
export async function findApplication({ store }: ApiDeps, caller: Caller, id: string): Promise<Application> {
  const application = await store.application(id);
  if (!application || !maySee(caller, application)) throw notFound("application", id);
  return application;
}

interface ApplicationChange {
  readonly application_name?: string | undefined;
  readonly application_namespace?: string | undefined;
  readonly application_desc?: string | undefined;
}

async function updateApplication({ deps, params, caller, body }: Context<ApplicationChange>) {
  const application = await findApplication(deps, caller, params.id!);
  await deps.store.updateApplication(application.id, {
    name: body.application_name ?? application.name,
    namespace: body.application_namespace ?? application.namespace,
    description: body.application_desc ?? application.description,
  });
  const services = await deps.store.services({ applicationId: application.id });
  deps.changes.notify(services.map(({ id }) => id));
  return { message: "Application is updated" };
}

async function documents({ store }: ApiDeps, owner: string | undefined): Promise<ApplicationDocument[]> {
  const services = Map.groupBy(
    await store.services(owner === undefined ? {} : { owner }),
    ({ applicationId }) => applicationId,
  );
  return (await store.applications(owner)).map((application) =>
    applicationDocument(
      application,
      (services.get(application.id) ?? []).map(({ id }) => id),
    ),
  );
}

/** Ids are given at registration: a link can only name by its id what has been there before. */
async function deadLinks({ deps, body }: Context<Descriptor>): Promise<string[]> {
  const links = body.applications
    .flatMap(({ microservices }) => microservices)
    .flatMap(({ microservice_name, connectivity = [] }) =>
      connectivity.flatMap(({ target_microservice_id: id }) => (id ? [{ name: microservice_name, id }] : [])),
    );
  if (links.length === 0) return [];
  const known = new Set((await deps.store.services()).map(({ id }) => id));
  return links
    .filter(({ id }) => !known.has(id))
    .map(({ name, id }) => `${name}: there is no service ${quote(id)} to be near to; name it in target_microservice`);
}

/** What a descriptor contradicts itself in; the store compares it with what there is. */
export function refuseDuplicates(applications: readonly ApplicationDescriptor[]): void {
  const fieldByName = new Map<string, string>();
  for (const [index, application] of applications.entries()) {
    const field = `applications[${index}]`;
    const name = `${application.application_name}.${application.application_namespace}`;
    const holder = fieldByName.get(name);
    if (holder) {
      throw new AppError("NAME_TAKEN", `${field}: the name "${name}" is taken by ${holder} of the same descriptor`, {
        details: { name, holder: { field: holder } },
      });
    }
    fieldByName.set(name, field);
    refuseDuplicateServices(application.microservices, `${field}.microservices`);
  }
}

export function refuseDuplicateServices(services: ApplicationDescriptor["microservices"], field: string): void {
  const indexByName = new Map<string, number>();
  for (const [index, service] of services.entries()) {
    const name = `${service.microservice_name}.${service.microservice_namespace}`;
    const holder = indexByName.get(name);
    if (holder !== undefined) {
      const message = `the service "${name}" is there already, as ${field}[${holder}]`;
      throw invalidBody([{ field: `${field}[${index}].microservice_name`, message }]);
    }
    indexByName.set(name, index);
  }
}
