/** The root's schema, in order of its versions (base/sqlite.ts). Never edit one that shipped: append. */
export const ROOT_MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE users (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    token_epoch INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE applications (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    description TEXT NOT NULL,
    extra TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (name, namespace)
  ) STRICT;

  CREATE TABLE services (
    id TEXT PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    job_name TEXT NOT NULL UNIQUE,
    descriptor TEXT NOT NULL,
    round_robin TEXT NOT NULL,
    closest TEXT NOT NULL,
    next_instance_number INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX services_of_application ON services (application_id);

  CREATE TABLE clusters (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    location TEXT NOT NULL,
    ip TEXT NOT NULL,
    key_digest TEXT NOT NULL UNIQUE,
    aggregate TEXT,
    heard_at INTEGER NOT NULL
  ) STRICT;

  CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    address TEXT NOT NULL,
    generation INTEGER NOT NULL,
    cluster_id TEXT,
    descriptor TEXT,
    status TEXT NOT NULL,
    detail TEXT NOT NULL,
    since INTEGER NOT NULL,
    report TEXT
  ) STRICT;
  CREATE INDEX instances_of_service ON instances (service_id);
  CREATE INDEX instances_of_cluster ON instances (cluster_id);

  CREATE TABLE join_tokens (digest TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  -- Whatever was ever given out of the address ranges: addresses to services, blocks to clusters.
  CREATE TABLE pieces (
    pool TEXT NOT NULL,                       -- service, block
    piece INTEGER NOT NULL,                   -- its first IPv4 address
    holder TEXT,                              -- id of a service or cluster; NULL: free, and rests
    freed_at INTEGER,
    PRIMARY KEY (pool, piece)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX pieces_of_holder ON pieces (pool, holder) WHERE holder IS NOT NULL;
  CREATE INDEX resting_pieces ON pieces (pool, freed_at) WHERE holder IS NULL;

  -- By pool: the last piece that was given out for the first time. epoch: starts of this root.
  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE registries (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    sealed_password TEXT NOT NULL,
    PRIMARY KEY (owner, name)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- The last decision about each instance (scheduler/record.ts), for "why is it there".
  CREATE TABLE decisions (
    instance_id TEXT PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    record TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- DNS, by which names are asked for, compares without letter case.
  CREATE INDEX services_by_name ON services (job_name COLLATE NOCASE);
  `,
  `
  ALTER TABLE instances ADD COLUMN move TEXT;                                  -- to another cluster (Move of root/model.ts)
  ALTER TABLE instances ADD COLUMN last_generation INTEGER NOT NULL DEFAULT 0; -- the highest that a cluster was ever given
  UPDATE instances SET last_generation = generation;
  `,
];
