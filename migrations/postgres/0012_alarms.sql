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

CREATE INDEX mail_deliveries_refused ON mail_deliveries (settled_at_ms) WHERE status = 'failed';
CREATE INDEX parts_of_notice ON mail_parts (notice_id);

-- What is there already is no news.
INSERT INTO failure_types (shop, fingerprint, first_ms, last_ms, noted_ms)
SELECT shop, fingerprint, MIN(bucket_ms), MAX(last_ms), MAX(last_ms)
FROM activity
WHERE what = 'failed' AND fingerprint <> ''
GROUP BY shop, fingerprint;

-- From here on each database in its own way.

-- The root of the thread that a mail belongs to, and the list of its receivers (RFC 5322, RFC 2919).
ALTER TABLE mails ADD COLUMN in_reply_to TEXT;
ALTER TABLE mails ADD COLUMN list_id TEXT;

DROP VIEW mail_rows;

-- Mails with their deliveries as JSON.
CREATE VIEW mail_rows AS
SELECT id, audience, kind, sender, receivers, subject, text_body, html_body, attachment, message_id, in_reply_to, list_id,
  status, tries, error,
  created_at_ms, sent_at_ms, acknowledged_at_ms,
  (SELECT CAST(json_agg(json_build_object('receiver', d.receiver, 'place', d.place, 'status', d.status,
      'tries', d.tries, 'error', d.error, 'settled_at_ms', d.settled_at_ms)) AS TEXT)
    FROM mail_deliveries AS d
    WHERE d.mail_id = mails.id) AS deliveries
FROM mails;
