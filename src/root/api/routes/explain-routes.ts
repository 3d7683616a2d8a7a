/** Why things are where they are, and where they would be. */
import * as z from "zod/mini";
import { AppError } from "../../../base/errors.ts";
import { objectId } from "../../../base/random.ts";
import { Descriptor } from "../../../protocol/descriptor.ts";
import { quote } from "../../../protocol/names.ts";
import { MAX_PLANNED } from "../../../protocol/uplink.ts";
import { maySee } from "../../auth/auth.ts";
import type { Instance, Service } from "../../model.ts";
import { descriptorWarnings } from "../documents.ts";
import { ExplainDocument, explainDocument, seesWorkers } from "../explain-document.ts";
import { compare, PlanDocument, planDocument } from "../plan-document.ts";
import { refuseContradictions } from "../refuse-contradictions.ts";
import { type Context, jsonRoute, type Route } from "../route.ts";
import { findService } from "../service-view.ts";
import { refuseDuplicates } from "./application-routes.ts";
import { findInstance } from "./instance-routes.ts";

const tag = "placement";
const MAX_INSTANCES = 100;

export const EXPLAIN_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "GET",
    path: "/api/service/:id/explain",
    tag,
    summary: "Why the instances of a service are where they are, or nowhere",
    access: "user",
    schema: z.array(ExplainDocument),
    errors: ["NOT_FOUND"],
    handle: async (context) => {
      const { deps, params, caller } = context;
      const service = await findService(deps, caller, params.id!);
      const instances = await deps.store.instances({ serviceId: service.id });
      return Promise.all(instances.map((instance) => explained(context, service, instance)));
    },
  }),
  jsonRoute({
    method: "GET",
    path: "/api/service/:id/instance/:number/explain",
    tag,
    summary: "Why an instance is where it is, or nowhere: what happened, and each candidate's verdict",
    access: "user",
    schema: ExplainDocument,
    errors: ["NOT_FOUND"],
    handle: async (context) => {
      const { service, instance } = await findInstance(context);
      return explained(context, service, instance);
    },
  }),
  jsonRoute({
    method: "POST",
    path: "/api/plan",
    tag,
    summary: "What making it so as this descriptor says would do, and where instances would go. Changes nothing",
    access: "user",
    query: { instances: "Of each service that is new; 1 unless told" },
    body: Descriptor,
    schema: PlanDocument,
    handle: plan,
  }),
];

async function explained(
  { deps, caller }: Context<undefined>,
  service: Service,
  instance: Instance,
): Promise<ExplainDocument> {
  return explainDocument(instance, service, await deps.orchestration.explain(instance), caller);
}

async function plan({ deps, caller, body, request }: Context<Descriptor>): Promise<PlanDocument> {
  refuseDuplicates(body.applications);
  refuseContradictions(body);
  const { store, orchestration, clock } = deps;
  const [applications, services, instances, clusters] = await Promise.all([
    store.applications(),
    store.services(),
    store.instances(),
    store.clusters(),
  ]);
  const comparison = compare(
    body.applications,
    { applications, services, instances, maySee: (application) => maySee(caller, application) },
    {
      owner: caller.name,
      instances: instancesOf(request.query.get("instances")),
      now: clock.now(),
      id: objectId,
    },
  );
  refuseTooMany(comparison.draft.instances.length);
  const predicted = await orchestration.predict(comparison.draft, { namesWorkers: seesWorkers(caller) });
  const names = new Map(clusters.map(({ id, name }) => [id, name]));
  const warnings = body.applications
    .flatMap(({ microservices }) => microservices)
    .flatMap((one) => descriptorWarnings(one).map((text) => `${one.microservice_name}: ${text}`));
  return planDocument(comparison, predicted, { clusterName: (id) => names.get(id) ?? id, warnings });
}

function refuseTooMany(count: number): void {
  if (count > MAX_PLANNED)
    throw new AppError(
      "INVALID_BODY",
      `instances: ${count} would be placed, more than the ${MAX_PLANNED} that a plan can hold`,
    );
}

function instancesOf(text: string | null): number {
  if (text === null) return 1;
  if (!/^\d{1,3}$/.test(text) || Number(text) > MAX_INSTANCES)
    throw new AppError("INVALID_BODY", `instances: ${quote(text)} is not a number from 0 to ${MAX_INSTANCES}`);
  return Number(text);
}
