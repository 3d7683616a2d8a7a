/**
 * All rows of a table as values, for whoever looks at all of them often: read and parsed once, and again only where a row has
 * changed. The database says itself what has changed, by triggers of this connection, so that no writer can forget to: with the
 * transaction, their notes come and go. What another connection has written makes everything be read anew.
 */
import type { Database } from "../../base/sqlite.ts";

export interface LiveTableOptions<T> {
  readonly table: "services" | "instances" | "clusters";
  /** Without WHERE and ORDER BY. */
  readonly select: string;
  readonly toValue: (row: never) => T;
}

export class LiveTable<T extends { readonly id: string }> {
  readonly #database: Database;
  readonly #options: LiveTableOptions<T>;
  readonly #values = new Map<string, T>();
  #all: readonly T[] = [];
  /** SQLite's count of what other connections have written; undefined: nothing has been read. */
  #foreignWrites: number | undefined;

  constructor(database: Database, options: LiveTableOptions<T>) {
    this.#database = database;
    this.#options = options;
    const { table } = options;
    // Without "OR IGNORE": the statement that fires a trigger has its own word on conflicts, which would hold inside, too.
    const on = (event: string, row: string) =>
      `CREATE TEMP TRIGGER ${table}_${event} AFTER ${event} ON main.${table} BEGIN
         INSERT INTO touched_${table} SELECT ${row}.id WHERE ${row}.id NOT IN (SELECT id FROM touched_${table});
       END;`;
    database.exec(
      `PRAGMA temp_store=MEMORY;
       CREATE TEMP TABLE touched_${table} (id TEXT PRIMARY KEY) WITHOUT ROWID;
       ${on("insert", "NEW")} ${on("update", "NEW")} ${on("delete", "OLD")}`,
    );
  }

  /** In the order in which they came; the same array until something changes. Not to be asked inside a transaction, which may be undone. */
  all(): readonly T[] {
    const { data_version: writes } = this.#database.prepare("PRAGMA data_version").get() as { data_version: number };
    const isFresh = writes === this.#foreignWrites;
    const touched = this.#database.prepare(`SELECT id FROM touched_${this.#options.table}`).all();
    if (isFresh && touched.length === 0) return this.#all;
    if (isFresh) for (const { id } of touched) this.#readOne(String(id));
    else this.#readAll();
    this.#database.exec(`DELETE FROM touched_${this.#options.table}`);
    this.#foreignWrites = writes;
    this.#all = [...this.#values.values()];
    return this.#all;
  }

  #readOne(id: string): void {
    const { select, toValue } = this.#options;
    const row = this.#database.prepare(`${select} WHERE id = ?`).get(id);
    if (row) this.#values.set(id, toValue(row as never));
    else this.#values.delete(id);
  }

  #readAll(): void {
    const { select, toValue } = this.#options;
    this.#values.clear();
    for (const row of this.#database.prepare(`${select} ORDER BY rowid`).iterate()) {
      const value = toValue(row as never);
      this.#values.set(value.id, value);
    }
  }
}
