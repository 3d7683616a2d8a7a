/** What one round of placement goes by: who has what, who needs what. It follows along as instances are placed. */
import { liveness } from "../hierarchy/children.ts";
import { addTarget } from "../hierarchy/delegate.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { UPLINK_SILENCE_MS } from "../protocol/uplink.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import type { Target } from "../scheduler/links.ts";
import { type ClusterView, candidate, isPlaced, pendingOf } from "./candidates.ts";
import type { Instance, Service } from "./model.ts";
import { ServiceRequests } from "./service-requests.ts";

export const CLUSTER_LIVENESS = { suspectAfterMs: UPLINK_SILENCE_MS, lostAfterMs: 60_000 } as const;

export interface SurveyInput {
  readonly services: ReadonlyMap<string, Service>;
  readonly instances: readonly Instance[];
  readonly clusters: readonly ClusterView[];
  /** Epoch ms. */
  readonly now: number;
}

export class Survey {
  readonly requests: ServiceRequests;
  readonly #input: SurveyInput;
  readonly #pending: Map<string, PlacementRequest[]>;
  readonly #applications: Map<string, Set<string>>;
  #targets: Map<string, Target[]> | undefined;
  readonly #clusters: ReadonlyMap<string, ClusterView>;
  /** By architectures asked for: made once, and again where something is placed. */
  readonly #candidates = new Map<
    string,
    { readonly architectures: readonly string[]; readonly byId: Map<string, Candidate> }
  >();

  constructor(input: SurveyInput) {
    const { services, instances, clusters } = input;
    this.#input = input;
    this.#clusters = new Map(clusters.map((cluster) => [cluster.id, cluster]));
    this.requests = new ServiceRequests(services);
    this.#pending = pendingOf(instances, clusters, (instance) => this.requests.ofInstance(instance));
    this.#applications = applicationsOf(input);
  }

  /** By job name, where its instances are. Most installations link nothing, and never ask. */
  get targets(): ReadonlyMap<string, readonly Target[]> {
    this.#targets ??= targetsOf(this.#input);
    return this.#targets;
  }

  candidates({ architectures }: PlacementRequest): Candidate[] {
    const key = JSON.stringify(architectures);
    let known = this.#candidates.get(key);
    if (!known) {
      const all = this.#input.clusters.map((cluster) => [cluster.id, this.#candidate(cluster, architectures)] as const);
      known = { architectures, byId: new Map(all) };
      this.#candidates.set(key, known);
    }
    return [...known.byId.values()];
  }

  #candidate(cluster: ClusterView, architectures: readonly string[]): Candidate {
    const active = liveness(cluster, this.#input.now, CLUSTER_LIVENESS) === "active";
    const pending = this.#pending.get(cluster.id) ?? [];
    const applications = this.#applications.get(cluster.id) ?? new Set();
    return candidate(cluster, { active, pending, applications }, architectures);
  }

  place(request: PlacementRequest, clusterId: string): void {
    this.#pending.get(clusterId)?.push(request);
    if (request.applicationId !== undefined) this.#applications.get(clusterId)?.add(request.applicationId);
    const cluster = this.#clusters.get(clusterId);
    for (const { architectures, byId } of this.#candidates.values()) {
      if (cluster) byId.set(clusterId, this.#candidate(cluster, architectures));
    }
    const position = cluster?.aggregate?.zone;
    this.#targets ??= targetsOf(this.#input);
    addTarget(this.#targets, request, { id: clusterId, position });
  }
}

function applicationsOf({ services, instances, clusters }: SurveyInput): Map<string, Set<string>> {
  const applications = new Map<string, Set<string>>(clusters.map(({ id }) => [id, new Set()]));
  for (const instance of instances) {
    const applicationId = services.get(instance.serviceId)?.applicationId;
    if (applicationId !== undefined && isPlaced(instance)) applications.get(instance.clusterId)?.add(applicationId);
  }
  return applications;
}

/** Where the worker is, as far as it is known; until then, anywhere in the cluster. */
function targetsOf({ services, instances, clusters }: SurveyInput): Map<string, Target[]> {
  const zones = new Map(clusters.map(({ id, aggregate }) => [id, aggregate?.zone]));
  const targets = new Map<string, Target[]>();
  for (const instance of instances) {
    const serviceName = services.get(instance.serviceId)?.jobName;
    if (serviceName === undefined || !isPlaced(instance)) continue;
    const position = instance.report?.position ?? zones.get(instance.clusterId);
    addTarget(targets, { serviceName }, { id: instance.clusterId, position });
  }
  return targets;
}
