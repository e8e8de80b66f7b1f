-- Requests to the ERP and its replies, by try: without secrets, bodies cut. `worker` is the claim
-- under which they were made, `seq` their order within it.

CREATE TABLE exchanges (
  shop            TEXT   NOT NULL,
  order_id        TEXT   NOT NULL,
  worker          TEXT   NOT NULL,
  seq             BIGINT NOT NULL,
  attempt         BIGINT NOT NULL CHECK (attempt > 0),
  step            TEXT   NOT NULL,
  question        BIGINT NOT NULL CHECK (question IN (0, 1)),
  method          TEXT   NOT NULL,
  url             TEXT   NOT NULL,
  request_headers TEXT   NOT NULL,
  request_body    TEXT   NOT NULL,
  http_status     BIGINT,
  stage           TEXT   NOT NULL,
  meaning         TEXT   NOT NULL,
  message         TEXT,
  reply           TEXT   NOT NULL,
  duration_ms     BIGINT NOT NULL,
  at_ms           BIGINT NOT NULL,
  PRIMARY KEY (shop, order_id, worker, seq)
);
