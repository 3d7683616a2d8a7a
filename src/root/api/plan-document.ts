/** What a descriptor would do, compared with what there is. Pure. */
import * as z from "zod/mini";
import type { ApplicationDescriptor, Descriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import { instanceId, jobName } from "../../protocol/names.ts";
import { explain } from "../../scheduler/explain.ts";
import { record } from "../../scheduler/record.ts";
import type { Application, Instance, Service } from "../model.ts";
import type { Predicted } from "../placement.ts";

export const PlanDocument = z.object({
  /** Deployed now, everything would be registered and placed. */
  ok: z.boolean(),
  applications: z.array(
    z.object({
      name: z.string(),
      /** taken: there is one of this name, and the descriptor would be refused. */
      action: z.enum(["create", "taken"]),
      services: z.array(
        z.object({
          name: z.string(),
          /** only_there: not in the descriptor. */
          action: z.enum(["create", "change", "same", "only_there"]),
          /** Fields that differ. */
          changes: z.array(z.object({ field: z.string(), is: z.unknown(), would_be: z.unknown() })),
        }),
      ),
    }),
  ),
  placements: z.array(
    z.object({
      job_name: z.string(),
      instance_number: z.int(),
      placed: z.boolean(),
      /** Which would get it; its own scheduler chooses the worker then, or declines. */
      cluster_name: z.string(),
      status: z.string(),
      detail: z.string(),
      lines: z.array(z.string()),
    }),
  ),
  warnings: z.array(z.string()),
});
export type PlanDocument = z.infer<typeof PlanDocument>;

/** What would be there. */
export interface Draft {
  readonly services: readonly Service[];
  readonly instances: readonly Instance[];
}

/** @param id makes ids for what does not exist */
export function draft(
  applications: readonly ApplicationDescriptor[],
  options: { readonly owner: string; readonly instances: number; readonly now: number; readonly id: () => string },
): Draft {
  const services = applications.flatMap((application) => {
    const applicationId = options.id();
    return application.microservices.map(
      (descriptor): Service => ({
        id: options.id(),
        applicationId,
        owner: options.owner,
        jobName: jobNameOf(application, descriptor),
        descriptor,
        roundRobin: "",
        closest: "",
        nextInstanceNumber: 0,
        createdAt: options.now,
      }),
    );
  });
  const instances = services.flatMap(({ id }) =>
    Array.from(
      { length: options.instances },
      (_, number): Instance => ({
        id: instanceId(id, number),
        serviceId: id,
        number,
        address: "",
        generation: 0,
        status: "REQUESTED",
        detail: "",
        since: options.now,
      }),
    ),
  );
  return { services, instances };
}

export interface Present {
  /** Everybody's. */
  readonly applications: readonly Application[];
  /** The caller's own: nobody is told of others'. */
  readonly services: readonly Service[];
}

export function isTaken(application: ApplicationDescriptor, { applications }: Pick<Present, "applications">): boolean {
  return holderOf(application, applications) !== undefined;
}

export function planDocument(
  { applications }: Pick<Descriptor, "applications">,
  present: Present,
  predicted: {
    readonly draft: Draft;
    readonly outcome: Predicted;
    readonly clusterName: (id: string) => string;
    readonly now: number;
  },
  warnings: readonly string[],
): PlanDocument {
  const compared = applications.map((application) => compare(application, present));
  const placements = placementsOf(predicted);
  const isFree = compared.every(({ action }) => action === "create");
  return {
    ok: isFree && placements.every(({ placed }) => placed),
    applications: compared,
    placements,
    warnings: [...warnings],
  };
}

function compare(application: ApplicationDescriptor, present: Present): PlanDocument["applications"][number] {
  const name = `${application.application_name}.${application.application_namespace}`;
  const holder = holderOf(application, present.applications);
  const there = holder ? present.services.filter(({ applicationId }) => applicationId === holder.id) : [];
  const byName = new Map(there.map((one) => [one.jobName, one]));
  const wanted = application.microservices.map((descriptor) => {
    const known = byName.get(jobNameOf(application, descriptor));
    const changes = known ? changesOf(known.descriptor, descriptor) : [];
    const action = !known ? ("create" as const) : changes.length > 0 ? ("change" as const) : ("same" as const);
    return { name: jobNameOf(application, descriptor), action, changes };
  });
  const names = new Set(wanted.map((one) => one.name));
  const others = there
    .filter((one) => !names.has(one.jobName))
    .map((one) => ({ name: one.jobName, action: "only_there" as const, changes: [] }));
  return { name, action: holder ? "taken" : "create", services: [...wanted, ...others] };
}

function changesOf(is: MicroserviceDescriptor, wouldBe: MicroserviceDescriptor) {
  const { microserviceID: _id, ...before } = is;
  const { microserviceID: _other, ...after } = wouldBe;
  const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return fields
    .filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]))
    .map((field) => ({ field, is: before[field] ?? null, would_be: after[field] ?? null }));
}

function placementsOf({
  draft: { services, instances },
  outcome,
  clusterName,
  now,
}: Parameters<typeof planDocument>[2]): PlanDocument["placements"] {
  const names = new Map(services.map(({ id, jobName: name }) => [id, name]));
  const placements = new Map(outcome.placements.map((one) => [one.id, one]));
  return instances.map(({ id, serviceId, number }) => {
    const placement = placements.get(id);
    const decided = outcome.decisions.findLast((one) => one.instanceId === id);
    return {
      job_name: names.get(serviceId)!,
      instance_number: number,
      placed: placement?.clusterId !== undefined,
      cluster_name: placement?.clusterId === undefined ? "" : clusterName(placement.clusterId),
      status: placement?.status ?? "REQUESTED",
      detail: placement?.detail ?? "",
      lines: decided ? explain(record({ ...decided, at: now, tier: "root" })) : [],
    };
  });
}

function holderOf(
  { application_name, application_namespace }: ApplicationDescriptor,
  applications: readonly Application[],
): Application | undefined {
  return applications.find(({ name, namespace }) => name === application_name && namespace === application_namespace);
}

function jobNameOf(application: ApplicationDescriptor, service: MicroserviceDescriptor): string {
  return jobName({
    app: application.application_name,
    appNamespace: application.application_namespace,
    service: service.microservice_name,
    serviceNamespace: service.microservice_namespace,
  });
}
