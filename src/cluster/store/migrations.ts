/** The cluster's database, oldest first. Never edit one that shipped. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    hostname TEXT NOT NULL UNIQUE,
    key_digest TEXT NOT NULL UNIQUE,
    info TEXT NOT NULL,                       -- WorkerInfo
    manifest_revision INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- What the root wants here, in the order in which it came (rowid), and the worker that has it.
  CREATE TABLE instances (
    id TEXT NOT NULL UNIQUE,
    assignment TEXT NOT NULL,                 -- Assignment
    worker_id TEXT REFERENCES workers (id) ON DELETE SET NULL,
    placement INTEGER,
    report TEXT                               -- InstanceReport of this placement, so that a restart does not forget it
  ) STRICT;

  CREATE TABLE withdrawals (
    instance_id TEXT NOT NULL,
    worker_id TEXT NOT NULL REFERENCES workers (id) ON DELETE CASCADE,
    placement INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    request TEXT NOT NULL,                    -- PlacementRequest
    PRIMARY KEY (instance_id, placement)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE join_tokens (digest TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO counters VALUES ('placement', 0), ('epoch', 0);

  -- What the root has told of routes: tables of services, and which services the keys of our interest stand for.
  CREATE TABLE root_routes (service_id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE root_answers (key TEXT PRIMARY KEY, service_ids TEXT NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE network (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    service_range TEXT NOT NULL,
    blocks TEXT NOT NULL                      -- of the root, for the subnets of our workers
  ) STRICT;

  CREATE TABLE subnets (
    base INTEGER PRIMARY KEY,                 -- its first address
    worker_id TEXT REFERENCES workers (id) ON DELETE SET NULL,
    freed_at INTEGER
  ) STRICT;
  `,
  `
  -- The last decision about each instance (scheduler/record.ts), for "why is it there".
  CREATE TABLE decisions (
    instance_id TEXT PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    record TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- By which the workers of the installation know each other.
  ALTER TABLE network ADD COLUMN key TEXT;
  `,
  `
  -- Of an instance that moves between two workers: the other one, and why (Move in cluster-store.ts).
  ALTER TABLE instances ADD COLUMN move TEXT;
  `,
];
