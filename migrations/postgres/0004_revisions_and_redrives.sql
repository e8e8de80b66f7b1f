-- Orders that were edited keep what came (`document`, `digest`); what is sent is the newest revision.

ALTER TABLE orders ADD COLUMN revision BIGINT NOT NULL DEFAULT 0 CHECK (revision >= 0);
-- The newest revision's document; NULL: as it came.
ALTER TABLE orders ADD COLUMN edited TEXT;

CREATE TABLE revisions (
  shop     TEXT   NOT NULL,
  order_id TEXT   NOT NULL,
  revision BIGINT NOT NULL CHECK (revision > 0),
  document TEXT   NOT NULL,
  at_ms    BIGINT NOT NULL,
  actor    TEXT   NOT NULL,
  reason   TEXT,
  PRIMARY KEY (shop, order_id, revision)
);

-- Plans to transfer many lost orders. `wave` counts the steps that were begun, also those before a
-- stop; `ramp_at` is the place in the ramp. `version` rises with every change by a person or the
-- runner.
CREATE TABLE redrives (
  id              TEXT   PRIMARY KEY NOT NULL,
  status          TEXT   NOT NULL CHECK (status IN ('planned', 'running', 'paused', 'stopped', 'done', 'cancelled')),
  selection       TEXT   NOT NULL,
  rate_per_minute BIGINT CHECK (rate_per_minute > 0),
  ramp            TEXT   NOT NULL,
  stop_percent    BIGINT NOT NULL CHECK (stop_percent BETWEEN 1 AND 100),
  known           TEXT   NOT NULL,
  money           TEXT   NOT NULL,
  wave            BIGINT NOT NULL DEFAULT 0,
  ramp_at         BIGINT NOT NULL DEFAULT 0,
  why             TEXT,
  created_by      TEXT   NOT NULL,
  created_at_ms   BIGINT NOT NULL,
  started_at_ms   BIGINT,
  ended_at_ms     BIGINT,
  reason          TEXT,
  version         BIGINT NOT NULL DEFAULT 1
);

CREATE INDEX redrives_created ON redrives (created_at_ms);
CREATE INDEX redrives_running ON redrives (id) WHERE status = 'running';

-- The orders of a plan, frozen: `revision` is the one that was planned. `attempt` is the try that was
-- asked for; `sent_version` what the order's version less its revision was then.
CREATE TABLE redrive_items (
  redrive_id    TEXT   NOT NULL REFERENCES redrives (id),
  seq           BIGINT NOT NULL,
  shop          TEXT   NOT NULL,
  order_id      TEXT   NOT NULL,
  revision      BIGINT NOT NULL,
  status        TEXT   NOT NULL CHECK (status IN ('waiting', 'sent', 'transferred', 'failed', 'unclear', 'skipped', 'excluded')),
  why           TEXT,
  wave          BIGINT,
  attempt       BIGINT,
  sent_version  BIGINT,
  error_class   TEXT,
  error_code    TEXT,
  error_message TEXT,
  fingerprint   TEXT,
  erp_order_id  TEXT,
  currency      TEXT   NOT NULL,
  total         TEXT   NOT NULL,
  at_ms         BIGINT,
  PRIMARY KEY (redrive_id, seq),
  CONSTRAINT sent_has_attempt CHECK (status <> 'sent' OR attempt IS NOT NULL AND wave IS NOT NULL)
);

CREATE INDEX redrive_items_standing ON redrive_items (redrive_id, status, seq);
CREATE INDEX redrive_items_sent ON redrive_items (redrive_id) WHERE status = 'sent';
CREATE INDEX redrive_items_wave ON redrive_items (redrive_id, wave, status) WHERE wave IS NOT NULL;
CREATE INDEX redrive_items_of_order ON redrive_items (shop, order_id);
