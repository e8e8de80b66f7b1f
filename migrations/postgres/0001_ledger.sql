-- The ledger. Times are milliseconds since 1970 (UTC), named ..._ms. A row of `orders` is an order
-- in one state and phase (docs/state-machine.md); `version` rises with every change of it.

CREATE TABLE orders (
  shop             TEXT   NOT NULL,
  order_id         TEXT   NOT NULL,
  state            TEXT   NOT NULL,
  phase            TEXT   NOT NULL,
  due_at_ms        BIGINT,
  fail_count       BIGINT NOT NULL DEFAULT 0 CHECK (fail_count >= 0),
  max_count        BIGINT CHECK (max_count >= 0),
  last_attempt     BIGINT NOT NULL DEFAULT 0 CHECK (last_attempt >= 0),
  claim_worker     TEXT,
  claim_attempt    BIGINT,
  claimed_until_ms BIGINT,
  unclear_since_ms BIGINT,
  erp_order_id     TEXT,
  error_class      TEXT,
  error_code       TEXT,
  error_message    TEXT,
  error_fingerprint TEXT,
  failed_at_ms     BIGINT,
  in_doubt         BIGINT NOT NULL DEFAULT 0 CHECK (in_doubt IN (0, 1)),
  placed_at_ms     BIGINT,
  currency         TEXT   NOT NULL,
  total            TEXT   NOT NULL,
  customer_number  TEXT,
  customer_name    TEXT,
  customer_email   TEXT   NOT NULL,
  customer_locale  TEXT,
  traceparent      TEXT,
  tracestate       TEXT,
  received_at_ms   BIGINT NOT NULL,
  updated_at_ms    BIGINT NOT NULL,
  version          BIGINT NOT NULL DEFAULT 1,
  swept_at_ms      BIGINT,
  source           TEXT   NOT NULL,
  digest           BYTEA  NOT NULL,
  document         TEXT   NOT NULL,
  PRIMARY KEY (shop, order_id),
  CONSTRAINT state_and_phase CHECK (
       (state = 'payed'          AND phase IN ('queued', 'held'))
    OR (state = 'ordered_failed' AND phase IN ('retrying', 'parked', 'outcome_unknown'))
    OR (state = 'confirmed'      AND phase IN ('transferred', 'removed'))),
  CONSTRAINT due_only_when_waiting CHECK (
    (phase IN ('retrying', 'outcome_unknown')) = (due_at_ms IS NOT NULL)),
  CONSTRAINT whole_claim CHECK (
        (claim_worker IS NULL) = (claim_attempt IS NULL)
    AND (claim_worker IS NULL) = (claimed_until_ms IS NULL)),
  CONSTRAINT failed_means_counted CHECK (state <> 'ordered_failed' OR fail_count > 0)
);

CREATE INDEX orders_received ON orders (received_at_ms, shop, order_id);
CREATE INDEX orders_in_erp ON orders (erp_order_id) WHERE erp_order_id IS NOT NULL;
CREATE INDEX orders_open ON orders (phase, received_at_ms) WHERE state <> 'confirmed';

-- Every try that ended, once. A try that failed with an unknown outcome and was found in the ERP
-- later has two rows: both are true.
CREATE TABLE attempts (
  shop           TEXT   NOT NULL,
  order_id       TEXT   NOT NULL,
  attempt        BIGINT NOT NULL CHECK (attempt > 0),
  outcome        TEXT   NOT NULL CHECK (outcome IN ('failed', 'succeeded')),
  triggered_by   TEXT   NOT NULL,
  worker         TEXT,
  error_class    TEXT,
  error_code     TEXT,
  error_message  TEXT,
  stage          TEXT,
  request        TEXT,
  http_status    BIGINT,
  erp_order_id   TEXT,
  found          BIGINT NOT NULL DEFAULT 0 CHECK (found IN (0, 1)),
  occurred_at_ms BIGINT NOT NULL,
  duration_ms    BIGINT NOT NULL,
  PRIMARY KEY (shop, order_id, attempt, outcome),
  CONSTRAINT failed_has_class CHECK ((outcome = 'failed') = (error_class IS NOT NULL))
);

-- Another payload that came under the number of a known order.
CREATE TABLE conflicts (
  shop           TEXT   NOT NULL,
  order_id       TEXT   NOT NULL,
  digest         BYTEA  NOT NULL,
  document       TEXT   NOT NULL,
  source         TEXT   NOT NULL,
  received_at_ms BIGINT NOT NULL,
  PRIMARY KEY (shop, order_id, digest)
);

-- Orders taken in, counted apart from their rows so that a row that vanishes is noticed. Shards
-- keep workers out of each other's way.
CREATE TABLE tallies (
  shop     TEXT   NOT NULL,
  shard    BIGINT NOT NULL,
  received BIGINT NOT NULL,
  PRIMARY KEY (shop, shard)
);

CREATE TABLE dead_letters (
  id            TEXT   PRIMARY KEY,
  source        TEXT   NOT NULL,
  reason        TEXT   NOT NULL,
  place         TEXT,
  detail        TEXT   NOT NULL,
  body          BYTEA  NOT NULL,
  digest        BYTEA  NOT NULL,
  headers       TEXT   NOT NULL,
  exchange      TEXT   NOT NULL,
  routing_key   TEXT   NOT NULL,
  status        TEXT   NOT NULL CHECK (status IN ('open', 'replayed', 'discarded')),
  seen          BIGINT NOT NULL DEFAULT 1,
  first_seen_ms BIGINT NOT NULL,
  last_seen_ms  BIGINT NOT NULL,
  resolution    TEXT
);

CREATE UNIQUE INDEX dead_letters_open ON dead_letters (source, digest) WHERE status = 'open';

-- Mails as they are sent; each notice is in exactly one.
CREATE TABLE mails (
  id               TEXT   PRIMARY KEY,
  audience         TEXT   NOT NULL,
  kind             TEXT   NOT NULL,
  sender           TEXT   NOT NULL,
  receivers        TEXT   NOT NULL,
  subject          TEXT   NOT NULL,
  text_body        TEXT   NOT NULL,
  html_body        TEXT   NOT NULL,
  message_id       TEXT   NOT NULL UNIQUE,
  status           TEXT   NOT NULL CHECK (status IN ('waiting', 'sent', 'kept', 'failed')),
  tries            BIGINT NOT NULL DEFAULT 0,
  error            TEXT,
  due_at_ms        BIGINT NOT NULL,
  claim_worker     TEXT,
  claimed_until_ms BIGINT,
  created_at_ms    BIGINT NOT NULL,
  sent_at_ms       BIGINT
);

CREATE INDEX mails_waiting ON mails (due_at_ms) WHERE status = 'waiting';
CREATE INDEX mails_created ON mails (created_at_ms);

CREATE TABLE notices (
  id            TEXT   PRIMARY KEY,
  kind          TEXT   NOT NULL,
  shop          TEXT   NOT NULL,
  order_id      TEXT,
  detail        TEXT   NOT NULL,
  due_at_ms     BIGINT NOT NULL,
  mail_id       TEXT REFERENCES mails (id),
  created_at_ms BIGINT NOT NULL
);

CREATE INDEX notices_waiting ON notices (due_at_ms) WHERE mail_id IS NULL;
CREATE INDEX notices_of_order ON notices (shop, order_id);

CREATE TABLE mail_windows (
  audience      TEXT   PRIMARY KEY,
  started_at_ms BIGINT NOT NULL,
  sent          BIGINT NOT NULL
);

CREATE TABLE circuits (
  erp            TEXT   PRIMARY KEY,
  state          TEXT   NOT NULL CHECK (state IN ('closed', 'half_open', 'open')),
  reason         TEXT,
  opened_at_ms   BIGINT,
  trial_at_ms    BIGINT,
  trials         BIGINT NOT NULL DEFAULT 0,
  trial_worker   TEXT,
  trial_until_ms BIGINT
);

-- Who alone does a task that one process is enough for.
CREATE TABLE leases (
  task     TEXT   PRIMARY KEY,
  worker   TEXT   NOT NULL,
  until_ms BIGINT NOT NULL
);

CREATE TABLE audit (
  id       TEXT   PRIMARY KEY,
  at_ms    BIGINT NOT NULL,
  actor    TEXT   NOT NULL,
  action   TEXT   NOT NULL,
  target   TEXT   NOT NULL,
  shop     TEXT,
  order_id TEXT,
  reason   TEXT,
  was      TEXT,
  became   TEXT
);

CREATE INDEX audit_of_order ON audit (shop, order_id);

-- Tokens for the API; only the hash is kept.
CREATE TABLE tokens (
  name          TEXT   PRIMARY KEY,
  hash          BYTEA  NOT NULL UNIQUE,
  scopes        TEXT   NOT NULL,
  created_at_ms BIGINT NOT NULL,
  expires_at_ms BIGINT,
  revoked_at_ms BIGINT
);
