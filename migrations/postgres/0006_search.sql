-- What a search looks through: one text in small letters.

-- From here on each database in its own way.

ALTER TABLE orders ADD COLUMN search_text TEXT GENERATED ALWAYS AS (
  LOWER(order_id || CHR(10) || COALESCE(customer_name, '') || CHR(10) || customer_email
    || CHR(10) || COALESCE(error_message, ''))) STORED;
