/** SQL of what is given out of the address ranges: addresses to services, blocks to clusters. Synchronous; the store wraps the transactions. */
import { isUsable, nextPiece, type Pool } from "../../addressing/pool.ts";
import type { Database } from "../../base/sqlite.ts";

export type PoolName = "service" | "block";

export interface PieceBook {
  readonly name: PoolName;
  readonly pool: Pool;
  readonly quarantineMs: number;
}

/** Takes the next piece for the holder; undefined when none is left. @param avoid pieces that somebody else asks for by name */
export function takeNext(
  db: Database,
  book: PieceBook,
  {
    holder,
    now,
    avoid = new Set(),
  }: { readonly holder: string; readonly now: number; readonly avoid?: ReadonlySet<number> },
): number | undefined {
  const { name, pool } = book;
  const cursor = db.prepare("SELECT value FROM counters WHERE name = ?").get(name)?.value as number | undefined;
  const known = db.prepare("SELECT 1 FROM pieces WHERE pool = ? AND piece = ?");
  const rested = findRested(db, book, now, avoid);
  const isTaken = (piece: number) => avoid.has(piece) || known.get(name, piece) !== undefined;
  const piece = nextPiece(pool, { isTaken, cursor, rested });
  if (piece === undefined) return undefined;
  if (piece !== rested) {
    db.prepare("INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)").run(name, piece);
  }
  put(db, name, piece, holder);
  return piece;
}

/** Takes this very piece, also one that rests: whoever asks for it by name knows it. Returns the holder that has it instead. */
export function takeWanted(db: Database, name: PoolName, piece: number, holder: string): string | undefined {
  const row = db.prepare("SELECT holder FROM pieces WHERE pool = ? AND piece = ?").get(name, piece);
  if (typeof row?.holder === "string") return row.holder;
  put(db, name, piece, holder);
  return undefined;
}

export function free(db: Database, name: PoolName, piece: number, now: number): void {
  db.prepare("UPDATE pieces SET holder = NULL, freed_at = ? WHERE pool = ? AND piece = ?").run(now, name, piece);
}

export function freeAll(db: Database, name: PoolName, holder: string, now: number): void {
  // SQLite does not use the index of holders for an update of holders.
  for (const piece of piecesOf(db, name, holder)) free(db, name, piece, now);
}

/** In the order of the pieces. */
export function piecesOf(db: Database, name: PoolName, holder: string): number[] {
  const rows = db.prepare("SELECT piece FROM pieces WHERE pool = ? AND holder = ? ORDER BY piece").all(name, holder);
  return rows.map(({ piece }) => Number(piece));
}

function findRested(
  db: Database,
  { name, pool, quarantineMs }: PieceBook,
  now: number,
  avoid: ReadonlySet<number>,
): number | undefined {
  const free = "SELECT piece FROM pieces WHERE pool = ? AND holder IS NULL AND freed_at";
  const rested = db.prepare(`${free} <= ? ORDER BY freed_at, piece`).iterate(name, now - quarantineMs);
  // Freed in the future: a clock that was ahead has been set. That must not keep it back for a year.
  const early = db.prepare(`${free} > ? ORDER BY freed_at, piece`).iterate(name, now + quarantineMs);
  for (const row of chain(rested, early)) {
    const piece = Number(row.piece);
    // The range may be another than when it was given out.
    if (isUsable(pool, piece) && !avoid.has(piece)) return piece;
  }
  return undefined;
}

function* chain<T>(...lists: readonly Iterable<T>[]): Generator<T, void, void> {
  for (const list of lists) yield* list;
}

function put(db: Database, name: PoolName, piece: number, holder: string): void {
  db.prepare("INSERT OR REPLACE INTO pieces (pool, piece, holder, freed_at) VALUES (?, ?, ?, NULL)").run(
    name,
    piece,
    holder,
  );
}
