-- Times are microseconds since 1970 UTC. Text is compared by its bytes: SQLite's BINARY, which is the default.
-- A statement ends with a semicolon at the end of a line.

CREATE TABLE keycote_schema (
  version INTEGER NOT NULL PRIMARY KEY,
  oldest  INTEGER -- version whose programs can work with this one; NULL: this one
);

CREATE TABLE keycote_records (
  tenant     TEXT    NOT NULL,
  id         TEXT    NOT NULL,
  kind       TEXT    NOT NULL,
  name       TEXT,             -- NULL when empty: NULLs are not held against each other, on any of the databases
  app        TEXT    NOT NULL,
  owner      TEXT    NOT NULL,
  state      TEXT    NOT NULL,
  search     TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,          -- NULL: never
  rotated_at INTEGER NOT NULL,
  revision   INTEGER NOT NULL,
  body       BLOB,
  seal       BLOB,
  PRIMARY KEY (tenant, id)
);
-- No other index begins with tenant: a page of records is to come in the order of the primary key, and never by a sort.
CREATE UNIQUE INDEX keycote_records_name ON keycote_records (name, kind, tenant);
CREATE INDEX keycote_records_by_name ON keycote_records (name, tenant, id);
CREATE INDEX keycote_records_by_app ON keycote_records (app, tenant, id);
CREATE INDEX keycote_records_by_owner ON keycote_records (owner, tenant, id);

CREATE TABLE keycote_digests (
  digest BLOB    NOT NULL PRIMARY KEY,
  tenant TEXT    NOT NULL,
  id     TEXT    NOT NULL,
  place  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keycote_digests_by_record ON keycote_digests (tenant, id);

CREATE TABLE keycote_labels (
  tenant TEXT NOT NULL,
  id     TEXT NOT NULL,
  label  TEXT NOT NULL,
  value  TEXT NOT NULL,
  PRIMARY KEY (tenant, id, label)
) WITHOUT ROWID;
CREATE INDEX keycote_labels_by_value ON keycote_labels (label, value, tenant, id);

-- What was used how often, by version; it outlives the rows of keycote_uses.
CREATE TABLE keycote_totals (
  tenant   TEXT    NOT NULL,
  id       TEXT    NOT NULL,
  version  INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at  INTEGER NOT NULL,
  PRIMARY KEY (tenant, id, version)
) WITHOUT ROWID;

CREATE TABLE keycote_items (
  tenant   TEXT    NOT NULL,
  space    TEXT    NOT NULL,
  name     TEXT    NOT NULL,
  revision INTEGER NOT NULL,
  body     BLOB,
  PRIMARY KEY (tenant, space, name)
);
CREATE INDEX keycote_items_by_space ON keycote_items (space, tenant, name);
CREATE INDEX keycote_items_by_name ON keycote_items (tenant, name, space);

CREATE TABLE keycote_events (
  id       TEXT    NOT NULL PRIMARY KEY,
  tenant   TEXT    NOT NULL,
  key_id   TEXT    NOT NULL,
  actor    TEXT    NOT NULL,
  action   TEXT    NOT NULL,
  outcome  TEXT    NOT NULL,
  at       INTEGER NOT NULL,
  body     BLOB,
  seal     BLOB,
  personal BLOB
);
CREATE INDEX keycote_events_by_tenant ON keycote_events (tenant, id);
CREATE INDEX keycote_events_by_key ON keycote_events (tenant, key_id, id);
CREATE INDEX keycote_events_by_actor ON keycote_events (tenant, actor, id);
CREATE INDEX keycote_events_by_time ON keycote_events (tenant, at, id);
CREATE INDEX keycote_events_by_age ON keycote_events (at, id);

CREATE TABLE keycote_uses (
  tenant    TEXT    NOT NULL,
  window_at INTEGER NOT NULL,
  key_id    TEXT    NOT NULL,
  version   INTEGER NOT NULL,
  outcome   TEXT    NOT NULL,
  addr      TEXT    NOT NULL,
  route     TEXT    NOT NULL,
  agent     TEXT    NOT NULL,
  n         INTEGER NOT NULL,
  first_at  INTEGER NOT NULL,
  last_at   INTEGER NOT NULL,
  PRIMARY KEY (tenant, window_at, key_id, version, outcome, addr, route, agent)
) WITHOUT ROWID;
CREATE INDEX keycote_uses_by_key ON keycote_uses (tenant, key_id, window_at);
CREATE INDEX keycote_uses_by_age ON keycote_uses (window_at, key_id, version);

CREATE TABLE keycote_batches (
  id      TEXT    NOT NULL PRIMARY KEY,
  done_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keycote_batches_by_age ON keycote_batches (done_at);

-- One row: the number of the last change. Whoever changes records or items holds it until commit.
CREATE TABLE keycote_head (
  one INTEGER NOT NULL PRIMARY KEY,
  n   INTEGER NOT NULL
);

CREATE TABLE keycote_feed (
  n         INTEGER NOT NULL PRIMARY KEY,
  mark      TEXT    NOT NULL, -- random: a number that was given out again after a restore is not mistaken
  at        INTEGER NOT NULL,
  tenant    TEXT    NOT NULL,
  id        TEXT    NOT NULL,
  space     TEXT    NOT NULL,
  revision  INTEGER NOT NULL,
  digests   BLOB
);

INSERT INTO keycote_head (one, n) VALUES (1, 0);

-- The feed always holds a row to stand on: number 0 is the position of an empty store.
INSERT INTO keycote_feed (n, mark, at, tenant, id, space, revision)
  VALUES (0, lower(hex(randomblob(8))), CAST(strftime('%s', 'now') AS INTEGER) * 1000000, '', '', '', 0);

INSERT INTO keycote_schema (version, oldest) VALUES (1, 1);
