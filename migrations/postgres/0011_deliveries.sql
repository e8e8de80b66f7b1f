-- Each receiver of a mail on its own account: an address that is refused keeps the mail from nobody else.
-- Mails from before have no rows here until they are sent again: their receivers share the columns of `mails`.
-- `mails.status` stays the status of all receivers together. `mails.due_at_ms` of a mail with rows here lies in the
-- far future, so that a process of the release before, which knows no deliveries, does not send it.

CREATE TABLE mail_deliveries (
  mail_id          TEXT   NOT NULL REFERENCES mails (id) ON DELETE CASCADE,
  receiver         TEXT   NOT NULL,
  place            BIGINT NOT NULL,
  status           TEXT   NOT NULL CHECK (status IN ('waiting', 'sent', 'kept', 'failed', 'split')),
  tries            BIGINT NOT NULL DEFAULT 0,
  error            TEXT,
  queued_at_ms     BIGINT NOT NULL,
  due_at_ms        BIGINT NOT NULL,
  claim_worker     TEXT,
  claimed_until_ms BIGINT,
  settled_at_ms    BIGINT,
  PRIMARY KEY (mail_id, receiver)
);

CREATE INDEX mail_deliveries_waiting ON mail_deliveries (due_at_ms) WHERE status = 'waiting';
CREATE INDEX mail_deliveries_failed ON mail_deliveries (receiver) WHERE status = 'failed';
CREATE INDEX mail_deliveries_settled ON mail_deliveries (receiver, settled_at_ms);
CREATE INDEX notices_of_mail ON notices (mail_id) WHERE mail_id IS NOT NULL;
CREATE INDEX mails_failed ON mails (created_at_ms) WHERE status = 'failed';

-- From here on each database in its own way.

-- The complete list of a digest as CSV, sent as an attachment.
ALTER TABLE mails ADD COLUMN attachment TEXT;

-- What is in a mail that is a part of another one, which was too large for a receiver. Its notices belong to that one.
CREATE TABLE mail_parts (
  mail_id   TEXT NOT NULL REFERENCES mails (id) ON DELETE CASCADE,
  notice_id TEXT NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
  PRIMARY KEY (mail_id, notice_id)
);

-- When a person said that an alert which no administrator got is known.
ALTER TABLE mails ADD COLUMN acknowledged_at_ms BIGINT;

-- Mails with their deliveries as JSON.
CREATE VIEW mail_rows AS
SELECT id, audience, kind, sender, receivers, subject, text_body, html_body, attachment, message_id, status, tries, error,
  created_at_ms, sent_at_ms, acknowledged_at_ms,
  (SELECT CAST(json_agg(json_build_object('receiver', d.receiver, 'place', d.place, 'status', d.status,
      'tries', d.tries, 'error', d.error, 'settled_at_ms', d.settled_at_ms)) AS TEXT)
    FROM mail_deliveries AS d
    WHERE d.mail_id = mails.id) AS deliveries
FROM mails;
