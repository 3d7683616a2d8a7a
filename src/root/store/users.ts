/** SQL of users, their registry credentials and the installation's secrets. Synchronous; the store wraps the transactions. */
import { AppError } from "../../base/errors.ts";
import type { Database } from "../../base/sqlite.ts";
import type { Registry, Role, User } from "../model.ts";
import { nameTaken, notFound } from "./errors.ts";

interface UserRow {
  name: string;
  id: string;
  email: string;
  password_hash: string;
  roles: string;
  created_at: number;
  token_epoch: number;
}

const toUser = (row: UserRow): User => ({
  id: row.id,
  name: row.name,
  email: row.email,
  passwordHash: row.password_hash,
  roles: JSON.parse(row.roles) as Role[],
  createdAt: row.created_at,
  tokenEpoch: row.token_epoch,
});

export function allUsers(db: Database): User[] {
  return (db.prepare("SELECT * FROM users ORDER BY rowid").all() as unknown as UserRow[]).map(toUser);
}

export function findUser(db: Database, name: string): User | undefined {
  const row = db.prepare("SELECT * FROM users WHERE name = ?").get(name) as UserRow | undefined;
  return row && toUser(row);
}

export function insertUser(db: Database, user: User): void {
  if (findUser(db, user.name)) throw nameTaken("user", user.name, { user: user.name });
  db.prepare(
    "INSERT INTO users (id, name, email, password_hash, roles, created_at, token_epoch) VALUES (?, ?, ?, ?, ?, ?, ?)",
  ).run(user.id, user.name, user.email, user.passwordHash, JSON.stringify(user.roles), user.createdAt, user.tokenEpoch);
}

export function changeUser(db: Database, name: string, change: Partial<User>): User {
  const found = findUser(db, name);
  if (!found) throw notFound("user", name);
  const user = { ...found, ...change };
  db.prepare("UPDATE users SET email = ?, password_hash = ?, roles = ?, token_epoch = ? WHERE name = ?").run(
    user.email,
    user.passwordHash,
    JSON.stringify(user.roles),
    user.tokenEpoch,
    name,
  );
  return user;
}

export function deleteUser(db: Database, name: string): void {
  if (!findUser(db, name)) throw notFound("user", name);
  const owned = db.prepare("SELECT name, namespace FROM applications WHERE owner = ?").all(name);
  if (owned.length > 0) {
    throw new AppError("IN_USE", `Cannot remove user "${name}": it has ${owned.length} application(s)`, {
      details: { applications: owned.map((one) => `${one.name}.${one.namespace}`) },
    });
  }
  db.prepare("DELETE FROM registries WHERE owner = ?").run(name);
  db.prepare("DELETE FROM users WHERE name = ?").run(name);
}

export function registriesOf(db: Database, owner: string): Registry[] {
  const rows = db
    .prepare("SELECT owner, name, server, username FROM registries WHERE owner = ? ORDER BY name")
    .all(owner) as unknown as Registry[];
  // SQLite's rows have no prototype; ours are plain objects.
  return rows.map((row) => ({ ...row }));
}

export function replaceRegistry(db: Database, registry: Registry, sealedPassword: string): void {
  db.prepare(
    "INSERT OR REPLACE INTO registries (owner, name, server, username, sealed_password) VALUES (?, ?, ?, ?, ?)",
  ).run(registry.owner, registry.name, registry.server, registry.username, sealedPassword);
}

export function findRegistryPassword(
  db: Database,
  owner: string,
  name: string,
): { server: string; username: string; sealedPassword: string } | undefined {
  return db
    .prepare("SELECT server, username, sealed_password AS sealedPassword FROM registries WHERE owner = ? AND name = ?")
    .get(owner, name) as { server: string; username: string; sealedPassword: string } | undefined;
}

export function deleteRegistry(db: Database, owner: string, name: string): void {
  const { changes } = db.prepare("DELETE FROM registries WHERE owner = ? AND name = ?").run(owner, name);
  if (changes === 0) throw notFound("registry", name);
}

export function findOrMakeSecret(db: Database, name: string, make: () => string): string {
  const row = db.prepare("SELECT value FROM secrets WHERE name = ?").get(name) as { value: string } | undefined;
  if (row) return row.value;
  const value = make();
  db.prepare("INSERT INTO secrets (name, value) VALUES (?, ?)").run(name, value);
  return value;
}
