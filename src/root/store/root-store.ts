/**
 * Port: the root's store. Every method is one transaction: all of it is kept, or nothing, whatever kills the process.
 * Asynchronous because a store may be another machine. A full disk rejects with STORAGE_FULL, any other fault with STORAGE_FAILED.
 */
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import type { InstanceReport, InstanceStatus } from "../../protocol/instance.ts";
import type { InterestKey } from "../../protocol/route.ts";
import type { DecisionRecord } from "../../scheduler/record.ts";
import type { Application, Cluster, Instance, Registry, Service, User } from "../model.ts";
import type { MoveStep } from "../moves.ts";

export interface RootStore {
  /** A secret of this installation (token signing, credential encryption), made by `make` the first time. */
  secret(name: string, make: () => string): Promise<string>;

  users(): Promise<User[]>;
  user(name: string): Promise<User | undefined>;
  /** @throws NAME_TAKEN */
  addUser(user: User): Promise<void>;
  /** @throws NOT_FOUND */
  updateUser(
    name: string,
    change: Partial<Pick<User, "email" | "passwordHash" | "roles" | "tokenEpoch">>,
  ): Promise<User>;
  /** @throws NOT_FOUND, IN_USE while the user has applications */
  removeUser(name: string): Promise<void>;

  /**
   * All applications with all their services, or none. Each service gets its addresses.
   * @throws NAME_TAKEN | ADDRESS_TAKEN naming the holder, INVALID_BODY for an address outside the range, NO_ADDRESS_LEFT
   */
  addApplications(owner: string, applications: readonly ApplicationDescriptor[]): Promise<Application[]>;
  /** @param owner undefined: everybody's */
  applications(owner?: string): Promise<Application[]>;
  application(id: string): Promise<Application | undefined>;
  /** A new name renames the services' jobs too. @throws NOT_FOUND, NAME_TAKEN, IN_USE when renamed while it has instances */
  updateApplication(
    id: string,
    change: Partial<Pick<Application, "name" | "namespace" | "description">>,
  ): Promise<void>;
  /** With its services and instances. Returns the ids of the services that went. @throws NOT_FOUND */
  removeApplication(id: string): Promise<string[]>;

  /** @throws NOT_FOUND when the application is gone, and as `addApplications` */
  addServices(applicationId: string, services: readonly MicroserviceDescriptor[]): Promise<Service[]>;
  /** In order of registration. All of them are asked for all the time, and cost next to nothing while nothing changes. */
  services(filter?: { applicationId?: string; owner?: string }): Promise<readonly Service[]>;
  service(id: string): Promise<Service | undefined>;
  /**
   * Takes effect with the next placement of each instance; its addresses change at once, where the descriptor asks for others.
   * @throws NOT_FOUND, NAME_TAKEN, ADDRESS_TAKEN, INVALID_BODY, IN_USE when renamed while it has instances
   */
  updateService(id: string, descriptor: MicroserviceDescriptor): Promise<Service>;
  /** With its instances. @throws NOT_FOUND */
  removeService(id: string): Promise<void>;

  /** One more instance, REQUESTED, with the next number and an address of its own. @throws NOT_FOUND, NO_ADDRESS_LEFT */
  addInstance(serviceId: string, now: number): Promise<Instance>;
  /** @param filter undefined: all, which cost next to nothing while nothing changes */
  instances(filter?: { serviceId?: string; clusterId?: string }): Promise<readonly Instance[]>;
  /** Returns false when there is none. */
  removeInstance(id: string): Promise<boolean>;
  /** Places (or takes back, with clusterId undefined) several instances at once; raises their generation when placed. */
  placeInstances(
    placements: readonly {
      readonly id: string;
      readonly clusterId: string | undefined;
      readonly status: InstanceStatus;
      readonly detail: string;
    }[],
    now: number,
  ): Promise<void>;
  /**
   * Carries out steps of moves between clusters, and returns the instances as they are then; a step that does not fit its instance
   * any more is left out.
   */
  moveInstances(steps: readonly MoveStep[], now: number): Promise<Instance[]>;
  /** Keeps the last decision about each of these instances, as long as there is the instance. */
  keepDecisions(records: readonly DecisionRecord[]): Promise<void>;
  decision(instanceId: string): Promise<DecisionRecord | undefined>;
  /**
   * Keeps what a cluster says of instances that it has, on standby, too; what is not credible is ignored.
   * Returns the ids of the services that look different.
   */
  reportInstances(clusterId: string, reports: readonly InstanceReport[]): Promise<string[]>;

  /** Grows with every call, whatever happens in between. */
  nextEpoch(): Promise<number>;
  /** Ids of the services that each key stands for. */
  servicesOf(keys: readonly InterestKey[]): Promise<ReadonlyMap<InterestKey, readonly string[]>>;
  /** Services with their instances; what does not exist is left out. */
  routed(
    serviceIds: readonly string[],
  ): Promise<{ readonly service: Service; readonly instances: readonly Instance[] }[]>;

  clusters(): Promise<readonly Cluster[]>;
  /** The service range, and the blocks that the cluster has: with `wantsMore` one more than before, unless all are given out. */
  clusterNetwork(id: string, wantsMore: boolean): Promise<{ readonly serviceRange: string; readonly blocks: string[] }>;
  /**
   * The cluster that has this key. An unknown key needs an unspent join token; a known name with another key is refused.
   * @throws TOKEN_INVALID | NAME_TAKEN
   */
  admitCluster(hello: {
    readonly name: string;
    readonly location: string;
    readonly ip: string;
    readonly keyDigest: string;
    readonly joinTokenDigest?: string | undefined;
    readonly now: number;
    /** By the clock that join tokens are made by; default: `now`. */
    readonly tokenNow?: number | undefined;
  }): Promise<Cluster>;
  touchCluster(
    id: string,
    change: { readonly heardAt: number; readonly aggregate?: Cluster["aggregate"] },
  ): Promise<void>;
  /** Its instances become unplaced, its blocks free. @throws NOT_FOUND */
  removeCluster(id: string): Promise<void>;
  addJoinToken(digest: string, expiresAt: number): Promise<void>;

  registries(owner: string): Promise<Registry[]>;
  /** Replaces one of the same name. @param sealedPassword encrypted by the caller */
  putRegistry(registry: Registry, sealedPassword: string): Promise<void>;
  registryPassword(
    owner: string,
    name: string,
  ): Promise<{ server: string; username: string; sealedPassword: string } | undefined>;
  /** @throws NOT_FOUND */
  removeRegistry(owner: string, name: string): Promise<void>;

  close(): void;
}
