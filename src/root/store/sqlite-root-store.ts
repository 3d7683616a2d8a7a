import { type Clock, systemClock } from "../../base/clock.ts";
import { AppError } from "../../base/errors.ts";
import { type Database, openDatabase, transaction } from "../../base/sqlite.ts";
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import type { InstanceReport } from "../../protocol/instance.ts";
import type { Application, Cluster, Instance, Registry, Service, User } from "../model.ts";
import * as applications from "./applications.ts";
import { notFound, storageError } from "./errors.ts";
import * as instances from "./instances.ts";
import { ROOT_MIGRATIONS } from "./migrations.ts";
import type { RootStore } from "./root-store.ts";
import * as users from "./users.ts";

/** The root's store in one SQLite file, opened at first use. */
export class SqliteRootStore implements RootStore {
  readonly #path: string;
  readonly #clock: Clock;
  #database: Database | undefined;
  #isClosed = false;

  constructor(path: string, clock: Clock = systemClock) {
    this.#path = path;
    this.#clock = clock;
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
    const now = this.#clock.now();
    return this.#write((db) => descriptors.map((one) => applications.insertApplication(db, owner, one, now)));
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
    return this.#write((db) => applications.deleteApplication(db, id));
  }

  addServices(applicationId: string, descriptors: readonly MicroserviceDescriptor[]): Promise<Service[]> {
    const now = this.#clock.now();
    return this.#write((db) => {
      const application = applications.findApplication(db, applicationId);
      if (!application) throw notFound("application", applicationId);
      return applications.insertServices(db, application, descriptors, now);
    });
  }
  services(filter?: { applicationId?: string; owner?: string }): Promise<Service[]> {
    return this.#read((db) => applications.findServices(db, filter));
  }
  service(id: string): Promise<Service | undefined> {
    return this.#read((db) => applications.findService(db, id));
  }
  updateService(id: string, descriptor: MicroserviceDescriptor): Promise<Service> {
    return this.#write((db) => applications.changeService(db, id, descriptor));
  }
  removeService(id: string): Promise<void> {
    return this.#write((db) => applications.deleteService(db, id));
  }

  addInstance(serviceId: string, now: number): Promise<Instance> {
    return this.#write((db) => instances.insertInstance(db, serviceId, now));
  }
  instances(filter?: { serviceId?: string; clusterId?: string }): Promise<Instance[]> {
    return this.#read((db) => instances.findInstances(db, filter));
  }
  removeInstance(id: string): Promise<boolean> {
    return this.#write((db) => instances.deleteInstance(db, id));
  }
  placeInstances(placements: Parameters<RootStore["placeInstances"]>[0], now: number): Promise<void> {
    return this.#write((db) => instances.placeAll(db, placements, now));
  }
  reportInstances(clusterId: string, reports: readonly InstanceReport[]): Promise<string[]> {
    return this.#write((db) => instances.keepReports(db, clusterId, reports));
  }

  clusters(): Promise<Cluster[]> {
    return this.#read(instances.allClusters);
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
    this.#isClosed = true;
  }

  async #read<T>(work: (db: Database) => T): Promise<T> {
    try {
      return work(this.#open());
    } catch (error) {
      throw storageError(error);
    }
  }

  #write<T>(work: (db: Database) => T): Promise<T> {
    return this.#read((db) => transaction(db, () => work(db)));
  }

  #open(): Database {
    if (this.#isClosed) throw new AppError("UNAVAILABLE", "The root's store is closed");
    this.#database ??= openDatabase(this.#path, ROOT_MIGRATIONS);
    return this.#database;
  }
}
