-- Orders that the ERP has twice: a number that it gave to an order which had another one already. Rows are
-- only added. `number` and `first_number` as in `attempts.erp_order_id`.

CREATE TABLE second_entries (
  shop         TEXT   NOT NULL,
  order_id     TEXT   NOT NULL,
  number       TEXT   NOT NULL,
  first_number TEXT   NOT NULL,
  attempt      INTEGER NOT NULL CHECK (attempt > 0),
  worker       TEXT   NOT NULL,
  at_ms        INTEGER NOT NULL,
  PRIMARY KEY (shop, order_id, number),
  CONSTRAINT another_number CHECK (number <> first_number)
) STRICT;

-- A person has dealt with a second entry in the ERP.
CREATE TABLE settled_entries (
  shop     TEXT   NOT NULL,
  order_id TEXT   NOT NULL,
  number   TEXT   NOT NULL,
  at_ms    INTEGER NOT NULL,
  actor    TEXT   NOT NULL,
  reason   TEXT   NOT NULL,
  PRIMARY KEY (shop, order_id, number)
) STRICT;
