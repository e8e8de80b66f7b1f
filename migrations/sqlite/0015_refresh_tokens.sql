-- The newest refresh token of each ERP that gives a new one with each use, encrypted with erp.token_key; `origin` is the
-- fingerprint of the token of the settings that it comes from. One process at a time uses it.

CREATE TABLE refresh_tokens (
  erp           TEXT NOT NULL PRIMARY KEY,
  sealed        TEXT,
  origin        TEXT,
  kept_at_ms    INTEGER,
  holder        TEXT,
  held_until_ms INTEGER
) STRICT;
