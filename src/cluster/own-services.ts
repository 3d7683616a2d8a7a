/** The services of which this cluster has instances, found by id and by key; kept up to date by `note`. */
import type { Assignment } from "../protocol/instance.ts";
import { type InterestKey, interestIn } from "../protocol/route.ts";
import type { ClusterState } from "./cluster-state.ts";
import { type Live, liveInstances, type Trust } from "./live.ts";
import { type Instance, idOf, isElsewhere } from "./model.ts";
import { ownRoute, type RouteContent } from "./route-merge.ts";

export class OwnServices {
  readonly #state: Pick<ClusterState, "instances" | "instance">;
  readonly #trustOf: (workerId: string) => Trust;
  readonly #isBelieved: (workerId: string, live: Live) => boolean;
  /** As they were when last noted. */
  readonly #assignments = new Map<string, Assignment>();
  readonly #instanceIds = new Map<string, Set<string>>();
  /** How many instances make a key stand for a service. */
  readonly #servicesByKey = new Map<InterestKey, Map<string, number>>();

  constructor(options: {
    readonly state: Pick<ClusterState, "instances" | "instance">;
    readonly trustOf: (workerId: string) => Trust;
    readonly isBelieved: (workerId: string, live: Live) => boolean;
  }) {
    this.#state = options.state;
    this.#trustOf = options.trustOf;
    this.#isBelieved = options.isBelieved;
  }

  load(): void {
    for (const instance of this.#state.instances) this.note(idOf(instance));
  }

  /** An instance has come, changed or gone. Returns its service, and the keys that mean something else now. */
  note(instanceId: string): { readonly serviceId: string; readonly keys: readonly InterestKey[] } {
    const serviceId = serviceIdOf(instanceId);
    const before = this.#assignments.get(instanceId);
    const after = this.#state.instance(instanceId)?.assignment;
    if (before === after) return { serviceId, keys: [] };
    const ids = this.#instanceIds.get(serviceId) ?? new Set();
    if (after) {
      this.#assignments.set(instanceId, after);
      this.#instanceIds.set(serviceId, ids.add(instanceId));
    } else {
      this.#assignments.delete(instanceId);
      if (ids.delete(instanceId) && ids.size === 0) this.#instanceIds.delete(serviceId);
    }
    const come = keysOf(after).filter((key) => this.#count(key, serviceId, 1));
    const gone = keysOf(before).filter((key) => this.#count(key, serviceId, -1));
    return { serviceId, keys: [...come, ...gone] };
  }

  servicesOf(key: InterestKey): readonly string[] {
    return [...(this.#servicesByKey.get(key)?.keys() ?? [])];
  }

  /** Of the instances that this cluster is in charge of. */
  route(serviceId: string): RouteContent | undefined {
    const inCharge = this.#instances(serviceId).filter((one) => !isElsewhere(one));
    return ownRoute(inCharge, this.#live(serviceId));
  }

  /** Numbers of the service's instances that are here, too, while another cluster is in charge of them. */
  numbersElsewhere(serviceId: string): ReadonlySet<number> {
    const elsewhere = this.#instances(serviceId).filter(isElsewhere);
    return new Set(elsewhere.map(({ assignment }) => assignment.instanceNumber));
  }

  /** Where the instance's traffic is to go, if anywhere. */
  liveOf(instanceId: string): Live | undefined {
    const instance = this.#state.instance(instanceId);
    if (!instance?.placement) return undefined;
    // Only what is doubtful depends on the others, of which there may be thousands.
    const isTrusted = this.#trustOf(instance.placement.workerId) === "trusted";
    return (isTrusted ? this.#liveOf([instance]) : this.#live(serviceIdOf(instanceId))).get(instanceId);
  }

  /** Instances of the service: what one of them gets depends on the others. */
  siblings(instanceId: string): string[] {
    return [...(this.#instanceIds.get(serviceIdOf(instanceId)) ?? [])];
  }

  #live(serviceId: string): ReadonlyMap<string, Live> {
    return this.#liveOf(this.#instances(serviceId));
  }

  #liveOf(instances: readonly Instance[]): ReadonlyMap<string, Live> {
    return liveInstances(instances, this.#trustOf, this.#isBelieved);
  }

  #instances(serviceId: string): Instance[] {
    return [...(this.#instanceIds.get(serviceId) ?? [])].flatMap((id) => this.#state.instance(id) ?? []);
  }

  /** True when the key has begun, or ceased, to stand for the service. */
  #count(key: InterestKey, serviceId: string, change: 1 | -1): boolean {
    const counts = this.#servicesByKey.get(key) ?? new Map<string, number>();
    const before = counts.get(serviceId) ?? 0;
    const after = before + change;
    if (after > 0) this.#servicesByKey.set(key, counts.set(serviceId, after));
    else if (counts.delete(serviceId) && counts.size === 0) this.#servicesByKey.delete(key);
    return before === 0 || after === 0;
  }
}

/** What is on standby here is for the root to tell of. */
function keysOf(assignment: Assignment | undefined): InterestKey[] {
  if (!assignment?.network || assignment.standby) return [];
  const { jobName, applicationId, network } = assignment;
  const addresses = [network.instanceAddress, network.roundRobin, network.closest];
  return [interestIn.name(jobName), interestIn.application(applicationId), ...addresses.map(interestIn.address)];
}

function serviceIdOf(instanceId: string): string {
  return instanceId.split("-")[0]!;
}
