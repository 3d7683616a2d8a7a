import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { type Database, openDatabase, transaction } from "../../base/sqlite.ts";
import { LiveTable } from "./live-table.ts";

interface Row {
  readonly id: string;
  readonly name: string;
}

const SCHEMA = [
  `CREATE TABLE clusters (id TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT;
   CREATE TABLE instances (id TEXT PRIMARY KEY, cluster TEXT REFERENCES clusters (id) ON DELETE CASCADE) STRICT;`,
];
const SELECT = "SELECT id, name FROM clusters";

function liveClusters(database: Database) {
  const seen: string[] = [];
  const toValue = (row: Row) => {
    seen.push(row.id);
    return { ...row };
  };
  return { table: new LiveTable<Row>(database, { table: "clusters", select: SELECT, toValue }), seen };
}

const put = (database: Database, id: string, name: string) =>
  database
    .prepare("INSERT INTO clusters VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name")
    .run(id, name);

test("only rows that have changed are read again", () => {
  const database = openDatabase(":memory:", SCHEMA);
  const { table, seen } = liveClusters(database);
  for (const id of ["a", "b", "c"]) put(database, id, "old");
  const before = table.all();
  assert.deepEqual(seen.splice(0), ["a", "b", "c"]);
  assert.equal(table.all(), before, "nothing has changed");
  put(database, "b", "new");
  put(database, "b", "newest");
  assert.deepEqual(
    table.all().map(({ name }) => name),
    ["old", "newest", "old"],
  );
  assert.deepEqual(seen, ["b"]);
  assert.equal(before[1]!.name, "old", "what was handed out stays as it was");
});

test("what a transaction undoes was never there", () => {
  const database = openDatabase(":memory:", SCHEMA);
  const { table } = liveClusters(database);
  put(database, "a", "kept");
  table.all();
  assert.throws(() =>
    transaction(database, () => {
      put(database, "a", "undone");
      put(database, "b", "undone");
      throw new Error("undo");
    }),
  );
  assert.deepEqual(table.all(), [{ id: "a", name: "kept" }]);
});

test("rows that go with those they belong to are noticed", () => {
  const database = openDatabase(":memory:", SCHEMA);
  put(database, "a", "one");
  database.exec("INSERT INTO instances VALUES ('i', 'a')");
  const select = "SELECT id FROM instances";
  const instances = new LiveTable<{ id: string }>(database, { table: "instances", select, toValue: (row: Row) => row });
  assert.equal(instances.all().length, 1);
  database.exec("DELETE FROM clusters WHERE id = 'a'");
  assert.deepEqual(instances.all(), []);
});

test("what another connection has written is read", () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-live-"));
  try {
    const path = join(folder, "root.db");
    const [own, other] = [openDatabase(path, SCHEMA), openDatabase(path, SCHEMA)];
    const { table } = liveClusters(own);
    put(own, "a", "own");
    table.all();
    put(other, "a", "other");
    put(other, "b", "other");
    assert.deepEqual(
      table.all().map(({ name }) => name),
      ["other", "other"],
    );
    own.close();
    other.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("whatever is written, all rows are as the database has them", () => {
  const id = fc.constantFrom("a", "b", "c", "d");
  const write = fc.oneof(
    fc.record({ sql: fc.constant("INSERT OR IGNORE INTO clusters VALUES (?1, ?2)"), id }),
    fc.record({ sql: fc.constant("UPDATE clusters SET name = ?2 WHERE id = ?1"), id }),
    fc.record({ sql: fc.constant("DELETE FROM clusters WHERE id = ?1 AND ?2 <> ''"), id }),
  );
  fc.assert(
    fc.property(fc.array(fc.array(write, { maxLength: 5 }), { maxLength: 8 }), (rounds) => {
      const database = openDatabase(":memory:", SCHEMA);
      const { table } = liveClusters(database);
      for (const [round, writes] of rounds.entries()) {
        for (const { sql, id: one } of writes) database.prepare(sql).run(one, `name${round}`);
        const rows = database.prepare(`${SELECT} ORDER BY id`).all();
        assert.deepEqual(
          [...table.all()].sort((left, right) => (left.id < right.id ? -1 : 1)),
          rows.map((row) => ({ ...row })),
        );
      }
      database.close();
    }),
  );
});
