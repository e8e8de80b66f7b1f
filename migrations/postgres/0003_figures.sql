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
  orders      BIGINT NOT NULL,
  units       BIGINT NOT NULL,
  nanos       BIGINT NOT NULL,
  unsummed    BIGINT NOT NULL
);

-- What happened when: `minutes` is the width of the bucket that begins at `bucket_ms`; 0: a minute
-- whose rows were not added up yet.
CREATE TABLE activity (
  bucket_ms   BIGINT NOT NULL,
  minutes     BIGINT NOT NULL,
  shop        TEXT   NOT NULL,
  what        TEXT   NOT NULL CHECK (what IN ('received', 'confirmed', 'failed')),
  fingerprint TEXT   NOT NULL,
  orders      BIGINT NOT NULL,
  last_ms     BIGINT NOT NULL
);

CREATE INDEX activity_of_group ON activity (fingerprint, last_ms) WHERE what = 'failed';

-- Every kind of failure that was ever seen, with what people wrote about it.
CREATE TABLE failure_groups (
  fingerprint   TEXT   PRIMARY KEY,
  class         TEXT   NOT NULL,
  code          TEXT   NOT NULL,
  message       TEXT   NOT NULL,
  first_seen_ms BIGINT NOT NULL,
  note          TEXT,
  runbook       TEXT,
  noted_by      TEXT,
  noted_at_ms   BIGINT
);

-- Processes of the service, by their own word.
CREATE TABLE workers (
  name          TEXT   PRIMARY KEY,
  roles         TEXT   NOT NULL,
  started_at_ms BIGINT NOT NULL,
  seen_at_ms    BIGINT NOT NULL
);

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

CREATE INDEX order_counts_place ON order_counts (state, fingerprint);
-- A few rows that are replaced all the time: cleaned before the dead ones outweigh them.
ALTER TABLE order_counts SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX activity_buckets ON activity (minutes, bucket_ms);

-- NULL: this total is not summed.
CREATE FUNCTION total_units(total TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN total ~ '^[0-9]{1,12}([.][0-9]{1,9})?$'
    THEN CAST(split_part(total, '.', 1) AS BIGINT) END
$$;

CREATE FUNCTION total_nanos(total TEXT) RETURNS BIGINT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN total ~ '^[0-9]{1,12}([.][0-9]{1,9})?$'
    THEN CAST(rpad(split_part(total, '.', 2), 9, '0') AS BIGINT) END
$$;

-- What each order adds to `order_counts`.
CREATE VIEW order_figures AS
SELECT shop, order_id, state, phase, currency,
  CASE WHEN state = 'ordered_failed' THEN COALESCE(error_fingerprint, '') ELSE '' END AS fingerprint,
  COALESCE(total_units(total), 0) AS units,
  COALESCE(total_nanos(total), 0) AS nanos,
  CAST(CASE WHEN total_units(total) IS NULL THEN 1 ELSE 0 END AS BIGINT) AS unsummed
FROM orders;

-- One statement of the service moves many orders: its figures are added up first, and appended,
-- so that no two transactions ever wait for each other's counters. `fold_figures` of the service
-- adds the rows up.
CREATE FUNCTION figures_of_new_orders() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
  SELECT shop, state, phase, currency,
    CASE WHEN state = 'ordered_failed' THEN COALESCE(error_fingerprint, '') ELSE '' END,
    COUNT(*), SUM(COALESCE(total_units(total), 0)), SUM(COALESCE(total_nanos(total), 0)),
    COUNT(*) - COUNT(total_units(total))
  FROM new_orders
  GROUP BY 1, 2, 3, 4, 5;
  INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
  SELECT received_at_ms - received_at_ms % 60000, 0, shop, 'received', '', COUNT(*),
    MAX(received_at_ms)
  FROM new_orders
  GROUP BY 1, 3;
  RETURN NULL;
END
$$;

CREATE TRIGGER orders_added AFTER INSERT ON orders
  REFERENCING NEW TABLE AS new_orders
  FOR EACH STATEMENT EXECUTE FUNCTION figures_of_new_orders();

CREATE FUNCTION figures_of_gone_orders() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO order_counts (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
  SELECT shop, state, phase, currency,
    CASE WHEN state = 'ordered_failed' THEN COALESCE(error_fingerprint, '') ELSE '' END,
    -COUNT(*), -SUM(COALESCE(total_units(total), 0)), -SUM(COALESCE(total_nanos(total), 0)),
    COUNT(total_units(total)) - COUNT(*)
  FROM old_orders
  GROUP BY 1, 2, 3, 4, 5;
  RETURN NULL;
END
$$;

CREATE TRIGGER orders_gone AFTER DELETE ON orders
  REFERENCING OLD TABLE AS old_orders
  FOR EACH STATEMENT EXECUTE FUNCTION figures_of_gone_orders();

-- The plan is kept for later calls, however many rows those bring: only a hash join is good for all.
CREATE FUNCTION figures_of_changed_orders() RETURNS TRIGGER LANGUAGE plpgsql
SET enable_nestloop = off SET enable_mergejoin = off AS $$
BEGIN
  WITH changed AS MATERIALIZED (
    SELECT n.shop, n.state, n.phase, n.currency, n.total, n.fail_count, n.error_fingerprint,
      n.error_class, n.error_code, n.error_message, n.updated_at_ms, o.state AS was_state,
      o.phase AS was_phase, o.currency AS was_currency, o.total AS was_total,
      o.fail_count AS was_fail_count, o.error_fingerprint AS was_fingerprint
    FROM new_orders AS n
    JOIN old_orders AS o ON o.shop = n.shop AND o.order_id = n.order_id
    WHERE n.phase <> o.phase OR n.currency <> o.currency OR n.total <> o.total
      OR n.fail_count <> o.fail_count OR n.error_fingerprint IS DISTINCT FROM o.error_fingerprint),
  sides AS (
    SELECT 1 AS side, shop, state, phase, currency, total,
      CASE WHEN state = 'ordered_failed' THEN COALESCE(error_fingerprint, '') ELSE '' END AS fingerprint
    FROM changed
    UNION ALL
    SELECT -1, shop, was_state, was_phase, was_currency, was_total,
      CASE WHEN was_state = 'ordered_failed' THEN COALESCE(was_fingerprint, '') ELSE '' END
    FROM changed),
  counted AS (
    INSERT INTO order_counts
      (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
    SELECT shop, state, phase, currency, fingerprint, SUM(side),
      SUM(side * COALESCE(total_units(total), 0)), SUM(side * COALESCE(total_nanos(total), 0)),
      SUM(CASE WHEN total_units(total) IS NULL THEN side ELSE 0 END)
    FROM sides
    GROUP BY shop, state, phase, currency, fingerprint
    HAVING SUM(side) <> 0 OR COUNT(DISTINCT total) > 1),
  happened AS (
    INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
    SELECT updated_at_ms - updated_at_ms % 60000, 0, shop, 'confirmed', '', COUNT(*),
      MAX(updated_at_ms)
    FROM changed
    WHERE phase = 'transferred' AND was_phase <> 'transferred'
    GROUP BY 1, shop
    UNION ALL
    SELECT updated_at_ms - updated_at_ms % 60000, 0, shop, 'failed',
      COALESCE(error_fingerprint, ''), SUM(fail_count - was_fail_count), MAX(updated_at_ms)
    FROM changed
    WHERE fail_count > was_fail_count
    GROUP BY 1, shop, error_fingerprint)
  -- In the order of their fingerprints, so that two processes never wait for each other in a ring.
  INSERT INTO failure_groups (fingerprint, class, code, message, first_seen_ms)
  SELECT DISTINCT ON (error_fingerprint) error_fingerprint, COALESCE(error_class, ''),
    COALESCE(error_code, ''), COALESCE(error_message, ''), updated_at_ms
  FROM changed
  WHERE fail_count > was_fail_count AND error_fingerprint IS NOT NULL
    AND (SELECT g.first_seen_ms FROM failure_groups AS g
      WHERE g.fingerprint = changed.error_fingerprint) IS NULL
  ORDER BY error_fingerprint, updated_at_ms
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;

CREATE TRIGGER orders_moved AFTER UPDATE ON orders
  REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders
  FOR EACH STATEMENT EXECUTE FUNCTION figures_of_changed_orders();

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

INSERT INTO failure_groups (fingerprint, class, code, message, first_seen_ms)
SELECT DISTINCT ON (error_fingerprint) error_fingerprint, COALESCE(error_class, ''),
  COALESCE(error_code, ''), COALESCE(error_message, ''), COALESCE(failed_at_ms, updated_at_ms)
FROM orders
WHERE error_fingerprint IS NOT NULL
ORDER BY error_fingerprint, failed_at_ms;
