import { type AddressPlan, addressPlan, DEFAULT_ADDRESSES } from "../../addressing/address-plan.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { type Database, openDatabase, storageError, transaction } from "../../base/sqlite.ts";
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import type { InstanceReport } from "../../protocol/instance.ts";
import type { InterestKey } from "../../protocol/route.ts";
import type { DecisionRecord } from "../../scheduler/record.ts";
import type { Application, Cluster, Instance, Registry, Service, User } from "../model.ts";
import type { MoveStep } from "../moves.ts";
import * as applications from "./applications.ts";
import * as decisions from "./decisions.ts";
import { notFound } from "./errors.ts";
import * as instances from "./instances.ts";
import { LiveTable } from "./live-table.ts";
import { ROOT_MIGRATIONS } from "./migrations.ts";
import type { PieceBook } from "./pieces.ts";
import type { RootStore } from "./root-store.ts";
import * as routing from "./routing.ts";
import * as users from "./users.ts";

/** The root's store in one SQLite file, opened at first use. */
export class SqliteRootStore implements RootStore {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #plan: AddressPlan;
  #database: Database | undefined;
  /** What is asked for as a whole, and often. */
  #live: ReturnType<typeof liveTables> | undefined;
  #isClosed = false;

  constructor(path: string, clock: Clock = systemClock, plan: AddressPlan = addressPlan(DEFAULT_ADDRESSES)) {
    this.#path = path;
    this.#clock = clock;
    this.#plan = plan;
  }

  secret(name: string, make: () => string): Promise<string> {
    return this.#write((db) => users.findOrMakeSecret(db, name, make));
  }

  users(): Promise<User[]> {
    return this.#read(users.allUsers);
  }
  user(name: string): Promise<User | undefined> {
    return this.#read((db) => users.findUser(db, name));
  }
  addUser(user: User): Promise<void> {
    return this.#write((db) => users.insertUser(db, user));
  }
  updateUser(name: string, change: Parameters<RootStore["updateUser"]>[1]): Promise<User> {
    return this.#write((db) => users.changeUser(db, name, change));
  }
  removeUser(name: string): Promise<void> {
    return this.#write((db) => users.deleteUser(db, name));
  }

  addApplications(owner: string, descriptors: readonly ApplicationDescriptor[]): Promise<Application[]> {
    const registration = this.#registration(descriptors.flatMap(({ microservices }) => microservices));
    return this.#write((db) => descriptors.map((one) => applications.insertApplication(db, owner, one, registration)));
  }
  applications(owner?: string): Promise<Application[]> {
    return this.#read((db) => applications.findApplications(db, owner));
  }
  application(id: string): Promise<Application | undefined> {
    return this.#read((db) => applications.findApplication(db, id));
  }
  updateApplication(id: string, change: Parameters<RootStore["updateApplication"]>[1]): Promise<void> {
    return this.#write((db) => applications.changeApplication(db, id, change));
  }
  removeApplication(id: string): Promise<string[]> {
    return this.#write((db) => applications.deleteApplication(db, id, this.#clock.now()));
  }

  addServices(applicationId: string, descriptors: readonly MicroserviceDescriptor[]): Promise<Service[]> {
    const registration = this.#registration(descriptors);
    return this.#write((db) => {
      const application = applications.findApplication(db, applicationId);
      if (!application) throw notFound("application", applicationId);
      return applications.insertServices(db, application, descriptors, registration);
    });
  }
  services(filter?: { applicationId?: string; owner?: string }): Promise<readonly Service[]> {
    return this.#read((db) => (filter ? applications.findServices(db, filter) : this.#live!.services.all()));
  }
  service(id: string): Promise<Service | undefined> {
    return this.#read((db) => applications.findService(db, id));
  }
  updateService(id: string, descriptor: MicroserviceDescriptor): Promise<Service> {
    return this.#write((db) => applications.changeService(db, id, descriptor, this.#registration([])));
  }
  removeService(id: string): Promise<void> {
    return this.#write((db) => applications.deleteService(db, id, this.#clock.now()));
  }

  addInstance(serviceId: string, now: number): Promise<Instance> {
    return this.#write((db) => instances.insertInstance(db, serviceId, { book: this.#book(), now }));
  }
  instances(filter?: { serviceId?: string; clusterId?: string }): Promise<readonly Instance[]> {
    return this.#read((db) => (filter ? instances.findInstances(db, filter) : this.#live!.instances.all()));
  }
  removeInstance(id: string): Promise<boolean> {
    return this.#write((db) => instances.deleteInstance(db, id, this.#clock.now()));
  }
  placeInstances(placements: Parameters<RootStore["placeInstances"]>[0], now: number): Promise<void> {
    return this.#write((db) => instances.placeAll(db, placements, now));
  }
  moveInstances(steps: readonly MoveStep[], now: number): Promise<Instance[]> {
    return this.#write((db) => instances.moveAll(db, steps, now));
  }
  keepDecisions(records: readonly DecisionRecord[]): Promise<void> {
    return this.#write((db) => decisions.putDecisions(db, records));
  }
  decision(instanceId: string): Promise<DecisionRecord | undefined> {
    return this.#read((db) => decisions.findDecision(db, instanceId));
  }
  reportInstances(clusterId: string, reports: readonly InstanceReport[]): Promise<string[]> {
    return this.#write((db) => instances.keepReports(db, clusterId, reports));
  }

  nextEpoch(): Promise<number> {
    return this.#write(routing.raiseEpoch);
  }
  servicesOf(keys: readonly InterestKey[]): Promise<Map<InterestKey, string[]>> {
    return this.#read((db) => routing.findServicesOf(db, keys));
  }
  routed(serviceIds: readonly string[]): ReturnType<RootStore["routed"]> {
    return this.#read((db) => routing.findRouted(db, serviceIds));
  }

  clusters(): Promise<readonly Cluster[]> {
    return this.#read(() => this.#live!.clusters.all());
  }
  clusterNetwork(id: string, wantsMore: boolean): ReturnType<RootStore["clusterNetwork"]> {
    const now = this.#clock.now();
    return this.#write((db) => routing.blocksOf(db, this.#plan, { id, wantsMore, now }));
  }
  admitCluster(hello: Parameters<RootStore["admitCluster"]>[0]): Promise<Cluster> {
    return this.#write((db) => instances.admit(db, hello));
  }
  touchCluster(id: string, change: Parameters<RootStore["touchCluster"]>[1]): Promise<void> {
    return this.#write((db) => instances.touch(db, id, change));
  }
  removeCluster(id: string): Promise<void> {
    const now = this.#clock.now();
    return this.#write((db) => instances.deleteCluster(db, id, now));
  }
  addJoinToken(digest: string, expiresAt: number): Promise<void> {
    return this.#write((db) => instances.insertJoinToken(db, digest, expiresAt));
  }

  registries(owner: string): Promise<Registry[]> {
    return this.#read((db) => users.registriesOf(db, owner));
  }
  putRegistry(registry: Registry, sealedPassword: string): Promise<void> {
    return this.#write((db) => users.replaceRegistry(db, registry, sealedPassword));
  }
  registryPassword(
    owner: string,
    name: string,
  ): Promise<{ server: string; username: string; sealedPassword: string } | undefined> {
    return this.#read((db) => users.findRegistryPassword(db, owner, name));
  }
  removeRegistry(owner: string, name: string): Promise<void> {
    return this.#write((db) => users.deleteRegistry(db, owner, name));
  }

  close(): void {
    this.#database?.close();
    this.#database = undefined;
    this.#live = undefined;
    this.#isClosed = true;
  }

  #book(): PieceBook {
    const { service: pool, quarantineMs } = this.#plan;
    return { name: "service", pool, quarantineMs };
  }

  #registration(all: readonly MicroserviceDescriptor[]): applications.Registration {
    return { book: this.#book(), now: this.#clock.now(), all };
  }

  async #read<T>(work: (db: Database) => T): Promise<T> {
    try {
      return work(this.#open());
    } catch (error) {
      throw storageError(error, "the root's state");
    }
  }

  #write<T>(work: (db: Database) => T): Promise<T> {
    return this.#read((db) => transaction(db, () => work(db)));
  }

  #open(): Database {
    if (this.#isClosed) throw new AppError("UNAVAILABLE", "The root's store is closed");
    if (!this.#database) {
      this.#database = openDatabase(this.#path, ROOT_MIGRATIONS);
      this.#live = liveTables(this.#database);
    }
    return this.#database;
  }
}

function liveTables(database: Database) {
  return {
    services: new LiveTable<Service>(database, applications.SERVICES),
    instances: new LiveTable<Instance>(database, instances.INSTANCES),
    clusters: new LiveTable<Cluster>(database, instances.CLUSTERS),
  };
}
