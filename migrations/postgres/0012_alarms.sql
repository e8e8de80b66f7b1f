-- What people were told of an ERP that was not usable and of types of failures: when it began, whether it has stopped,
-- and whether they know. A change and its notice are written together, over the version that was read.

CREATE TABLE alarms (
  kind        TEXT    NOT NULL CHECK (kind IN ('circuit', 'failure_type')),
  name        TEXT    NOT NULL,
  shop        TEXT    NOT NULL,
  began_at_ms BIGINT NOT NULL,
  on_since_ms BIGINT,
  off_at_ms   BIGINT,
  lasted_ms   BIGINT NOT NULL,
  times       BIGINT NOT NULL,
  recent      TEXT    NOT NULL,
  is_unstable BIGINT NOT NULL CHECK (is_unstable IN (0, 1)),
  waited      BIGINT NOT NULL,
  is_over     BIGINT NOT NULL CHECK (is_over IN (0, 1)),
  look_at_ms  BIGINT NOT NULL,
  version     BIGINT NOT NULL,
  PRIMARY KEY (kind, name)
);

CREATE INDEX alarms_due ON alarms (kind, look_at_ms) WHERE is_over = 0;

-- When each shop saw each type of failures, added up together with `moves`. What was seen after `noted_ms` is looked at.
CREATE TABLE failure_types (
  shop        TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL,
  first_ms    BIGINT NOT NULL,
  last_ms     BIGINT NOT NULL,
  noted_ms    BIGINT,
  PRIMARY KEY (shop, fingerprint)
);

CREATE INDEX failure_types_seen ON failure_types (last_ms) WHERE noted_ms IS NULL OR noted_ms < last_ms;

-- What is there already is no news.
INSERT INTO failure_types (shop, fingerprint, first_ms, last_ms, noted_ms)
SELECT shop, fingerprint, MIN(bucket_ms), MAX(last_ms), MAX(last_ms)
FROM activity
WHERE what = 'failed' AND fingerprint <> ''
GROUP BY shop, fingerprint;
