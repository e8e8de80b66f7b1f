-- Channels beside mail: webhooks, Slack, Teams, PagerDuty. Each notice is given once to every channel that is
-- subscribed to it, and ends in one message there, or is marked as below the channel's threshold.

CREATE TABLE channel_messages (
  id               TEXT   PRIMARY KEY,
  channel          TEXT   NOT NULL,
  kind             TEXT   NOT NULL,
  content          TEXT   NOT NULL,
  incident         TEXT,
  status           TEXT   NOT NULL CHECK (status IN ('waiting', 'delivered', 'failed', 'split')),
  tries            BIGINT NOT NULL DEFAULT 0,
  error            TEXT,
  queued_at_ms     BIGINT NOT NULL,
  due_at_ms        BIGINT NOT NULL,
  claim_worker     TEXT,
  claimed_until_ms BIGINT,
  settled_at_ms    BIGINT,
  created_at_ms    BIGINT NOT NULL
);

CREATE INDEX channel_messages_waiting ON channel_messages (channel, due_at_ms) WHERE status = 'waiting';
CREATE INDEX channel_messages_failed ON channel_messages (channel) WHERE status = 'failed';
CREATE INDEX channel_messages_newest ON channel_messages (created_at_ms, id);
CREATE INDEX channel_messages_of ON channel_messages (channel, created_at_ms, id);

CREATE TABLE channel_notices (
  channel     TEXT   NOT NULL,
  notice_id   TEXT   NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
  due_at_ms   BIGINT NOT NULL,
  message_id  TEXT REFERENCES channel_messages (id) ON DELETE CASCADE,
  below_at_ms BIGINT,
  PRIMARY KEY (channel, notice_id)
);

CREATE INDEX channel_notices_waiting ON channel_notices (channel, due_at_ms)
  WHERE message_id IS NULL AND below_at_ms IS NULL;
CREATE INDEX channel_notices_in_message ON channel_notices (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX channel_notices_of_notice ON channel_notices (notice_id);

-- What a channel was told recently, and how it is doing.
CREATE TABLE channel_states (
  channel              TEXT   PRIMARY KEY,
  digest_started_at_ms BIGINT,
  digest_sent          BIGINT NOT NULL DEFAULT 0,
  above_until_ms       BIGINT,
  delivered            BIGINT NOT NULL DEFAULT 0,
  below                BIGINT NOT NULL DEFAULT 0,
  delivered_at_ms      BIGINT,
  refused_at_ms        BIGINT,
  error                TEXT
);

-- Channels that were made on the page. The definition holds their secrets, which no page shows.
CREATE TABLE channels (
  name          TEXT   PRIMARY KEY,
  definition    TEXT   NOT NULL,
  version       BIGINT NOT NULL,
  changed_at_ms BIGINT NOT NULL
);

-- From here on each database in its own way.

-- When a notice was given to the channels. What was there before channels were is given to none; what comes from now
-- on has no time yet.
ALTER TABLE notices ADD COLUMN channels_at_ms BIGINT DEFAULT 0;
ALTER TABLE notices ALTER COLUMN channels_at_ms SET DEFAULT NULL;

CREATE INDEX notices_for_channels ON notices (created_at_ms, id)
  WHERE channels_at_ms IS NULL AND kind <> 'customer_confirmation';
