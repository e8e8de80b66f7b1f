-- From here on `orders` is only added to, and `order_states` says where orders stand. What `migrate` has not
-- copied yet is copied now, while nobody else writes. An older release cannot work with these tables: it says so,
-- becomes unready, and loses nothing.

-- From here on each database in its own way.

LOCK TABLE orders IN ACCESS EXCLUSIVE MODE;

DELETE FROM order_states AS s
USING changed_orders AS c
WHERE s.shop = c.shop AND s.order_id = c.order_id;

INSERT INTO order_states (shop, order_id, state, phase, received_at_ms, updated_at_ms, version, fail_count,
  last_attempt, in_doubt, revision, erp_order_id, due_at_ms, max_count, claim_worker, claim_attempt,
  claimed_until_ms, claim_preparing, unclear_since_ms, error_class, error_code, error_message,
  error_fingerprint, failed_at_ms, swept_at_ms)
SELECT o.shop, o.order_id, o.state, o.phase, o.received_at_ms, o.updated_at_ms, o.version, o.fail_count,
  o.last_attempt, o.in_doubt, o.revision, o.erp_order_id, o.due_at_ms, o.max_count, o.claim_worker,
  o.claim_attempt, o.claimed_until_ms, o.claim_preparing, o.unclear_since_ms, o.error_class, o.error_code,
  o.error_message, o.error_fingerprint, o.failed_at_ms, o.swept_at_ms
FROM orders AS o
WHERE NOT EXISTS (SELECT 1 FROM order_states AS s WHERE s.shop = o.shop AND s.order_id = o.order_id);

DROP TRIGGER orders_changed_while_copied ON orders;
DROP FUNCTION note_changed_orders;
DROP TABLE changed_orders;
DROP TRIGGER orders_added ON orders;
DROP TRIGGER orders_gone ON orders;
DROP TRIGGER orders_moved ON orders;
DROP FUNCTION figures_of_new_orders;
DROP FUNCTION figures_of_gone_orders;
DROP FUNCTION figures_of_changed_orders;
DROP VIEW order_figures;

-- Nothing is rewritten by these: what is there stays, and search finds it as before. New rows bring their own.
ALTER TABLE orders ALTER COLUMN search_text DROP EXPRESSION;
ALTER TABLE orders
  DROP CONSTRAINT state_and_phase,
  DROP CONSTRAINT due_only_when_waiting,
  DROP CONSTRAINT whole_claim,
  DROP CONSTRAINT failed_means_counted,
  DROP COLUMN state,
  DROP COLUMN phase,
  DROP COLUMN due_at_ms,
  DROP COLUMN fail_count,
  DROP COLUMN max_count,
  DROP COLUMN last_attempt,
  DROP COLUMN unclear_since_ms,
  DROP COLUMN erp_order_id,
  DROP COLUMN error_class,
  DROP COLUMN error_code,
  DROP COLUMN error_message,
  DROP COLUMN error_fingerprint,
  DROP COLUMN failed_at_ms,
  DROP COLUMN in_doubt,
  DROP COLUMN updated_at_ms,
  DROP COLUMN version,
  DROP COLUMN swept_at_ms,
  DROP COLUMN revision,
  DROP COLUMN edited,
  DROP COLUMN claim_attempt,
  -- The total in whole units and billionths; NULL: by the functions of the same name.
  ADD COLUMN units BIGINT,
  ADD COLUMN nanos BIGINT,
  ADD COLUMN unsummed BIGINT;
-- The claim in `orders` is the one under which an order came; with a row in `order_states` it says nothing.

-- All that are there have a state now. One that is on its way may have been received a while ago.
UPDATE ledger_marks
SET at_ms = GREATEST(COALESCE((SELECT MAX(received_at_ms) FROM orders), 0) - 60000, 0);

-- Every order with where it stands. One without a row in `order_states` is queued.
CREATE VIEW order_rows AS
SELECT o.shop, o.order_id, COALESCE(s.state, 'payed') AS state, COALESCE(s.phase, 'queued') AS phase,
  s.due_at_ms, s.erp_order_id, COALESCE(s.fail_count, 0) AS fail_count, s.max_count,
  COALESCE(s.last_attempt, 0) AS last_attempt,
  CASE WHEN s.shop IS NULL THEN o.claim_worker ELSE s.claim_worker END AS claim_worker,
  CASE WHEN s.shop IS NOT NULL THEN s.claim_attempt WHEN o.claim_worker IS NOT NULL THEN 1 END
    AS claim_attempt,
  CASE WHEN s.shop IS NULL THEN o.claimed_until_ms ELSE s.claimed_until_ms END AS claimed_until_ms,
  CASE WHEN s.shop IS NULL THEN o.claim_preparing ELSE s.claim_preparing END AS claim_preparing,
  s.unclear_since_ms, s.error_class, s.error_code, s.error_message, s.error_fingerprint, s.failed_at_ms,
  COALESCE(s.in_doubt, 0) AS in_doubt, o.placed_at_ms, o.currency, o.total, o.customer_number,
  o.customer_name, o.customer_email, o.customer_locale, o.payment, o.skus, o.traceparent, o.tracestate,
  o.received_at_ms, COALESCE(s.updated_at_ms, o.received_at_ms) AS updated_at_ms,
  COALESCE(s.version, 0) AS version, COALESCE(s.revision, 0) AS revision, o.search_text, o.source, o.digest,
  o.document
FROM orders AS o
LEFT JOIN order_states AS s ON s.shop = o.shop AND s.order_id = o.order_id;

-- The same of orders with a row in `order_states`: its indexes serve.
CREATE VIEW state_rows AS
SELECT s.shop, s.order_id, s.state, s.phase, s.due_at_ms, s.erp_order_id, s.fail_count, s.max_count,
  s.last_attempt, s.claim_worker, s.claim_attempt, s.claimed_until_ms, s.claim_preparing,
  s.unclear_since_ms, s.error_class, s.error_code, s.error_message, s.error_fingerprint, s.failed_at_ms,
  s.in_doubt, o.placed_at_ms, o.currency, o.total, o.customer_number, o.customer_name, o.customer_email,
  o.customer_locale, o.payment, o.skus, o.traceparent, o.tracestate, s.received_at_ms, s.updated_at_ms,
  s.version, s.revision, o.search_text, o.source, o.digest, o.document
FROM order_states AS s
JOIN orders AS o ON o.shop = s.shop AND o.order_id = s.order_id;

-- A function, because the planner asks it while it plans: few orders are younger than the mark.
CREATE FUNCTION in_hand_since() RETURNS BIGINT LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT at_ms FROM ledger_marks WHERE name = 'in_hand_since'
$$;

-- The same of orders without one.
CREATE VIEW in_hand_rows AS
SELECT o.shop, o.order_id, 'payed' AS state, 'queued' AS phase, CAST(NULL AS BIGINT) AS due_at_ms,
  CAST(NULL AS TEXT) AS erp_order_id, CAST(0 AS BIGINT) AS fail_count, CAST(NULL AS BIGINT) AS max_count,
  CAST(0 AS BIGINT) AS last_attempt, o.claim_worker,
  CAST(CASE WHEN o.claim_worker IS NOT NULL THEN 1 END AS BIGINT) AS claim_attempt, o.claimed_until_ms,
  o.claim_preparing, CAST(NULL AS BIGINT) AS unclear_since_ms, CAST(NULL AS TEXT) AS error_class,
  CAST(NULL AS TEXT) AS error_code, CAST(NULL AS TEXT) AS error_message,
  CAST(NULL AS TEXT) AS error_fingerprint, CAST(NULL AS BIGINT) AS failed_at_ms,
  CAST(0 AS BIGINT) AS in_doubt, o.placed_at_ms, o.currency, o.total, o.customer_number, o.customer_name,
  o.customer_email, o.customer_locale, o.payment, o.skus, o.traceparent, o.tracestate, o.received_at_ms,
  o.received_at_ms AS updated_at_ms, CAST(0 AS BIGINT) AS version, CAST(0 AS BIGINT) AS revision,
  o.search_text, o.source, o.digest, o.document
FROM orders AS o
WHERE o.received_at_ms >= in_hand_since()
  AND NOT EXISTS (SELECT 1 FROM order_states AS s WHERE s.shop = o.shop AND s.order_id = o.order_id);

-- Every attempt that ended.
CREATE VIEW order_attempts AS
SELECT shop, order_id, attempt, outcome, triggered_by, worker, error_class, error_code, error_message, stage,
  request, http_status, occurred_at_ms, duration_ms, erp_order_id, found
FROM attempts
UNION ALL
SELECT shop, order_id, attempt, 'succeeded', triggered_by, worker, NULL, NULL, NULL, NULL, request,
  http_status, updated_at_ms, duration_ms, erp_order_id, found
FROM order_states
WHERE attempt IS NOT NULL;

-- The numbers of orders with what was not added up yet.
ALTER TABLE order_counts RENAME TO added_counts;
ALTER TABLE activity RENAME TO added_activity;
ALTER TABLE tallies RENAME TO added_tallies;

CREATE VIEW order_counts AS
SELECT shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed
FROM added_counts
UNION ALL
SELECT shop, CASE WHEN phase IN ('queued', 'held') THEN 'payed'
    WHEN phase IN ('transferred', 'removed') THEN 'confirmed' ELSE 'ordered_failed' END,
  phase, currency, fingerprint, orders, units, nanos, unsummed
FROM moves
WHERE phase <> ''
UNION ALL
SELECT shop, CASE WHEN was IN ('queued', 'held') THEN 'payed'
    WHEN was IN ('transferred', 'removed') THEN 'confirmed' ELSE 'ordered_failed' END,
  was, currency, was_fingerprint, -orders, -units, -nanos, -unsummed
FROM moves
WHERE was <> '';

CREATE VIEW activity AS
SELECT bucket_ms, minutes, shop, what, fingerprint, orders, last_ms
FROM added_activity
UNION ALL
SELECT at_ms - at_ms % 60000, 0, shop, what, CASE WHEN what = 'failed' THEN fingerprint ELSE '' END,
  CASE WHEN what = 'failed' THEN failures ELSE orders END, at_ms
FROM moves
WHERE what <> '';

CREATE VIEW tallies AS
SELECT shop, received
FROM added_tallies
UNION ALL
SELECT shop, orders
FROM moves
WHERE what = 'received';

-- What each order adds to `order_counts`.
CREATE VIEW order_figures AS
SELECT o.shop, o.order_id, COALESCE(s.state, 'payed') AS state, COALESCE(s.phase, 'queued') AS phase,
  o.currency, CASE WHEN s.state = 'ordered_failed' THEN COALESCE(s.error_fingerprint, '') ELSE '' END
    AS fingerprint,
  COALESCE(o.units, total_units(o.total), 0) AS units, COALESCE(o.nanos, total_nanos(o.total), 0) AS nanos,
  COALESCE(o.unsummed, CAST(CASE WHEN total_units(o.total) IS NULL THEN 1 ELSE 0 END AS BIGINT)) AS unsummed
FROM orders AS o
LEFT JOIN order_states AS s ON s.shop = o.shop AND s.order_id = o.order_id;
