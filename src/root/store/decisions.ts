/** SQL of recorded decisions. Synchronous; the store wraps the transactions. */
import type { Database } from "../../base/sqlite.ts";
import { type DecisionRecord, readRecord } from "../../scheduler/record.ts";

export function putDecisions(db: Database, records: readonly DecisionRecord[]): void {
  // An instance may have gone since it was decided about.
  const put = db.prepare(
    `INSERT INTO decisions (instance_id, record) SELECT id, ?2 FROM instances WHERE id = ?1
     ON CONFLICT (instance_id) DO UPDATE SET record = excluded.record`,
  );
  for (const record of records) put.run(record.instanceId, JSON.stringify(record));
}

export function findDecision(db: Database, instanceId: string): DecisionRecord | undefined {
  const row = db.prepare("SELECT record FROM decisions WHERE instance_id = ?").get(instanceId);
  return row && readRecord(JSON.parse(String(row.record)));
}
