-- Where orders stand moves out of `orders`, which is only added to from 0010 on. This migration only adds: a
-- process of an older release works on. `migrate` copies the orders that are there in small steps; what such a
-- process changes meanwhile is copied again in the end (docs/architecture.md, "The ledger").

-- Where an order stands. An order that goes the plain way has no row until the ERP has it, and is written here
-- once. All others have a row from the moment when something is not plain; `version` rises with every change.
-- The columns from `attempt` on are the attempt that entered the order, if it is not in `attempts`.
CREATE TABLE order_states (
  shop              TEXT NOT NULL,
  order_id          TEXT NOT NULL,
  state             TEXT   NOT NULL,
  phase             TEXT   NOT NULL,
  received_at_ms    BIGINT NOT NULL,
  updated_at_ms     BIGINT NOT NULL,
  version           BIGINT NOT NULL DEFAULT 1,
  fail_count        BIGINT NOT NULL DEFAULT 0 CHECK (fail_count >= 0),
  last_attempt      BIGINT NOT NULL DEFAULT 0 CHECK (last_attempt >= 0),
  in_doubt          BIGINT NOT NULL DEFAULT 0 CHECK (in_doubt IN (0, 1)),
  revision          BIGINT NOT NULL DEFAULT 0 CHECK (revision >= 0),
  erp_order_id      TEXT,
  attempt           BIGINT CHECK (attempt > 0),
  triggered_by      TEXT,
  worker            TEXT,
  request           TEXT,
  http_status       BIGINT,
  found             BIGINT,
  duration_ms       BIGINT,
  due_at_ms         BIGINT,
  max_count         BIGINT CHECK (max_count >= 0),
  claim_worker      TEXT,
  claim_attempt     BIGINT,
  claimed_until_ms  BIGINT,
  claim_preparing   TEXT,
  unclear_since_ms  BIGINT,
  error_class       TEXT,
  error_code        TEXT,
  error_message     TEXT,
  error_fingerprint TEXT,
  failed_at_ms      BIGINT,
  swept_at_ms       BIGINT,
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

CREATE INDEX states_in_erp ON order_states (erp_order_id) WHERE erp_order_id IS NOT NULL;
CREATE INDEX states_changed ON order_states (updated_at_ms, shop, order_id);
CREATE INDEX states_open ON order_states (phase, received_at_ms, shop, order_id)
  WHERE state <> 'confirmed';
CREATE INDEX states_failed ON order_states (failed_at_ms, shop, order_id)
  WHERE failed_at_ms IS NOT NULL;
CREATE INDEX states_tried ON order_states (fail_count, shop, order_id) WHERE fail_count > 0;
CREATE INDEX states_due ON order_states (due_at_ms, shop, order_id) WHERE due_at_ms IS NOT NULL;
CREATE INDEX states_of_group ON order_states (error_fingerprint, state, received_at_ms)
  WHERE error_fingerprint IS NOT NULL;
CREATE INDEX states_lost_received ON order_states (received_at_ms, shop, order_id)
  WHERE state = 'ordered_failed';
CREATE INDEX states_lost_changed ON order_states (updated_at_ms, shop, order_id)
  WHERE state = 'ordered_failed';
CREATE INDEX states_lost_failed ON order_states (failed_at_ms, shop, order_id)
  WHERE state = 'ordered_failed';
CREATE INDEX states_lost_tried ON order_states (fail_count, shop, order_id)
  WHERE state = 'ordered_failed';

-- What a transaction did to the numbers of orders: one row for each way from `was` to `phase`; '' is outside.
-- The sweeper adds them up into `order_counts`, `activity` and `tallies`.
CREATE TABLE moves (
  at_ms           BIGINT NOT NULL,
  shop            TEXT   NOT NULL,
  currency        TEXT   NOT NULL,
  was             TEXT   NOT NULL,
  was_fingerprint TEXT   NOT NULL,
  phase           TEXT   NOT NULL,
  fingerprint     TEXT   NOT NULL,
  what            TEXT   NOT NULL CHECK (what IN ('', 'received', 'confirmed', 'failed')),
  failures        BIGINT NOT NULL,
  orders          BIGINT NOT NULL,
  units           BIGINT NOT NULL,
  nanos           BIGINT NOT NULL,
  unsummed        BIGINT NOT NULL
);

-- No order without a row in `order_states` was received before `at_ms`.
CREATE TABLE ledger_marks (
  name  TEXT   PRIMARY KEY,
  at_ms BIGINT NOT NULL
);
INSERT INTO ledger_marks (name, at_ms) VALUES ('in_hand_since', 0);

-- From here on each database in its own way.

-- Rows come and go: cleaned before the dead ones outweigh the others.
ALTER TABLE moves SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- What a process of an older release changes while orders are copied.
CREATE TABLE changed_orders (
  shop     TEXT NOT NULL,
  order_id TEXT NOT NULL
);

CREATE FUNCTION note_changed_orders() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changed_orders (shop, order_id)
  SELECT shop, order_id
  FROM now_changed;
  RETURN NULL;
END
$$;

CREATE TRIGGER orders_changed_while_copied AFTER UPDATE ON orders
  REFERENCING NEW TABLE AS now_changed
  FOR EACH STATEMENT EXECUTE FUNCTION note_changed_orders();
