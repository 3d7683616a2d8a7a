/** SQL of instances and clusters. Synchronous; the store wraps the transactions. */
import { AppError } from "../../base/errors.ts";
import { objectId } from "../../base/random.ts";
import type { Database } from "../../base/sqlite.ts";
import type { Aggregate } from "../../protocol/capacity.ts";
import type { MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import { type InstanceReport, isTerminal } from "../../protocol/instance.ts";
import { instanceId } from "../../protocol/names.ts";
import type { Cluster, Instance, Move } from "../model.ts";
import { isMoving, type MoveStep } from "../moves.ts";
import { moveAfter, moved, withMove } from "../moving.ts";
import { isCredible, isNews, lasting, standbyOf } from "../reports.ts";
import { findService } from "./applications.ts";
import { nameTaken, notFound } from "./errors.ts";
import { freeAll, type PieceBook } from "./pieces.ts";
import type { RootStore } from "./root-store.ts";
import { freeAddress, takeAddress } from "./service-addresses.ts";

interface InstanceRow extends Omit<Instance, "clusterId" | "descriptor" | "report" | "move"> {
  readonly clusterId: string | null;
  readonly descriptor: string | null;
  readonly report: string | null;
  readonly move: string | null;
}
interface ClusterRow extends Omit<Cluster, "aggregate"> {
  readonly aggregate: string | null;
}

const INSTANCE = `SELECT id, service_id AS serviceId, number, address, generation, cluster_id AS clusterId, descriptor, status,
  detail, since, report, move FROM instances`;
const CLUSTER = "SELECT id, name, location, ip, aggregate, heard_at AS heardAt FROM clusters";

const toCluster = (row: ClusterRow): Cluster => ({
  ...row,
  aggregate: row.aggregate === null ? undefined : (JSON.parse(row.aggregate) as Aggregate),
});

const toInstance = (row: InstanceRow): Instance => ({
  ...row,
  clusterId: row.clusterId ?? undefined,
  descriptor: row.descriptor === null ? undefined : (JSON.parse(row.descriptor) as MicroserviceDescriptor),
  report: row.report === null ? undefined : (JSON.parse(row.report) as InstanceReport),
  move: row.move === null ? undefined : (JSON.parse(row.move) as Move),
});

export const INSTANCES = { table: "instances", select: INSTANCE, toValue: toInstance } as const;
export const CLUSTERS = { table: "clusters", select: CLUSTER, toValue: toCluster } as const;

export function insertInstance(
  db: Database,
  serviceId: string,
  { book, now }: { readonly book: PieceBook; readonly now: number },
): Instance {
  const service = findService(db, serviceId);
  if (!service) throw notFound("service", serviceId);
  const number = service.nextInstanceNumber;
  const instance: Instance = {
    id: instanceId(serviceId, number),
    serviceId,
    number,
    address: takeAddress(db, { ...service, book, now }),
    generation: 0,
    status: "REQUESTED",
    detail: "Waiting for scheduling decision",
    since: now,
  };
  db.prepare("UPDATE services SET next_instance_number = ? WHERE id = ?").run(number + 1, serviceId);
  db.prepare(
    `INSERT INTO instances (id, service_id, number, address, generation, status, detail, since)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  ).run(instance.id, serviceId, number, instance.address, 0, instance.status, instance.detail, now);
  return instance;
}

export function findInstances(db: Database, filter: { serviceId?: string; clusterId?: string } = {}): Instance[] {
  // Written out for each filter: SQLite uses no index for a condition that may be absent.
  const wanted = [
    ["service_id", filter.serviceId],
    ["cluster_id", filter.clusterId],
  ].filter(([, value]) => value !== undefined);
  const where = wanted.length > 0 ? `WHERE ${wanted.map(([column]) => `${column} = ?`).join(" AND ")}` : "";
  const rows = db.prepare(`${INSTANCE} ${where} ORDER BY rowid`).all(...wanted.map(([, value]) => value!));
  return (rows as unknown as InstanceRow[]).map(toInstance);
}

export function deleteInstance(db: Database, id: string, now: number): boolean {
  const row = db.prepare("DELETE FROM instances WHERE id = ? RETURNING address").get(id);
  if (row) freeAddress(db, String(row.address), now);
  return row !== undefined;
}

export function placeAll(db: Database, placements: Parameters<RootStore["placeInstances"]>[0], now: number): void {
  const place = db.prepare(
    `UPDATE instances SET cluster_id = ?, status = ?, detail = ?, since = ?, report = NULL, move = NULL,
     generation = last_generation + 1, last_generation = last_generation + 1,
     descriptor = (SELECT descriptor FROM services WHERE services.id = service_id) WHERE id = ?`,
  );
  const unplace = db.prepare(
    `UPDATE instances SET cluster_id = NULL, since = CASE WHEN status = ?1 THEN since ELSE ?3 END, status = ?1,
     detail = ?2, report = NULL, descriptor = NULL, move = NULL WHERE id = ?4`,
  );
  for (const { id, clusterId, status, detail } of placements) {
    if (clusterId === undefined) unplace.run(status, detail, now, id);
    else place.run(clusterId, status, detail, now, id);
  }
}

export function moveAll(db: Database, steps: readonly MoveStep[], now: number): Instance[] {
  const find = db.prepare(`${INSTANCE} WHERE id = ?`);
  const next = db.prepare("SELECT last_generation + 1 AS next FROM instances WHERE id = ?");
  const update = db.prepare(
    `UPDATE instances SET cluster_id = ?1, generation = ?2, status = ?3, detail = ?4, since = ?5, report = ?6, move = ?7,
     last_generation = max(last_generation, ?8) WHERE id = ?9`,
  );
  return steps.flatMap((step) => {
    const row = find.get(step.id) as InstanceRow | undefined;
    if (!row) return [];
    const before = toInstance(row);
    const after = moved(before, step, { nextGeneration: Number(next.get(step.id)!.next), now });
    if (!after) return [];
    const { clusterId, generation, status, detail, since, report, move } = after;
    const given = Math.max(generation, move?.successor?.generation ?? 0);
    update.run(clusterId!, generation, status, detail, since, textOf(report), textOf(move), given, step.id);
    return [{ ...before, ...after }];
  });
}

function textOf(value: object | undefined): string | null {
  return value === undefined ? null : JSON.stringify(value);
}

export function keepReports(db: Database, clusterId: string, reports: readonly InstanceReport[]): string[] {
  const find = db.prepare(`${INSTANCE} WHERE id = ?`);
  const update = db.prepare(
    "UPDATE instances SET status = ?, detail = ?, since = ?, report = ?, move = ? WHERE id = ?",
  );
  const updateStandby = db.prepare("UPDATE instances SET move = ? WHERE id = ?");
  const changed = new Set<string>();
  for (const report of reports) {
    const row = find.get(report.instanceId) as InstanceRow | undefined;
    if (!row) continue;
    const instance = toInstance(row);
    const { id, serviceId, move } = instance;
    const standby = standbyOf(instance, clusterId, report);
    if (standby) {
      const one = { ...move![standby]!, report: lasting(report) };
      if (isNews(move![standby]!.report, report)) updateStandby.run(textOf({ ...move, [standby]: one }), id);
      continue;
    }
    if (!isCredible(instance, clusterId, report) || !isNews(instance.report, report)) continue;
    const { status, detail, since } = report;
    const next = moveAfter(instance, status);
    update.run(status, withMove(detail, next), since, textOf(lasting(report)), textOf(next), id);
    changed.add(serviceId);
  }
  return [...changed];
}

export function admit(db: Database, hello: Parameters<RootStore["admitCluster"]>[0]): Cluster {
  const { name, location, ip, keyDigest, joinTokenDigest, now, tokenNow = now } = hello;
  const known = db.prepare(`${CLUSTER} WHERE key_digest = ?`).get(keyDigest) as ClusterRow | undefined;
  if (!known && !isSpent(db, joinTokenDigest, tokenNow)) {
    const token = joinTokenDigest === undefined ? "it has no join token" : "its join token is unknown, used or expired";
    throw new AppError(
      "TOKEN_INVALID",
      `Cluster "${name}" is not known here, and ${token}: make one with "oak cluster token", good for one cluster and 15 minutes, and give it as OAK_JOIN_TOKEN or in joinTokenFile`,
    );
  }
  const holder = db.prepare("SELECT id FROM clusters WHERE name = ?").get(name) as { id: string } | undefined;
  if (holder && holder.id !== known?.id) throw nameTaken("cluster", name, { cluster: name, clusterId: holder.id });
  const id = known?.id ?? objectId();
  db.prepare(
    `INSERT INTO clusters (id, name, location, ip, key_digest, heard_at) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, location = excluded.location, ip = excluded.ip,
     heard_at = excluded.heard_at`,
  ).run(id, name, location, ip, keyDigest, now);
  return toCluster(db.prepare(`${CLUSTER} WHERE id = ?`).get(id) as unknown as ClusterRow);
}

/** Takes the token out; expired ones go with it. The transaction gives it back when the admission fails. */
function isSpent(db: Database, digest: string | undefined, now: number): boolean {
  db.prepare("DELETE FROM join_tokens WHERE expires_at <= ?").run(now);
  return digest !== undefined && db.prepare("DELETE FROM join_tokens WHERE digest = ?").run(digest).changes > 0;
}

export function insertJoinToken(db: Database, digest: string, expiresAt: number): void {
  db.prepare("INSERT INTO join_tokens (digest, expires_at) VALUES (?, ?)").run(digest, expiresAt);
}

export function touch(db: Database, id: string, change: Parameters<RootStore["touchCluster"]>[1]): void {
  db.prepare("UPDATE clusters SET heard_at = ?, aggregate = coalesce(?, aggregate) WHERE id = ?").run(
    change.heardAt,
    change.aggregate ? JSON.stringify(change.aggregate) : null,
    id,
  );
}

export function deleteCluster(db: Database, id: string, now: number): void {
  const row = db.prepare("DELETE FROM clusters WHERE id = ? RETURNING name").get(id) as { name: string } | undefined;
  if (!row) throw notFound("cluster", id);
  freeAll(db, "block", id, now);
  const unplaced = findInstances(db, { clusterId: id })
    // What moves is in another cluster, too: that one takes over, or takes it back, if it can.
    .filter((instance) => !isTerminal(instance.status) && !isMoving(instance))
    .map((instance) => ({
      id: instance.id,
      clusterId: undefined,
      status: "REQUESTED" as const,
      detail: `cluster "${row.name}" was removed; waiting for another`,
    }));
  placeAll(db, unplaced, now);
}
