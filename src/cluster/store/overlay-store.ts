/** The overlay's part of the cluster's database. Changes belong into `ClusterStore.write`. */
import type { StatementSync } from "node:sqlite";
import * as z from "zod/mini";
import type { Database } from "../../base/sqlite.ts";
import { Cidr, InterestKey, ServiceRoute } from "../../protocol/route.ts";

export interface StoredSubnet {
  /** Its first address. */
  readonly base: number;
  /** Undefined: free, and at rest since `freedAt` (epoch ms). */
  readonly workerId?: string | undefined;
  readonly freedAt?: number | undefined;
}

const ServiceIds = z.array(z.string());
const Network = z.object({ serviceRange: Cidr, blocks: z.array(Cidr), key: z.optional(z.string()) });
export type StoredNetwork = z.infer<typeof Network>;

const SQL = {
  nextEpoch: "UPDATE counters SET value = value + 1 WHERE name = 'epoch' RETURNING value",
  tables: "SELECT body FROM root_routes",
  putTable: "INSERT OR REPLACE INTO root_routes (service_id, body) VALUES (?, ?)",
  removeTable: "DELETE FROM root_routes WHERE service_id = ?",
  answers: "SELECT key, service_ids FROM root_answers",
  putAnswer: "INSERT OR REPLACE INTO root_answers (key, service_ids) VALUES (?, ?)",
  removeAnswer: "DELETE FROM root_answers WHERE key = ?",
  network: "SELECT service_range, blocks, key FROM network",
  putNetwork: "INSERT OR REPLACE INTO network (id, service_range, blocks, key) VALUES (1, ?, ?, ?)",
  subnets: "SELECT base, worker_id, freed_at FROM subnets ORDER BY base",
  putSubnet: "INSERT OR REPLACE INTO subnets (base, worker_id, freed_at) VALUES (?, ?, ?)",
} as const;

export class OverlayStore {
  readonly #statements: { readonly [K in keyof typeof SQL]: StatementSync };

  constructor(database: Database) {
    const prepared = Object.entries(SQL).map(([name, sql]) => [name, database.prepare(sql)]);
    this.#statements = Object.fromEntries(prepared) as { [K in keyof typeof SQL]: StatementSync };
  }

  /** Grows with every call. */
  nextEpoch(): number {
    return Number(this.#statements.nextEpoch.get()!.value);
  }

  tables(): ServiceRoute[] {
    return this.#statements.tables.all().map(({ body }) => z.parse(ServiceRoute, JSON.parse(String(body))));
  }

  putTable(table: ServiceRoute): void {
    this.#statements.putTable.run(table.serviceId, JSON.stringify(table));
  }

  removeTable(serviceId: string): void {
    this.#statements.removeTable.run(serviceId);
  }

  answers(): { readonly key: InterestKey; readonly serviceIds: string[] }[] {
    return this.#statements.answers.all().map(({ key, service_ids }) => ({
      key: z.parse(InterestKey, key),
      serviceIds: z.parse(ServiceIds, JSON.parse(String(service_ids))),
    }));
  }

  /** An empty answer is not worth a row: it is asked again. */
  putAnswer(key: InterestKey, serviceIds: readonly string[]): void {
    if (serviceIds.length > 0) this.#statements.putAnswer.run(key, JSON.stringify(serviceIds));
    else this.#statements.removeAnswer.run(key);
  }

  network(): StoredNetwork | undefined {
    const row = this.#statements.network.get();
    if (!row) return undefined;
    const blocks: unknown = JSON.parse(String(row.blocks));
    return z.parse(Network, { serviceRange: row.service_range, blocks, key: row.key ?? undefined });
  }

  putNetwork({ serviceRange, blocks, key }: StoredNetwork): void {
    this.#statements.putNetwork.run(serviceRange, JSON.stringify(blocks), key ?? null);
  }

  subnets(): StoredSubnet[] {
    return this.#statements.subnets.all().map(({ base, worker_id, freed_at }) => ({
      base: Number(base),
      workerId: worker_id === null ? undefined : String(worker_id),
      freedAt: freed_at === null ? undefined : Number(freed_at),
    }));
  }

  putSubnet({ base, workerId, freedAt }: StoredSubnet): void {
    this.#statements.putSubnet.run(base, workerId ?? null, freedAt ?? null);
  }
}
