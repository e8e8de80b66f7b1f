-- What retention and the right to be forgotten took out of the ledger.
--
-- What is left of each order that is gone: enough to know a message of it that comes again, so that it is never
-- entered twice, and to prove that nothing was lost. No personal data. `gone_at_ms` NULL: it is noted, and its rows
-- are still there. `version` is that of its state when it was noted: an order that changed since stays.

CREATE TABLE gone_orders (
  shop           TEXT   NOT NULL,
  order_id       TEXT   NOT NULL,
  -- SHA-256 of the content as it came, whatever its spacing.
  content        BLOB   NOT NULL,
  phase          TEXT   NOT NULL CHECK (phase IN ('transferred', 'removed')),
  erp_order_id   TEXT,
  currency       TEXT   NOT NULL,
  total          TEXT   NOT NULL,
  fail_count     INTEGER NOT NULL,
  received_at_ms INTEGER NOT NULL,
  settled_at_ms  INTEGER NOT NULL,
  version        INTEGER NOT NULL,
  kind           TEXT   NOT NULL CHECK (kind IN ('confirmed', 'removed', 'erased')),
  gone_at_ms     INTEGER,
  PRIMARY KEY (shop, order_id)
) STRICT;

CREATE INDEX gone_orders_noted ON gone_orders (shop, order_id) WHERE gone_at_ms IS NULL;

-- How many were taken out, by kind: written in the transaction that does it.
CREATE TABLE removals (
  kind    TEXT   PRIMARY KEY,
  removed INTEGER NOT NULL,
  last_ms INTEGER NOT NULL
) STRICT;

-- Up to where each kind was looked through. Orders: in the round that is going on.
INSERT INTO ledger_marks (name, at_ms)
VALUES ('retention.confirmed', 0), ('retention.removed', 0), ('retention.exchanges', 0), ('retention.mails', 0);
