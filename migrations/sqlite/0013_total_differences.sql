-- Orders that the ERP has with another sum than what was paid: one row for each failed attempt that found it.
-- Rows are only added. `difference` is JSON: both sums, the ERP's number and the lines that differ.

CREATE TABLE total_differences (
  shop       TEXT   NOT NULL,
  order_id   TEXT   NOT NULL,
  attempt    INTEGER NOT NULL CHECK (attempt > 0),
  at_ms      INTEGER NOT NULL,
  difference TEXT   NOT NULL,
  PRIMARY KEY (shop, order_id, attempt)
) STRICT;

-- A person has accepted the ERP's sum as that attempt found it.
CREATE TABLE accepted_totals (
  shop     TEXT   NOT NULL,
  order_id TEXT   NOT NULL,
  attempt  INTEGER NOT NULL,
  at_ms    INTEGER NOT NULL,
  actor    TEXT   NOT NULL,
  reason   TEXT   NOT NULL,
  PRIMARY KEY (shop, order_id, attempt)
) STRICT;
