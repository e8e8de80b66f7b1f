-- Who may come in: people, their sessions, failed logins, logins under way elsewhere, and answers
-- that are given again for the same Idempotency-Key. Secrets are kept as hashes only; the verifier of
-- a login under way is worth nothing without the browser that began it.

CREATE TABLE users (
  name                TEXT   PRIMARY KEY,
  password_hash       TEXT   NOT NULL,
  roles               TEXT   NOT NULL,
  language            TEXT,
  created_at_ms       BIGINT NOT NULL,
  password_changed_ms BIGINT NOT NULL,
  disabled_at_ms      BIGINT
);

-- `roles`: what an identity provider said when the session began; a local user's stand in `users`.
CREATE TABLE sessions (
  token_hash    BYTEA  PRIMARY KEY,
  user_name     TEXT   NOT NULL,
  provider      TEXT   NOT NULL CHECK (provider IN ('local', 'oidc')),
  roles         TEXT,
  created_at_ms BIGINT NOT NULL,
  seen_at_ms    BIGINT NOT NULL,
  expires_at_ms BIGINT NOT NULL,
  came_from     TEXT,
  CONSTRAINT roles_of_a_provider CHECK ((provider = 'oidc') = (roles IS NOT NULL))
);

CREATE INDEX sessions_of_user ON sessions (user_name);
CREATE INDEX sessions_expire ON sessions (expires_at_ms);

-- Whose logins failed lately: SHA-256 of a name or an address, for people type passwords as names.
CREATE TABLE login_failures (
  whose            BYTEA  PRIMARY KEY,
  failures         BIGINT NOT NULL CHECK (failures >= 0),
  failed_at_ms     BIGINT NOT NULL,
  blocked_until_ms BIGINT
);

CREATE INDEX login_failures_old ON login_failures (failed_at_ms);

CREATE TABLE oidc_logins (
  state_hash    BYTEA  PRIMARY KEY,
  nonce         TEXT   NOT NULL,
  verifier      TEXT   NOT NULL,
  return_to     TEXT   NOT NULL,
  created_at_ms BIGINT NOT NULL
);

CREATE INDEX oidc_logins_old ON oidc_logins (created_at_ms);

-- `status` NULL: the first request with this key is still being worked on.
CREATE TABLE idempotency_keys (
  actor          TEXT   NOT NULL,
  name           TEXT   NOT NULL,
  request_digest BYTEA  NOT NULL,
  status         BIGINT,
  headers        TEXT,
  body           BYTEA,
  created_at_ms  BIGINT NOT NULL,
  PRIMARY KEY (actor, name),
  CONSTRAINT whole_answer CHECK ((status IS NULL) = (body IS NULL) AND (status IS NULL) = (headers IS NULL))
);

CREATE INDEX idempotency_keys_old ON idempotency_keys (created_at_ms);

-- Shops that a token is limited to, with a space between; NULL: none.
ALTER TABLE tokens ADD COLUMN shops TEXT;

ALTER TABLE audit ADD COLUMN came_from TEXT;
CREATE INDEX audit_at ON audit (at_ms, id);
