/** SQL of applications and services. Synchronous; the store wraps the transactions. */
import { AppError } from "../../base/errors.ts";
import { objectId } from "../../base/random.ts";
import type { Database } from "../../base/sqlite.ts";
import type { ApplicationDescriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import { jobName } from "../../protocol/names.ts";
import type { Application, Service } from "../model.ts";
import { nameTaken, notFound } from "./errors.ts";
import { freeAll, type PieceBook } from "./pieces.ts";
import { changeAddresses, takeAddresses, wantedAddresses } from "./service-addresses.ts";

interface ApplicationRow extends Omit<Application, "extra"> {
  readonly extra: string;
}
interface ServiceRow extends Omit<Service, "descriptor"> {
  readonly descriptor: string;
}

const APPLICATION = "SELECT id, owner, name, namespace, description, extra, created_at AS createdAt FROM applications";
const SERVICE = `SELECT id, application_id AS applicationId, owner, job_name AS jobName, descriptor,
  round_robin AS roundRobin, closest, next_instance_number AS nextInstanceNumber, created_at AS createdAt FROM services`;

const toApplication = (row: ApplicationRow): Application => ({
  ...row,
  extra: JSON.parse(row.extra) as Application["extra"],
});
const toService = (row: ServiceRow): Service => ({
  ...row,
  descriptor: JSON.parse(row.descriptor) as MicroserviceDescriptor,
});

export const SERVICES = { table: "services", select: SERVICE, toValue: toService } as const;

export function findApplications(db: Database, owner?: string): Application[] {
  const rows =
    owner === undefined
      ? db.prepare(`${APPLICATION} ORDER BY rowid`).all()
      : db.prepare(`${APPLICATION} WHERE owner = ? ORDER BY rowid`).all(owner);
  return (rows as unknown as ApplicationRow[]).map(toApplication);
}

export function findApplication(db: Database, id: string): Application | undefined {
  const row = db.prepare(`${APPLICATION} WHERE id = ?`).get(id) as ApplicationRow | undefined;
  return row && toApplication(row);
}

/** What insertions need beside their rows. */
export interface Registration {
  readonly book: PieceBook;
  readonly now: number;
  /** All services of the request: no automatic address takes what another of them asks for. */
  readonly all: readonly MicroserviceDescriptor[];
}

export function insertApplication(
  db: Database,
  owner: string,
  descriptor: ApplicationDescriptor,
  registration: Registration,
): Application {
  const { now } = registration;
  const {
    applicationID: _ignored,
    application_name: name,
    application_namespace: namespace,
    application_desc: description = "",
    microservices,
    ...extra
  } = descriptor;
  refuseTakenName(db, name, namespace);
  const application: Application = { id: objectId(), owner, name, namespace, description, extra, createdAt: now };
  db.prepare(
    "INSERT INTO applications (id, owner, name, namespace, description, extra, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
  ).run(application.id, owner, name, namespace, description, JSON.stringify(extra), now);
  insertServices(db, application, microservices, registration);
  return application;
}

function refuseTakenName(db: Database, name: string, namespace: string): void {
  const holder = db.prepare("SELECT id, owner FROM applications WHERE name = ? AND namespace = ?").get(name, namespace);
  if (holder) {
    throw nameTaken("application", `${name}.${namespace}`, {
      application: `${name}.${namespace}`,
      applicationId: holder.id,
      owner: holder.owner,
    });
  }
}

export function changeApplication(
  db: Database,
  id: string,
  change: Partial<Pick<Application, "name" | "namespace" | "description">>,
): void {
  const found = findApplication(db, id);
  if (!found) throw notFound("application", id);
  const application = { ...found, ...change };
  const isRenamed = application.name !== found.name || application.namespace !== found.namespace;
  if (isRenamed) {
    refuseTakenName(db, application.name, application.namespace);
    refuseWhileInstancesExist(db, "application", id);
  }
  db.prepare("UPDATE applications SET name = ?, namespace = ?, description = ? WHERE id = ?").run(
    application.name,
    application.namespace,
    application.description,
    id,
  );
  if (!isRenamed) return;
  const rename = db.prepare("UPDATE services SET job_name = ? WHERE id = ?");
  for (const service of findServices(db, { applicationId: id })) {
    rename.run(jobNameOf(application, service.descriptor), service.id);
  }
}

/** A job name is part of the container's name: it may not change under a running instance. */
function refuseWhileInstancesExist(db: Database, kind: "application" | "service", id: string): void {
  const { count } = db
    .prepare(
      `SELECT count(*) AS count FROM instances JOIN services ON services.id = service_id
       WHERE ${kind === "service" ? "services.id" : "application_id"} = ?`,
    )
    .get(id) as { count: number };
  if (count > 0) {
    throw new AppError("IN_USE", `Cannot rename ${kind} "${id}": it has ${count} instance(s)`, {
      details: { instances: count },
    });
  }
}

export function deleteApplication(db: Database, id: string, now: number): string[] {
  const services = findServices(db, { applicationId: id });
  for (const service of services) freeAll(db, "service", service.id, now);
  const { changes } = db.prepare("DELETE FROM applications WHERE id = ?").run(id);
  if (changes === 0) throw notFound("application", id);
  return services.map((service) => service.id);
}

export function insertServices(
  db: Database,
  application: Application,
  descriptors: readonly MicroserviceDescriptor[],
  { book, now, all }: Registration,
): Service[] {
  const insert = db.prepare(
    `INSERT INTO services (id, application_id, owner, job_name, descriptor, round_robin, closest, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const avoid = wantedAddresses(all);
  return descriptors.map((descriptor) => {
    const name = jobNameOf(application, descriptor);
    refuseTakenJobName(db, name);
    const id = objectId();
    const { roundRobin, closest } = takeAddresses(db, { id, jobName: name, book, now, avoid }, descriptor);
    insert.run(id, application.id, application.owner, name, JSON.stringify(descriptor), roundRobin, closest, now);
    return {
      id,
      applicationId: application.id,
      owner: application.owner,
      jobName: name,
      descriptor,
      roundRobin,
      closest,
      nextInstanceNumber: 0,
      createdAt: now,
    };
  });
}

function refuseTakenJobName(db: Database, name: string): void {
  const holder = db.prepare("SELECT id FROM services WHERE job_name = ?").get(name);
  if (holder) throw nameTaken("service", name, { service: name, serviceId: holder.id });
}

function jobNameOf(application: Application, descriptor: MicroserviceDescriptor): string {
  return jobName({
    app: application.name,
    appNamespace: application.namespace,
    service: descriptor.microservice_name,
    serviceNamespace: descriptor.microservice_namespace,
  });
}

export function findServices(db: Database, filter: { applicationId?: string; owner?: string } = {}): Service[] {
  const wanted = [
    ["application_id", filter.applicationId],
    ["owner", filter.owner],
  ].filter(([, value]) => value !== undefined);
  const where = wanted.length > 0 ? `WHERE ${wanted.map(([column]) => `${column} = ?`).join(" AND ")}` : "";
  const rows = db.prepare(`${SERVICE} ${where} ORDER BY rowid`).all(...wanted.map(([, value]) => value!));
  return (rows as unknown as ServiceRow[]).map(toService);
}

export function findService(db: Database, id: string): Service | undefined {
  const row = db.prepare(`${SERVICE} WHERE id = ?`).get(id) as ServiceRow | undefined;
  return row && toService(row);
}

export function changeService(
  db: Database,
  id: string,
  descriptor: MicroserviceDescriptor,
  { book, now }: Pick<Registration, "book" | "now">,
): Service {
  const found = findService(db, id);
  if (!found) throw notFound("service", id);
  const jobName = jobNameOf(findApplication(db, found.applicationId)!, descriptor);
  const addresses = changeAddresses(db, { id, jobName, book, now }, { service: found, descriptor });
  const service = { ...found, ...addresses, descriptor, jobName };
  if (service.jobName !== found.jobName) {
    refuseTakenJobName(db, service.jobName);
    refuseWhileInstancesExist(db, "service", id);
  }
  db.prepare("UPDATE services SET job_name = ?, descriptor = ?, round_robin = ?, closest = ? WHERE id = ?").run(
    jobName,
    JSON.stringify(descriptor),
    service.roundRobin,
    service.closest,
    id,
  );
  return service;
}

export function deleteService(db: Database, id: string, now: number): void {
  freeAll(db, "service", id, now);
  const { changes } = db.prepare("DELETE FROM services WHERE id = ?").run(id);
  if (changes === 0) throw notFound("service", id);
}
