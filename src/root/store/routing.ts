/** SQL behind the overlay's routes, and behind the blocks of clusters. Synchronous; the store wraps the transactions. */
import { type AddressPlan, formatPiece } from "../../addressing/address-plan.ts";
import { formatSubnet, parseAddress } from "../../addressing/subnet.ts";
import type { Database } from "../../base/sqlite.ts";
import type { InterestKey } from "../../protocol/route.ts";
import type { Instance, Service } from "../model.ts";
import { findService } from "./applications.ts";
import { findInstances } from "./instances.ts";
import { piecesOf, takeNext } from "./pieces.ts";

/** Grows with every call. */
export function raiseEpoch(db: Database): number {
  const row = db
    .prepare("INSERT INTO counters VALUES ('epoch', 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value")
    .get();
  return Number(row!.value);
}

const LOOK_UP = {
  address: "SELECT holder AS id FROM pieces WHERE pool = 'service' AND piece = ? AND holder IS NOT NULL",
  name: "SELECT id FROM services WHERE job_name = ? COLLATE NOCASE",
  application: "SELECT id FROM services WHERE application_id = ? ORDER BY rowid",
} as const;

export function findServicesOf(db: Database, keys: readonly InterestKey[]): Map<InterestKey, string[]> {
  const found = new Map<InterestKey, string[]>();
  for (const key of keys) {
    const [kind, text] = key.split(":", 2) as [keyof typeof LOOK_UP, string];
    const value = kind === "address" ? (parseAddress(text) ?? -1) : text;
    const rows = db.prepare(LOOK_UP[kind]).all(value);
    found.set(
      key,
      rows.map(({ id }) => String(id)),
    );
  }
  return found;
}

export function findRouted(
  db: Database,
  serviceIds: readonly string[],
): { readonly service: Service; readonly instances: readonly Instance[] }[] {
  return serviceIds.flatMap((id) => {
    const service = findService(db, id);
    return service ? [{ service, instances: findInstances(db, { serviceId: id }) }] : [];
  });
}

/** One more block when the cluster wants more, and there is one. */
export function blocksOf(
  db: Database,
  { blocks: pool, service, quarantineMs }: AddressPlan,
  cluster: { readonly id: string; readonly wantsMore: boolean; readonly now: number },
): { readonly serviceRange: string; readonly blocks: string[] } {
  const { id, wantsMore, now } = cluster;
  const isKnown = db.prepare("SELECT 1 FROM clusters WHERE id = ?").get(id) !== undefined;
  if (wantsMore && isKnown) takeNext(db, { name: "block", pool, quarantineMs }, { holder: id, now });
  return {
    serviceRange: formatSubnet(service.ranges[0]),
    blocks: piecesOf(db, "block", id).map((piece) => formatPiece(pool, piece)),
  };
}
