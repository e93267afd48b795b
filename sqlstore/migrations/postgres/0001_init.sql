-- Times are microseconds since 1970 UTC; the views at the end show them, and labels, as a person wants to read them.
-- Text is compared by its bytes: COLLATE "C". A statement ends with a semicolon at the end of a line.

CREATE TABLE keycote_schema (
  version integer NOT NULL PRIMARY KEY,
  oldest  integer -- version whose programs can work with this one; NULL: this one
);

CREATE TABLE keycote_records (
  tenant     text COLLATE "C" NOT NULL,
  id         text COLLATE "C" NOT NULL,
  kind       text COLLATE "C" NOT NULL,
  name       text COLLATE "C", -- NULL when empty: NULLs are not held against each other, on any of the databases
  app        text COLLATE "C" NOT NULL,
  owner      text COLLATE "C" NOT NULL,
  state      text COLLATE "C" NOT NULL,
  search     text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  expires_at bigint, -- NULL: never
  rotated_at bigint NOT NULL,
  revision   bigint NOT NULL,
  body       bytea,
  seal       bytea,
  PRIMARY KEY (tenant, id)
);
-- No other index begins with tenant: a page of records is to come in the order of the primary key, and never by a sort.
CREATE UNIQUE INDEX keycote_records_name ON keycote_records (name, kind, tenant);
CREATE INDEX keycote_records_by_name ON keycote_records (name, tenant, id);
CREATE INDEX keycote_records_by_app ON keycote_records (app, tenant, id);
CREATE INDEX keycote_records_by_owner ON keycote_records (owner, tenant, id);

CREATE TABLE keycote_digests (
  digest bytea NOT NULL PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  id     text COLLATE "C" NOT NULL,
  place  integer NOT NULL
);
CREATE INDEX keycote_digests_by_record ON keycote_digests (tenant, id);

CREATE TABLE keycote_labels (
  tenant text COLLATE "C" NOT NULL,
  id     text COLLATE "C" NOT NULL,
  label  text COLLATE "C" NOT NULL,
  value  text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant, id, label)
);
CREATE INDEX keycote_labels_by_value ON keycote_labels (label, value, tenant, id);

-- What was used how often, by version; it outlives the rows of keycote_uses.
CREATE TABLE keycote_totals (
  tenant   text COLLATE "C" NOT NULL,
  id       text COLLATE "C" NOT NULL,
  version  integer NOT NULL,
  n        bigint NOT NULL,
  first_at bigint NOT NULL,
  last_at  bigint NOT NULL,
  PRIMARY KEY (tenant, id, version)
);

CREATE TABLE keycote_items (
  tenant   text COLLATE "C" NOT NULL,
  space    text COLLATE "C" NOT NULL,
  name     text COLLATE "C" NOT NULL,
  revision bigint NOT NULL,
  body     bytea,
  PRIMARY KEY (tenant, space, name)
);
CREATE INDEX keycote_items_by_space ON keycote_items (space, tenant, name);
CREATE INDEX keycote_items_by_name ON keycote_items (tenant, name, space);

CREATE TABLE keycote_events (
  id       text COLLATE "C" NOT NULL PRIMARY KEY,
  tenant   text COLLATE "C" NOT NULL,
  key_id   text COLLATE "C" NOT NULL,
  actor    text COLLATE "C" NOT NULL,
  action   text COLLATE "C" NOT NULL,
  outcome  text COLLATE "C" NOT NULL,
  at       bigint NOT NULL,
  body     bytea,
  seal     bytea,
  personal bytea
);
CREATE INDEX keycote_events_by_tenant ON keycote_events (tenant, id);
CREATE INDEX keycote_events_by_key ON keycote_events (tenant, key_id, id);
CREATE INDEX keycote_events_by_actor ON keycote_events (tenant, actor, id);
CREATE INDEX keycote_events_by_time ON keycote_events (tenant, at, id);
CREATE INDEX keycote_events_by_age ON keycote_events (at, id);

CREATE TABLE keycote_uses (
  tenant    text COLLATE "C" NOT NULL,
  window_at bigint NOT NULL,
  key_id    text COLLATE "C" NOT NULL,
  version   integer NOT NULL,
  outcome   text COLLATE "C" NOT NULL,
  addr      text COLLATE "C" NOT NULL,
  route     text COLLATE "C" NOT NULL,
  agent     text COLLATE "C" NOT NULL,
  n         bigint NOT NULL,
  first_at  bigint NOT NULL,
  last_at   bigint NOT NULL,
  PRIMARY KEY (tenant, window_at, key_id, version, outcome, addr, route, agent)
);
CREATE INDEX keycote_uses_by_key ON keycote_uses (tenant, key_id, window_at);
CREATE INDEX keycote_uses_by_age ON keycote_uses (window_at, key_id, version);

CREATE TABLE keycote_batches (
  id      text COLLATE "C" NOT NULL PRIMARY KEY,
  done_at bigint NOT NULL
);
CREATE INDEX keycote_batches_by_age ON keycote_batches (done_at);

-- One row: the number of the last change. Whoever changes records or items holds it until commit. It is written often,
-- and there is room on its page for that.
CREATE TABLE keycote_head (
  one integer NOT NULL PRIMARY KEY,
  n   bigint NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE keycote_feed (
  n         bigint NOT NULL PRIMARY KEY,
  mark      text COLLATE "C" NOT NULL, -- random: a number that was given out again after a restore is not mistaken
  at        bigint NOT NULL,
  tenant    text COLLATE "C" NOT NULL,
  id        text COLLATE "C" NOT NULL,
  space     text COLLATE "C" NOT NULL,
  revision  bigint NOT NULL,
  digests   bytea
);

INSERT INTO keycote_head (one, n) VALUES (1, 0);

-- The feed always holds a row to stand on: number 0 is the position of an empty store.
INSERT INTO keycote_feed (n, mark, at, tenant, id, space, revision)
  VALUES (0, substr(md5(random()::text || clock_timestamp()::text), 1, 16),
    CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint), '', '', '', 0);

-- What follows is for people: nothing in the library reads it.

CREATE VIEW keycote_show_keys AS
  SELECT r.tenant, r.id, r.kind, r.name, r.app, r.owner,
    CASE WHEN r.state = 'active' AND r.expires_at <= EXTRACT(EPOCH FROM now()) * 1000000 THEN 'expired'
      ELSE r.state END AS state,
    (SELECT jsonb_object_agg(l.label, l.value) FROM keycote_labels l
      WHERE l.tenant = r.tenant AND l.id = r.id) AS labels,
    TIMESTAMPTZ 'epoch' + r.created_at * INTERVAL '1 microsecond' AS created_at,
    TIMESTAMPTZ 'epoch' + r.rotated_at * INTERVAL '1 microsecond' AS rotated_at,
    TIMESTAMPTZ 'epoch' + r.expires_at * INTERVAL '1 microsecond' AS expires_at,
    (SELECT TIMESTAMPTZ 'epoch' + MAX(u.last_at) * INTERVAL '1 microsecond' FROM keycote_totals u
      WHERE u.tenant = r.tenant AND u.id = r.id) AS used_at,
    (SELECT SUM(u.n) FROM keycote_totals u WHERE u.tenant = r.tenant AND u.id = r.id) AS uses,
    r.revision
  FROM keycote_records r;

CREATE VIEW keycote_show_events AS
  SELECT e.tenant, e.id, TIMESTAMPTZ 'epoch' + e.at * INTERVAL '1 microsecond' AS at, e.key_id, e.actor, e.action,
    e.outcome
  FROM keycote_events e;

INSERT INTO keycote_schema (version, oldest) VALUES (1, 1);
