-- Figures that are kept while orders move, so that pages need not count rows, and the columns and
-- indexes that lists are filtered and sorted by. Triggers on `orders` write the figures in the
-- transaction that moves the order; `ledger check` holds them against the rows.

ALTER TABLE orders ADD COLUMN payment TEXT;
-- The article numbers of the lines, each framed by line breaks.
ALTER TABLE orders ADD COLUMN skus TEXT;

-- How many orders stand where, with the sum of their totals in whole units and billionths. Rows of
-- one place are added up when they are read. `fingerprint` only of lost orders, else ''.
CREATE TABLE order_counts (
  shop        TEXT   NOT NULL,
  state       TEXT   NOT NULL,
  phase       TEXT   NOT NULL,
  currency    TEXT   NOT NULL,
  fingerprint TEXT   NOT NULL,
  orders      INTEGER NOT NULL,
  units       INTEGER NOT NULL,
  nanos       INTEGER NOT NULL,
  unsummed    INTEGER NOT NULL
) STRICT;

-- What happened when: `minutes` is the width of the bucket that begins at `bucket_ms`; 0: a minute
-- whose rows were not added up yet.
CREATE TABLE activity (
  bucket_ms   INTEGER NOT NULL,
  minutes     INTEGER NOT NULL,
  shop        TEXT   NOT NULL,
  what        TEXT   NOT NULL CHECK (what IN ('received', 'confirmed', 'failed')),
  fingerprint TEXT   NOT NULL,
  orders      INTEGER NOT NULL,
  last_ms     INTEGER NOT NULL
) STRICT;

CREATE INDEX activity_of_group ON activity (fingerprint, last_ms) WHERE what = 'failed';

-- Every kind of failure that was ever seen, with what people wrote about it.
CREATE TABLE failure_groups (
  fingerprint   TEXT   PRIMARY KEY NOT NULL,
  class         TEXT   NOT NULL,
  code          TEXT   NOT NULL,
  message       TEXT   NOT NULL,
  first_seen_ms INTEGER NOT NULL,
  note          TEXT,
  runbook       TEXT,
  noted_by      TEXT,
  noted_at_ms   INTEGER
) STRICT;

-- Processes of the service, by their own word.
CREATE TABLE workers (
  name          TEXT   PRIMARY KEY NOT NULL,
  roles         TEXT   NOT NULL,
  started_at_ms INTEGER NOT NULL,
  seen_at_ms    INTEGER NOT NULL
) STRICT;

-- The same as before with what decides among equals, so that a page of one phase needs no sorting.
DROP INDEX orders_open;
CREATE INDEX orders_open ON orders (phase, received_at_ms, shop, order_id) WHERE state <> 'confirmed';
CREATE INDEX orders_changed ON orders (updated_at_ms, shop, order_id);
CREATE INDEX orders_of_customer ON orders (customer_number) WHERE customer_number IS NOT NULL;
CREATE INDEX orders_of_address ON orders (customer_email);
CREATE INDEX orders_failed ON orders (failed_at_ms, shop, order_id) WHERE failed_at_ms IS NOT NULL;
CREATE INDEX orders_tried ON orders (fail_count, shop, order_id) WHERE fail_count > 0;
CREATE INDEX orders_due ON orders (due_at_ms, shop, order_id) WHERE due_at_ms IS NOT NULL;
CREATE INDEX orders_of_group ON orders (error_fingerprint, state, received_at_ms)
  WHERE error_fingerprint IS NOT NULL;
CREATE INDEX lost_received ON orders (received_at_ms, shop, order_id) WHERE state = 'ordered_failed';
CREATE INDEX lost_changed ON orders (updated_at_ms, shop, order_id) WHERE state = 'ordered_failed';
CREATE INDEX lost_failed ON orders (failed_at_ms, shop, order_id) WHERE state = 'ordered_failed';
CREATE INDEX lost_tried ON orders (fail_count, shop, order_id) WHERE state = 'ordered_failed';

-- From here on each database in its own way.

-- One writer: nobody waits for a counter, so each place has one row.
CREATE UNIQUE INDEX order_counts_place ON order_counts (state, fingerprint, shop, phase, currency);
CREATE UNIQUE INDEX activity_buckets ON activity (minutes, bucket_ms, shop, what, fingerprint);

-- NULL: this total is not summed.
ALTER TABLE orders ADD COLUMN total_units INTEGER GENERATED ALWAYS AS (
  CASE
    WHEN total GLOB '*[^0-9.]*' OR total GLOB '*.*.*' OR total NOT GLOB '[0-9]*[0-9]' AND total NOT GLOB '[0-9]'
      THEN NULL
    WHEN instr(total, '.') = 0 AND length(total) > 12 OR instr(total, '.') > 13
      OR instr(total, '.') > 0 AND length(total) - instr(total, '.') > 9 THEN NULL
    ELSE CAST(total AS INTEGER) END) VIRTUAL;
ALTER TABLE orders ADD COLUMN total_nanos INTEGER GENERATED ALWAYS AS (
  CASE
    WHEN instr(total, '.') = 0 THEN 0
    ELSE CAST(substr(substr(total, instr(total, '.') + 1) || '000000000', 1, 9) AS INTEGER) END) VIRTUAL;

-- What each order adds to `order_counts`.
CREATE VIEW order_figures AS
SELECT shop, order_id, state, phase, currency,
  CASE WHEN state = 'ordered_failed' THEN COALESCE(error_fingerprint, '') ELSE '' END AS fingerprint,
  COALESCE(total_units, 0) AS units,
  IIF(total_units IS NULL, 0, total_nanos) AS nanos,
  total_units IS NULL AS unsummed
FROM orders;

CREATE TRIGGER orders_added AFTER INSERT ON orders BEGIN
  INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
  VALUES (NEW.shop, NEW.state, NEW.phase, NEW.currency,
    CASE WHEN NEW.state = 'ordered_failed' THEN COALESCE(NEW.error_fingerprint, '') ELSE '' END,
    1, COALESCE(NEW.total_units, 0), IIF(NEW.total_units IS NULL, 0, NEW.total_nanos),
    (NEW.total_units IS NULL))
  ON CONFLICT (state, fingerprint, shop, phase, currency) DO UPDATE SET
    orders = orders + excluded.orders, units = units + excluded.units,
    nanos = nanos + excluded.nanos, unsummed = unsummed + excluded.unsummed;
  INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
  VALUES (NEW.received_at_ms - NEW.received_at_ms % 60000, 1, NEW.shop, 'received', '', 1,
    NEW.received_at_ms)
  ON CONFLICT (minutes, bucket_ms, shop, what, fingerprint) DO UPDATE SET
    orders = orders + excluded.orders, last_ms = MAX(last_ms, excluded.last_ms);
END;

CREATE TRIGGER orders_gone AFTER DELETE ON orders BEGIN
  INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
  VALUES (OLD.shop, OLD.state, OLD.phase, OLD.currency,
    CASE WHEN OLD.state = 'ordered_failed' THEN COALESCE(OLD.error_fingerprint, '') ELSE '' END,
    -1, -COALESCE(OLD.total_units, 0), -IIF(OLD.total_units IS NULL, 0, OLD.total_nanos),
    -(OLD.total_units IS NULL))
  ON CONFLICT (state, fingerprint, shop, phase, currency) DO UPDATE SET
    orders = orders + excluded.orders, units = units + excluded.units,
    nanos = nanos + excluded.nanos, unsummed = unsummed + excluded.unsummed;
END;

CREATE TRIGGER orders_moved AFTER UPDATE OF phase, currency, total, fail_count, error_fingerprint ON orders
WHEN NEW.phase <> OLD.phase OR NEW.currency <> OLD.currency OR NEW.total <> OLD.total
  OR NEW.fail_count <> OLD.fail_count OR NEW.error_fingerprint IS NOT OLD.error_fingerprint
BEGIN
  INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
  VALUES (OLD.shop, OLD.state, OLD.phase, OLD.currency,
    CASE WHEN OLD.state = 'ordered_failed' THEN COALESCE(OLD.error_fingerprint, '') ELSE '' END,
    -1, -COALESCE(OLD.total_units, 0), -IIF(OLD.total_units IS NULL, 0, OLD.total_nanos),
    -(OLD.total_units IS NULL))
  ON CONFLICT (state, fingerprint, shop, phase, currency) DO UPDATE SET
    orders = orders + excluded.orders, units = units + excluded.units,
    nanos = nanos + excluded.nanos, unsummed = unsummed + excluded.unsummed;
  INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
  VALUES (NEW.shop, NEW.state, NEW.phase, NEW.currency,
    CASE WHEN NEW.state = 'ordered_failed' THEN COALESCE(NEW.error_fingerprint, '') ELSE '' END,
    1, COALESCE(NEW.total_units, 0), IIF(NEW.total_units IS NULL, 0, NEW.total_nanos),
    (NEW.total_units IS NULL))
  ON CONFLICT (state, fingerprint, shop, phase, currency) DO UPDATE SET
    orders = orders + excluded.orders, units = units + excluded.units,
    nanos = nanos + excluded.nanos, unsummed = unsummed + excluded.unsummed;
  INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
  SELECT NEW.updated_at_ms - NEW.updated_at_ms % 60000, 1, NEW.shop, 'confirmed', '', 1,
    NEW.updated_at_ms
  WHERE NEW.phase = 'transferred' AND OLD.phase <> 'transferred'
  ON CONFLICT (minutes, bucket_ms, shop, what, fingerprint) DO UPDATE SET
    orders = orders + excluded.orders, last_ms = MAX(last_ms, excluded.last_ms);
  INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
  SELECT NEW.updated_at_ms - NEW.updated_at_ms % 60000, 1, NEW.shop, 'failed',
    COALESCE(NEW.error_fingerprint, ''), NEW.fail_count - OLD.fail_count, NEW.updated_at_ms
  WHERE NEW.fail_count > OLD.fail_count
  ON CONFLICT (minutes, bucket_ms, shop, what, fingerprint) DO UPDATE SET
    orders = orders + excluded.orders, last_ms = MAX(last_ms, excluded.last_ms);
  INSERT INTO failure_groups (fingerprint, class, code, message, first_seen_ms)
  SELECT NEW.error_fingerprint, COALESCE(NEW.error_class, ''), COALESCE(NEW.error_code, ''),
    COALESCE(NEW.error_message, ''), NEW.updated_at_ms
  WHERE NEW.fail_count > OLD.fail_count AND NEW.error_fingerprint IS NOT NULL
  ON CONFLICT DO NOTHING;
END;

-- What is there already.
INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
SELECT shop, state, phase, currency, fingerprint, COUNT(*), SUM(units), SUM(nanos), SUM(unsummed)
FROM order_figures
GROUP BY shop, state, phase, currency, fingerprint;

INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
SELECT received_at_ms - received_at_ms % 3600000, 60, shop, 'received', '', COUNT(*),
  MAX(received_at_ms)
FROM orders
GROUP BY 1, shop
UNION ALL
SELECT updated_at_ms - updated_at_ms % 3600000, 60, shop, 'confirmed', '', COUNT(*),
  MAX(updated_at_ms)
FROM orders
WHERE phase = 'transferred'
GROUP BY 1, shop
UNION ALL
SELECT failed_at_ms - failed_at_ms % 3600000, 60, shop, 'failed', COALESCE(error_fingerprint, ''),
  COUNT(*), MAX(failed_at_ms)
FROM orders
WHERE failed_at_ms IS NOT NULL
GROUP BY 1, shop, error_fingerprint;

-- The bare columns are those of the row with the least time (sqlite.org/lang_select.html, 2.5).
INSERT INTO failure_groups (fingerprint, class, code, message, first_seen_ms)
SELECT error_fingerprint, COALESCE(error_class, ''), COALESCE(error_code, ''),
  COALESCE(error_message, ''), MIN(COALESCE(failed_at_ms, updated_at_ms))
FROM orders
WHERE error_fingerprint IS NOT NULL
GROUP BY error_fingerprint;
