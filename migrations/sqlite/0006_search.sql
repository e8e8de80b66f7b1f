-- What a search looks through: one text in small letters, and beside the time in the index, so that a
-- page is searched without reading the orders themselves. So are payment and article numbers.

-- From here on each database in its own way.

ALTER TABLE orders ADD COLUMN search_text TEXT GENERATED ALWAYS AS (
  LOWER(order_id || CHAR(10) || COALESCE(customer_name, '') || CHAR(10) || customer_email
    || CHAR(10) || COALESCE(error_message, ''))) VIRTUAL;

DROP INDEX orders_received;
CREATE INDEX orders_received ON orders
  (received_at_ms, shop, order_id, payment, skus, search_text);
DROP INDEX lost_received;
CREATE INDEX lost_received ON orders (received_at_ms, shop, order_id, payment, skus, search_text)
  WHERE state = 'ordered_failed';
