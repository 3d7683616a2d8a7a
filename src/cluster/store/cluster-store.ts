/**
 * The cluster's memory on disk. Everything is read once at start and written when it changes; heartbeats never come here.
 * `write()` makes several changes one transaction: all of it is kept, or nothing, whatever kills the process.
 */
import type { StatementSync } from "node:sqlite";
import * as z from "zod/mini";
import { type Database, openDatabase, storageError, transaction } from "../../base/sqlite.ts";
import { WorkerInfo } from "../../protocol/capacity.ts";
import { Assignment, InstanceReport } from "../../protocol/instance.ts";
import { PlacementRequest } from "../../protocol/placement-request.ts";
import { type DecisionRecord, readRecord } from "../../scheduler/record.ts";
import type { Instance, Placement, Withdrawal, Worker } from "../model.ts";
import { MIGRATIONS } from "./migrations.ts";
import { OverlayStore } from "./overlay-store.ts";

const Place = z.object({ workerId: z.string(), number: z.int() });

/** Of an instance that moves, or has moved. */
const Move = z.object({
  successor: z.optional(z.object({ placement: Place, reason: z.string(), report: z.optional(InstanceReport) })),
  predecessor: z.optional(z.object({ placement: Place, report: z.optional(InstanceReport) })),
  moveNote: z.optional(z.string()),
});

export interface StoredInstance extends z.infer<typeof Move> {
  readonly assignment: Assignment;
  readonly placement?: Placement | undefined;
  readonly report?: InstanceReport | undefined;
}

/** What a stored row says may be from an older version: it is checked like a message from outside. */
const parse = <T extends z.ZodMiniType>(schema: T, text: unknown): z.output<T> =>
  z.parse(schema, JSON.parse(String(text)));

const SQL = {
  workers: "SELECT id, hostname, key_digest, info, manifest_revision FROM workers ORDER BY hostname",
  putWorker: `INSERT INTO workers (id, hostname, key_digest, info, manifest_revision) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET hostname = excluded.hostname, info = excluded.info,
      manifest_revision = excluded.manifest_revision`,
  removeWorker: "DELETE FROM workers WHERE id = ?",
  instances: "SELECT assignment, worker_id, placement, report, move FROM instances ORDER BY rowid",
  putInstance: `INSERT INTO instances (id, assignment, worker_id, placement, report, move) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET assignment = excluded.assignment, worker_id = excluded.worker_id,
      placement = excluded.placement, report = excluded.report, move = excluded.move`,
  removeInstance: "DELETE FROM instances WHERE id = ?",
  withdrawals: "SELECT instance_id, worker_id, placement, revision, request FROM withdrawals",
  putWithdrawal:
    "INSERT INTO withdrawals (instance_id, worker_id, placement, revision, request) VALUES (?, ?, ?, ?, ?)",
  removeWithdrawal: "DELETE FROM withdrawals WHERE instance_id = ? AND placement = ?",
  nextPlacement: "UPDATE counters SET value = value + 1 WHERE name = 'placement' RETURNING value",
  // An instance may have gone since it was decided about.
  putDecision: `INSERT INTO decisions (instance_id, record) SELECT id, ?2 FROM instances WHERE id = ?1
    ON CONFLICT (instance_id) DO UPDATE SET record = excluded.record`,
  decision: "SELECT record FROM decisions WHERE instance_id = ?",
  addToken: "INSERT INTO join_tokens (digest, expires_at) VALUES (?, ?)",
  takeToken: "DELETE FROM join_tokens WHERE digest = ? RETURNING expires_at",
  expireTokens: "DELETE FROM join_tokens WHERE expires_at < ?",
} as const;

export class ClusterStore {
  readonly #database: Database;
  readonly #statements: { readonly [K in keyof typeof SQL]: StatementSync };
  readonly overlay: OverlayStore;

  /** @param path of the database file, or `:memory:` */
  constructor(path: string) {
    this.#database = openDatabase(path, MIGRATIONS);
    // What a power cut may take with it (the last moments) is repaired: the root and the workers tell it again.
    this.#database.exec("PRAGMA synchronous=NORMAL");
    const prepared = Object.entries(SQL).map(([name, sql]) => [name, this.#database.prepare(sql)]);
    this.#statements = Object.fromEntries(prepared) as { [K in keyof typeof SQL]: StatementSync };
    this.overlay = new OverlayStore(this.#database);
  }

  /** @throws STORAGE_FULL | STORAGE_FAILED, and whatever `work` throws */
  write<T>(work: () => T): T {
    try {
      return transaction(this.#database, work);
    } catch (error) {
      throw storageError(error, "the cluster's database");
    }
  }

  workers(): Worker[] {
    return this.#statements.workers.all().map((row) => ({
      id: String(row.id),
      hostname: String(row.hostname),
      keyDigest: String(row.key_digest),
      info: parse(WorkerInfo, row.info),
      manifestRevision: Number(row.manifest_revision),
    }));
  }

  instances(): StoredInstance[] {
    return this.#statements.instances.all().map((row) => ({
      assignment: parse(Assignment, row.assignment),
      placement:
        row.worker_id === null ? undefined : { workerId: String(row.worker_id), number: Number(row.placement) },
      report: row.report === null ? undefined : parse(InstanceReport, row.report),
      ...(row.move === null ? {} : parse(Move, row.move)),
    }));
  }

  withdrawals(): Withdrawal[] {
    return this.#statements.withdrawals.all().map((row) => ({
      instanceId: String(row.instance_id),
      workerId: String(row.worker_id),
      number: Number(row.placement),
      revision: Number(row.revision),
      request: parse(PlacementRequest, row.request),
    }));
  }

  putWorker({ id, hostname, keyDigest, info, manifestRevision }: Worker): void {
    this.#statements.putWorker.run(id, hostname, keyDigest, JSON.stringify(info), manifestRevision);
  }

  /** Its instances are left without a placement. */
  removeWorker(id: string): void {
    this.#statements.removeWorker.run(id);
  }

  putInstance(instance: Pick<Instance, "assignment" | "placement" | "report" | keyof z.infer<typeof Move>>): void {
    const { assignment, placement, report } = instance;
    this.#statements.putInstance.run(
      assignment.instanceId,
      JSON.stringify(assignment),
      placement?.workerId ?? null,
      placement?.number ?? null,
      report ? JSON.stringify(report) : null,
      moveOf(instance),
    );
  }

  removeInstance(id: string): void {
    this.#statements.removeInstance.run(id);
  }

  putWithdrawal({ instanceId, workerId, number, revision, request }: Withdrawal): void {
    this.#statements.putWithdrawal.run(instanceId, workerId, number, revision, JSON.stringify(request));
  }

  removeWithdrawal({ instanceId, number }: Withdrawal): void {
    this.#statements.removeWithdrawal.run(instanceId, number);
  }

  /** Never the same twice. */
  nextPlacement(): number {
    return Number(this.#statements.nextPlacement.get()!.value);
  }

  putDecision(record: DecisionRecord): void {
    this.#statements.putDecision.run(record.instanceId, JSON.stringify(record));
  }

  decision(instanceId: string): DecisionRecord | undefined {
    const row = this.#statements.decision.get(instanceId);
    return row && readRecord(JSON.parse(String(row.record)));
  }

  addToken(digest: string, expiresAt: number, now: number): void {
    this.#statements.expireTokens.run(now);
    this.#statements.addToken.run(digest, expiresAt);
  }

  /** Spends the token and returns until when (epoch ms) it was valid; undefined when there is none. */
  takeToken(digest: string): number | undefined {
    const row = this.#statements.takeToken.get(digest);
    return row ? Number(row.expires_at) : undefined;
  }

  close(): void {
    this.#database.close();
  }
}

function moveOf({ successor, predecessor, moveNote }: Pick<Instance, keyof z.infer<typeof Move>>): string | null {
  if (!successor && !predecessor && moveNote === undefined) return null;
  const next = successor && { placement: successor.placement, reason: successor.reason, report: successor.report };
  const before = predecessor && { placement: predecessor.placement, report: predecessor.report };
  const move: z.infer<typeof Move> = { successor: next, predecessor: before, moveNote };
  return JSON.stringify(move);
}
