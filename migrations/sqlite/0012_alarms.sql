-- What people were told of an ERP that was not usable and of types of failures: when it began, whether it has stopped,
-- and whether they know. A change and its notice are written together, over the version that was read.

CREATE TABLE alarms (
  kind        TEXT    NOT NULL CHECK (kind IN ('circuit', 'failure_type')),
  name        TEXT    NOT NULL,
  shop        TEXT    NOT NULL,
  began_at_ms INTEGER NOT NULL,
  on_since_ms INTEGER,
  off_at_ms   INTEGER,
  lasted_ms   INTEGER NOT NULL,
  times       INTEGER NOT NULL,
  recent      TEXT    NOT NULL,
  is_unstable INTEGER NOT NULL CHECK (is_unstable IN (0, 1)),
  waited      INTEGER NOT NULL,
  is_over     INTEGER NOT NULL CHECK (is_over IN (0, 1)),
  look_at_ms  INTEGER NOT NULL,
  version     INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT;

CREATE INDEX alarms_due ON alarms (kind, look_at_ms) WHERE is_over = 0;

-- When each shop saw each type of failures, added up together with `moves`. What was seen after `noted_ms` is looked at.
CREATE TABLE failure_types (
  shop        TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL,
  first_ms    INTEGER NOT NULL,
  last_ms     INTEGER NOT NULL,
  noted_ms    INTEGER,
  PRIMARY KEY (shop, fingerprint)
) STRICT;

CREATE INDEX failure_types_seen ON failure_types (last_ms) WHERE noted_ms IS NULL OR noted_ms < last_ms;

-- What is there already is no news.
INSERT INTO failure_types (shop, fingerprint, first_ms, last_ms, noted_ms)
SELECT shop, fingerprint, MIN(bucket_ms), MAX(last_ms), MAX(last_ms)
FROM activity
WHERE what = 'failed' AND fingerprint <> ''
GROUP BY shop, fingerprint;
