-- Channels beside mail: webhooks, Slack, Teams, PagerDuty. Each notice is given once to every channel that is
-- subscribed to it, and ends in one message there, or is marked as below the channel's threshold.

CREATE TABLE channel_messages (
  id               TEXT    PRIMARY KEY,
  channel          TEXT    NOT NULL,
  kind             TEXT    NOT NULL,
  content          TEXT    NOT NULL,
  incident         TEXT,
  status           TEXT    NOT NULL CHECK (status IN ('waiting', 'delivered', 'failed', 'split')),
  tries            INTEGER NOT NULL DEFAULT 0,
  error            TEXT,
  queued_at_ms     INTEGER NOT NULL,
  due_at_ms        INTEGER NOT NULL,
  claim_worker     TEXT,
  claimed_until_ms INTEGER,
  settled_at_ms    INTEGER,
  created_at_ms    INTEGER NOT NULL
) STRICT;

CREATE INDEX channel_messages_waiting ON channel_messages (channel, due_at_ms) WHERE status = 'waiting';
CREATE INDEX channel_messages_failed ON channel_messages (channel) WHERE status = 'failed';
CREATE INDEX channel_messages_newest ON channel_messages (created_at_ms, id);
CREATE INDEX channel_messages_of ON channel_messages (channel, created_at_ms, id);

CREATE TABLE channel_notices (
  channel     TEXT    NOT NULL,
  notice_id   TEXT    NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
  due_at_ms   INTEGER NOT NULL,
  message_id  TEXT REFERENCES channel_messages (id) ON DELETE CASCADE,
  below_at_ms INTEGER,
  PRIMARY KEY (channel, notice_id)
) STRICT;

CREATE INDEX channel_notices_waiting ON channel_notices (channel, due_at_ms)
  WHERE message_id IS NULL AND below_at_ms IS NULL;
CREATE INDEX channel_notices_in_message ON channel_notices (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX channel_notices_of_notice ON channel_notices (notice_id);

-- What a channel was told recently, and how it is doing.
CREATE TABLE channel_states (
  channel              TEXT    PRIMARY KEY,
  digest_started_at_ms INTEGER,
  digest_sent          INTEGER NOT NULL DEFAULT 0,
  above_until_ms       INTEGER,
  delivered            INTEGER NOT NULL DEFAULT 0,
  below                INTEGER NOT NULL DEFAULT 0,
  delivered_at_ms      INTEGER,
  refused_at_ms        INTEGER,
  error                TEXT
) STRICT;

-- Channels that were made on the page. The definition holds their secrets, which no page shows.
CREATE TABLE channels (
  name          TEXT    PRIMARY KEY,
  definition    TEXT    NOT NULL,
  version       INTEGER NOT NULL,
  changed_at_ms INTEGER NOT NULL
) STRICT;

-- From here on each database in its own way.

-- When a notice was given to the channels. What was there before channels were is given to none; what comes from now
-- on has no time yet.
ALTER TABLE notices ADD COLUMN channels_at_ms INTEGER;
UPDATE notices SET channels_at_ms = 0;

CREATE INDEX notices_for_channels ON notices (created_at_ms, id)
  WHERE channels_at_ms IS NULL AND kind <> 'customer_confirmation';
