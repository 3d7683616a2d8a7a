/** What a descriptor would do, compared with what there is. Pure. */
import * as z from "zod/mini";
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import { isTerminal } from "../../protocol/instance.ts";
import { instanceId, jobName } from "../../protocol/names.ts";
import type { Draft } from "../draft.ts";
import type { Predicted } from "../forecasts.ts";
import type { Application, Instance, Service } from "../model.ts";
import { changesOf, FieldChange } from "./plan-diff.ts";

const Numbers = z.array(z.int());

export const PlanDocument = z.object({
  /** Everything would be placed. */
  ok: z.boolean(),
  applications: z.array(
    z.object({
      name: z.string(),
      /** taken: another user has one of this name, and the descriptor would be refused. */
      action: z.enum(["create", "change", "same", "taken"]),
      services: z.array(
        z.object({
          name: z.string(),
          /** remove: not in the descriptor. */
          action: z.enum(["create", "change", "same", "remove"]),
          changes: z.array(FieldChange),
          /** Numbers of instances. Those of a changed service would be made anew. */
          instances: z.object({ add: Numbers, replace: Numbers, keep: Numbers, remove: Numbers }),
        }),
      ),
    }),
  ),
  /** Of every instance that would be added or replaced. */
  placements: z.array(
    z.object({
      job_name: z.string(),
      instance_number: z.int(),
      placed: z.boolean(),
      cluster_name: z.string(),
      /** Empty when the caller may not see workers, or its cluster does not tell. */
      worker_name: z.string(),
      status: z.string(),
      detail: z.string(),
      /** Who decided what, each candidate's verdict included, in the order of the offers. */
      decisions: z.array(
        z.object({ tier: z.enum(["root", "cluster"]), cluster_name: z.string(), lines: z.array(z.string()) }),
      ),
    }),
  ),
  warnings: z.array(z.string()),
});
export type PlanDocument = z.infer<typeof PlanDocument>;
type PlannedApplication = PlanDocument["applications"][number];
type PlannedService = PlannedApplication["services"][number];

export interface Present {
  /** Everybody's. */
  readonly applications: readonly Application[];
  readonly services: readonly Service[];
  readonly instances: readonly Instance[];
  readonly maySee: (application: Application) => boolean;
}

export interface DraftOptions {
  readonly owner: string;
  /** Of each service that is new. */
  readonly instances: number;
  /** Epoch ms. */
  readonly now: number;
  /** Makes ids for what does not exist. */
  readonly id: () => string;
}

export interface Comparison {
  readonly applications: readonly PlannedApplication[];
  readonly draft: Draft;
}

export function compare(wanted: readonly ApplicationDescriptor[], present: Present, options: DraftOptions): Comparison {
  const all = wanted.map((one) => compareApplication(one, present, options));
  return {
    applications: all.map(({ application }) => application),
    draft: {
      services: all.flatMap(({ services }) => services),
      instances: all.flatMap(({ instances }) => instances),
      removedServices: new Set(all.flatMap(({ removed }) => removed.map(({ id }) => id))),
      leaving: new Set(all.flatMap(({ leaving }) => leaving.map(({ id }) => id))),
    },
  };
}

interface Compared {
  readonly application: PlannedApplication;
  readonly services: readonly Service[];
  readonly instances: readonly Instance[];
  readonly removed: readonly Service[];
  readonly leaving: readonly Instance[];
}

function compareApplication(wanted: ApplicationDescriptor, present: Present, options: DraftOptions): Compared {
  const { application_name, application_namespace, microservices } = wanted;
  const name = `${application_name}.${application_namespace}`;
  const holder = present.applications.find(
    (one) => one.name === application_name && one.namespace === application_namespace,
  );
  if (holder && !present.maySee(holder)) {
    return {
      application: { name, action: "taken", services: [] },
      services: [],
      instances: [],
      removed: [],
      leaving: [],
    };
  }
  const there = holder ? present.services.filter(({ applicationId }) => applicationId === holder.id) : [];
  const instancesOf = (service: Service) =>
    present.instances.filter(({ serviceId, status }) => serviceId === service.id && !isTerminal(status));
  const byName = new Map(there.map((one) => [one.jobName, one]));
  const applicationId = holder?.id ?? options.id();
  const compared = microservices.map((descriptor) => {
    const fullName = jobNameOf(wanted, descriptor);
    const known = byName.get(fullName);
    return known
      ? compareService(known, descriptor, { instances: instancesOf(known), now: options.now })
      : newService(fullName, descriptor, { ...options, applicationId });
  });
  const names = new Set(compared.map(({ planned }) => planned.name));
  const removed = there.filter((one) => !names.has(one.jobName));
  const services = [...compared.map(({ planned }) => planned), ...removed.map((one) => removal(one, instancesOf(one)))];
  const isSame = services.every(({ action }) => action === "same");
  return {
    application: { name, action: !holder ? "create" : isSame ? "same" : "change", services },
    services: compared.map(({ service }) => service),
    instances: compared.flatMap(({ instances }) => instances),
    removed,
    leaving: [...compared.flatMap(({ leaving }) => leaving), ...removed.flatMap(instancesOf)],
  };
}

interface ComparedService {
  readonly planned: PlannedService;
  readonly service: Service;
  /** To be placed. */
  readonly instances: readonly Instance[];
  readonly leaving: readonly Instance[];
}

function compareService(
  known: Service,
  descriptor: MicroserviceDescriptor,
  { instances, now }: { readonly instances: readonly Instance[]; readonly now: number },
): ComparedService {
  const changes = changesOf(known.descriptor, descriptor);
  const numbers = instances.map(({ number }) => number);
  const name = known.jobName;
  if (changes.length === 0) {
    const planned: PlannedService = { name, action: "same", changes, instances: { ...NO_INSTANCES, keep: numbers } };
    return { planned, service: known, instances: [], leaving: [] };
  }
  return {
    planned: { name, action: "change", changes, instances: { ...NO_INSTANCES, replace: numbers } },
    service: { ...known, descriptor },
    instances: instances.map(({ id, number }) => requested({ id, serviceId: known.id, number, now })),
    leaving: instances,
  };
}

function newService(
  name: string,
  descriptor: MicroserviceDescriptor,
  { owner, applicationId, instances: count, now, id }: DraftOptions & { readonly applicationId: string },
): ComparedService {
  const service: Service = {
    id: id(),
    ...{ applicationId, owner, jobName: name, descriptor },
    ...{ roundRobin: "", closest: "", nextInstanceNumber: 0, createdAt: now },
  };
  const numbers = Array.from({ length: count }, (_, number) => number);
  return {
    planned: { name, action: "create", changes: [], instances: { ...NO_INSTANCES, add: numbers } },
    service,
    instances: numbers.map((number) =>
      requested({ id: instanceId(service.id, number), serviceId: service.id, number, now }),
    ),
    leaving: [],
  };
}

const NO_INSTANCES: PlannedService["instances"] = { add: [], replace: [], keep: [], remove: [] };

function removal({ jobName: name }: Service, instances: readonly Instance[]): PlannedService {
  const remove = instances.map(({ number }) => number);
  return { name, action: "remove", changes: [], instances: { ...NO_INSTANCES, remove } };
}

function requested({ now, ...known }: Pick<Instance, "id" | "serviceId" | "number"> & { now: number }): Instance {
  return { ...known, address: "", generation: 0, status: "REQUESTED", detail: "", since: now };
}

export function planDocument(
  { applications, draft }: Comparison,
  predicted: readonly Predicted[],
  { clusterName, warnings }: { readonly clusterName: (id: string) => string; readonly warnings: readonly string[] },
): PlanDocument {
  const names = new Map(draft.services.map(({ id, jobName: name }) => [id, name]));
  const byId = new Map(predicted.map((one) => [one.id, one]));
  const nameOf = (clusterId: string | undefined) => (clusterId === undefined ? "" : clusterName(clusterId));
  const placements = draft.instances.map(({ id, serviceId, number }) => {
    const { placed, clusterId, worker, status, detail, decisions } = byId.get(id) ?? UNDECIDED;
    return {
      job_name: names.get(serviceId)!,
      instance_number: number,
      placed,
      cluster_name: nameOf(clusterId),
      worker_name: worker ?? "",
      status,
      detail,
      decisions: decisions.map((one) => ({
        tier: one.tier,
        cluster_name: nameOf(one.clusterId),
        lines: [...one.lines],
      })),
    };
  });
  const isTaken = applications.some(({ action }) => action === "taken");
  return {
    ok: !isTaken && placements.every(({ placed }) => placed),
    applications: [...applications],
    placements,
    warnings: [...warnings],
  };
}

const UNDECIDED: Omit<Predicted, "id"> = { placed: false, status: "REQUESTED", detail: "not decided", decisions: [] };

function jobNameOf(application: ApplicationDescriptor, service: MicroserviceDescriptor): string {
  return jobName({
    app: application.application_name,
    appNamespace: application.application_namespace,
    service: service.microservice_name,
    serviceNamespace: service.microservice_namespace,
  });
}
