/** The installation as it would be: some services and instances there, others gone. Pure. */
import type { Aggregate, AggregateGroup, Spread } from "../protocol/capacity.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import type { RootMessage } from "../protocol/uplink.ts";
import type { ClusterView } from "./candidates.ts";
import type { Instance, Service } from "./model.ts";
import type { PlacementInput } from "./placement-plan.ts";
import type { Placement } from "./placement-words.ts";
import { requestFor, ServiceRequests } from "./service-requests.ts";
import { Survey } from "./survey.ts";

export interface Draft {
  /** New, or instead of those of the same ids. */
  readonly services: readonly Service[];
  /** To be placed: new, or instead of those of the same ids. */
  readonly instances: readonly Instance[];
  readonly removedServices: ReadonlySet<string>;
  /** Instances that would be gone, or made anew. */
  readonly leaving: ReadonlySet<string>;
}

export function withDraft(
  input: PlacementInput,
  { services, instances, removedServices, leaving }: Draft,
): PlacementInput {
  const kept = [...input.services].filter(([id]) => !removedServices.has(id));
  return {
    ...input,
    services: new Map([...kept, ...services.map((one) => [one.id, one] as const)]),
    instances: [...input.instances.filter(({ id }) => !leaving.has(id)), ...instances],
    clusters: withRoom(input, leaving),
  };
}

/** The clusters after instances have left. Where in it each is, only a cluster knows: it may all be one worker's room. */
function withRoom({ clusters, instances, services }: PlacementInput, leaving: ReadonlySet<string>): ClusterView[] {
  const requests = new ServiceRequests(services);
  const freed = new Map<string, PlacementRequest[]>();
  for (const instance of instances) {
    const { id, clusterId = "", generation } = instance;
    const isCounted = clusters.find((one) => one.id === clusterId)?.counted.get(id) === generation;
    const request = leaving.has(id) && isCounted ? requests.ofInstance(instance) : undefined;
    if (request) freed.set(clusterId, [...(freed.get(clusterId) ?? []), request]);
  }
  return clusters.map((cluster) => {
    const { aggregate } = cluster;
    const requested = freed.get(cluster.id);
    return aggregate && requested ? { ...cluster, aggregate: roomier(aggregate, requested) } : cluster;
  });
}

function roomier({ all, byArchitecture, ...rest }: Aggregate, requests: readonly PlacementRequest[]): Aggregate {
  const more = ({ sum, mean, deviation }: Spread, pick: (request: PlacementRequest) => number): Spread => {
    const room = requests.reduce((total, request) => total + pick(request), 0);
    return { sum: sum + room, mean: mean + room, deviation };
  };
  const widen = (group: AggregateGroup): AggregateGroup => ({
    ...group,
    cpuMillisFree: more(group.cpuMillisFree, ({ cpuMillis }) => cpuMillis),
    memoryBytesFree: more(group.memoryBytesFree, ({ memoryBytes }) => memoryBytes),
    gpusFree: more(group.gpusFree, ({ gpus }) => gpus),
  });
  const groups = Object.entries(byArchitecture).map(([name, group]) => [name, widen(group)] as const);
  return { ...rest, all: widen(all), byArchitecture: Object.fromEntries(groups) };
}

type Asked = Extract<RootMessage, { type: "plan.ask" }>["instances"][number];

/** By cluster, what it is to be asked about, given that all of the draft is placed so. */
export function questionsOf(
  input: PlacementInput,
  { instances }: Draft,
  placements: readonly Placement[],
): Map<string, Asked[]> {
  const placed = new Map(placements.map(({ id, clusterId }) => [id, clusterId]));
  const ids = new Set(instances.map(({ id }) => id));
  const survey = new Survey({
    ...input,
    instances: input.instances.map((one) => {
      const clusterId = placed.get(one.id);
      return ids.has(one.id) && clusterId !== undefined
        ? { ...one, clusterId, status: "CLUSTER_SCHEDULED" as const }
        : one;
    }),
  });
  const questions = new Map<string, Asked[]>();
  for (const instance of instances) {
    const clusterId = placed.get(instance.id);
    const plain = survey.requests.ofInstance(instance);
    const service = input.services.get(instance.serviceId);
    if (clusterId === undefined || !plain || !service) continue;
    const request = plain.links ? requestFor(clusterId, plain, survey.targets) : plain;
    const list = questions.get(clusterId) ?? [];
    questions.set(clusterId, list);
    list.push({ instanceId: instance.id, jobName: service.jobName, instanceNumber: instance.number, request });
  }
  return questions;
}
