-- Times are microseconds since 1970 UTC; text is its bytes in UTF-8, in columns that compare them. The views at the end
-- show both, and labels, as a person wants to read them. A statement ends with a semicolon at the end of a line, and can
-- be repeated: MySQL commits at each, so that an interrupted migration is begun again from its start.

CREATE TABLE IF NOT EXISTS keycote_schema (
  version INT NOT NULL PRIMARY KEY,
  oldest  INT -- version whose programs can work with this one; NULL: this one
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_records (
  tenant     VARBINARY(255) NOT NULL,
  id         VARBINARY(255) NOT NULL,
  kind       VARBINARY(32) NOT NULL,
  name       VARBINARY(1020), -- NULL when empty: NULLs are not held against each other, on any of the databases
  app        VARBINARY(1020) NOT NULL,
  owner      VARBINARY(1020) NOT NULL,
  state      VARBINARY(32) NOT NULL,
  search     MEDIUMBLOB NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT, -- NULL: never
  rotated_at BIGINT NOT NULL,
  revision   BIGINT NOT NULL,
  body       LONGBLOB,
  seal       LONGBLOB,
  PRIMARY KEY (tenant, id),
  UNIQUE INDEX keycote_records_name (name, kind, tenant),
  INDEX keycote_records_by_name (name, tenant, id),
  INDEX keycote_records_by_app (app, tenant, id),
  INDEX keycote_records_by_owner (owner, tenant, id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_digests (
  digest VARBINARY(24) NOT NULL PRIMARY KEY,
  tenant VARBINARY(255) NOT NULL,
  id     VARBINARY(255) NOT NULL,
  place  INT NOT NULL,
  INDEX keycote_digests_by_record (tenant, id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_labels (
  tenant VARBINARY(255) NOT NULL,
  id     VARBINARY(255) NOT NULL,
  label  VARBINARY(255) NOT NULL,
  value  VARBINARY(1020) NOT NULL,
  PRIMARY KEY (tenant, id, label),
  INDEX keycote_labels_by_value (label, value, tenant, id)
) ENGINE = InnoDB;

-- What was used how often, by version; it outlives the rows of keycote_uses.
CREATE TABLE IF NOT EXISTS keycote_totals (
  tenant   VARBINARY(255) NOT NULL,
  id       VARBINARY(255) NOT NULL,
  version  INT NOT NULL,
  n        BIGINT NOT NULL,
  first_at BIGINT NOT NULL,
  last_at  BIGINT NOT NULL,
  PRIMARY KEY (tenant, id, version)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_items (
  tenant   VARBINARY(255) NOT NULL,
  space    VARBINARY(255) NOT NULL,
  name     VARBINARY(1020) NOT NULL,
  revision BIGINT NOT NULL,
  body     LONGBLOB,
  PRIMARY KEY (tenant, space, name),
  INDEX keycote_items_by_space (space, tenant, name),
  INDEX keycote_items_by_name (tenant, name, space)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_events (
  id       VARBINARY(255) NOT NULL PRIMARY KEY,
  tenant   VARBINARY(255) NOT NULL,
  key_id   VARBINARY(255) NOT NULL,
  actor    VARBINARY(1020) NOT NULL,
  action   VARBINARY(64) NOT NULL,
  outcome  VARBINARY(64) NOT NULL,
  at       BIGINT NOT NULL,
  body     LONGBLOB,
  seal     LONGBLOB,
  personal LONGBLOB,
  INDEX keycote_events_by_tenant (tenant, id),
  INDEX keycote_events_by_key (tenant, key_id, id),
  INDEX keycote_events_by_actor (tenant, actor, id),
  INDEX keycote_events_by_time (tenant, at, id),
  INDEX keycote_events_by_age (at, id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_uses (
  tenant    VARBINARY(255) NOT NULL,
  window_at BIGINT NOT NULL,
  key_id    VARBINARY(255) NOT NULL,
  version   INT NOT NULL,
  outcome   VARBINARY(64) NOT NULL,
  addr      VARBINARY(255) NOT NULL,
  route     VARBINARY(255) NOT NULL,
  agent     VARBINARY(255) NOT NULL,
  n         BIGINT NOT NULL,
  first_at  BIGINT NOT NULL,
  last_at   BIGINT NOT NULL,
  PRIMARY KEY (tenant, window_at, key_id, version, outcome, addr, route, agent),
  INDEX keycote_uses_by_key (tenant, key_id, window_at),
  -- InnoDB keeps all of these columns there anyway; in this order none of them has to be sorted by.
  INDEX keycote_uses_by_age (window_at, key_id, version, outcome, addr, route, agent, tenant)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_batches (
  id      VARBINARY(255) NOT NULL PRIMARY KEY,
  done_at BIGINT NOT NULL,
  INDEX keycote_batches_by_age (done_at)
) ENGINE = InnoDB;

-- One row: the number of the last change. Whoever changes records or items holds it until commit.
CREATE TABLE IF NOT EXISTS keycote_head (
  one INT NOT NULL PRIMARY KEY,
  n   BIGINT NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS keycote_feed (
  n         BIGINT NOT NULL PRIMARY KEY,
  mark      VARBINARY(32) NOT NULL, -- random: a number that was given out again after a restore is not mistaken
  at        BIGINT NOT NULL,
  tenant    VARBINARY(255) NOT NULL,
  id        VARBINARY(255) NOT NULL,
  space     VARBINARY(255) NOT NULL,
  revision  BIGINT NOT NULL,
  digests   LONGBLOB
) ENGINE = InnoDB;

INSERT IGNORE INTO keycote_head (one, n) VALUES (1, 0);

-- The feed always holds a row to stand on: number 0 is the position of an empty store.
INSERT IGNORE INTO keycote_feed (n, mark, at, tenant, id, space, revision)
  VALUES (0, LEFT(MD5(CONCAT(UUID(), RAND())), 16),
    TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6)), '', '', '', 0);

-- What follows is for people: nothing in the library reads it. Times are UTC.

CREATE OR REPLACE SQL SECURITY INVOKER VIEW keycote_show_keys AS
  SELECT CONVERT(r.tenant USING utf8mb4) AS tenant, CONVERT(r.id USING utf8mb4) AS id,
    CONVERT(r.kind USING utf8mb4) AS kind, CONVERT(r.name USING utf8mb4) AS name,
    CONVERT(r.app USING utf8mb4) AS app, CONVERT(r.owner USING utf8mb4) AS owner,
    CASE WHEN r.state = 'active' AND r.expires_at <= TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))
      THEN 'expired' ELSE CONVERT(r.state USING utf8mb4) END AS state,
    (SELECT JSON_OBJECTAGG(CONVERT(l.label USING utf8mb4), CONVERT(l.value USING utf8mb4))
      FROM keycote_labels l WHERE l.tenant = r.tenant AND l.id = r.id) AS labels,
    CAST('1970-01-01 00:00:00' AS DATETIME(6)) + INTERVAL r.created_at MICROSECOND AS created_at,
    CAST('1970-01-01 00:00:00' AS DATETIME(6)) + INTERVAL r.rotated_at MICROSECOND AS rotated_at,
    CAST('1970-01-01 00:00:00' AS DATETIME(6)) + INTERVAL r.expires_at MICROSECOND AS expires_at,
    (SELECT CAST('1970-01-01 00:00:00' AS DATETIME(6)) + INTERVAL MAX(u.last_at) MICROSECOND FROM keycote_totals u
      WHERE u.tenant = r.tenant AND u.id = r.id) AS used_at,
    (SELECT SUM(u.n) FROM keycote_totals u WHERE u.tenant = r.tenant AND u.id = r.id) AS uses,
    r.revision
  FROM keycote_records r;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW keycote_show_events AS
  SELECT CONVERT(e.tenant USING utf8mb4) AS tenant, CONVERT(e.id USING utf8mb4) AS id,
    CAST('1970-01-01 00:00:00' AS DATETIME(6)) + INTERVAL e.at MICROSECOND AS at,
    CONVERT(e.key_id USING utf8mb4) AS key_id, CONVERT(e.actor USING utf8mb4) AS actor,
    CONVERT(e.action USING utf8mb4) AS action, CONVERT(e.outcome USING utf8mb4) AS outcome
  FROM keycote_events e;

INSERT IGNORE INTO keycote_schema (version, oldest) VALUES (1, 1);
