//! Notices and mails in the ledger: each notice ends in exactly one mail, which is stored as it is
//! sent, with a row for each of its receivers.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::notice::DigestWindow;
use crate::ports::audit::Act;
use crate::ports::mail::Mail;
use crate::ports::notices::{
    ClaimedDelivery, MailArchive, MailCounts, MailDesk, MailFate, MailLevels, MailStatus, NewMail,
    Notice, Outbox, RefusedReceiver, StoredMail,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Sql, Tx};
use super::encode::json;
use super::ledger::SqlStore;
use super::rows::{self, CONTENT_COLUMNS, MAIL_COLUMNS};

#[async_trait]
impl<D: Db> Outbox for SqlStore<D> {
    async fn add_notice(&self, notice: Notice) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.insert_notices(&[notice]).await?;
        tx.commit().await
    }

    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let sql = "SELECT id, kind, detail, created_at_ms
            FROM notices
            WHERE mail_id IS NULL AND due_at_ms <= $1
            ORDER BY created_at_ms, id
            LIMIT $2";
        let rows = self.db.fetch(&sql.into(), sql_args![now, limit]).await?;
        rows.into_iter().map(rows::notice).collect()
    }

    async fn postpone_notices(&self, ids: &[String], until: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE notices
            SET due_at_ms = $2
            WHERE id = $1 AND mail_id IS NULL";
        let mut tx = self.db.begin().await?;
        for id in ids {
            tx.execute(&sql.into(), sql_args![id, until]).await?;
        }
        tx.commit().await
    }

    async fn digest_window(&self, audience: &str) -> Result<Option<DigestWindow>, StoreError> {
        let sql = "SELECT started_at_ms, sent
            FROM mail_windows
            WHERE audience = $1";
        let mut rows = self.db.fetch(&sql.into(), sql_args![audience]).await?;
        let Some(mut row) = rows.pop() else { return Ok(None) };
        row.table = "mail_windows";
        Ok(Some(DigestWindow { started_at: row.time("started_at_ms")?, sent: row.number("sent")? }))
    }

    async fn compose_mails(
        &self,
        mails: Vec<NewMail>,
        window: Option<(String, DigestWindow)>,
    ) -> Result<bool, StoreError> {
        let take = "UPDATE notices
            SET mail_id = $2
            WHERE id = $1 AND mail_id IS NULL";
        let mut tx = self.db.begin().await?;
        for new in &mails {
            let status = if new.keep_only { MailStatus::Kept } else { MailStatus::Waiting };
            // The same notices have the same Message-ID: another process wrote this mail first.
            if !insert_mail(&mut tx, new, status).await? {
                return Ok(false);
            }
            insert_deliveries(&mut tx, new.id, &new.mail.receivers, status, new.now).await?;
            for notice in &new.notices {
                if tx.execute(&take.into(), sql_args![notice, new.id]).await? == 0 {
                    return Ok(false);
                }
            }
        }
        if let Some((audience, window)) = window {
            let sql = "INSERT INTO mail_windows (audience, started_at_ms, sent)
                VALUES ($1, $2, $3)
                ON CONFLICT (audience)
                DO UPDATE SET started_at_ms = excluded.started_at_ms, sent = excluded.sent";
            tx.execute(&sql.into(), sql_args![audience, window.started_at, window.sent]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn claim_deliveries(
        &self,
        worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let claim = format!(
            "WITH due AS (
              SELECT mail_id, receiver
              FROM mail_deliveries
              WHERE status = 'waiting' AND due_at_ms <= $2
                AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
              ORDER BY due_at_ms, mail_id, place
              LIMIT $4
              {free})
            UPDATE mail_deliveries
            SET claim_worker = $1, claimed_until_ms = $3, tries = tries + 1
            WHERE (mail_id, receiver) IN (SELECT mail_id, receiver FROM due)
              AND status = 'waiting' AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
            RETURNING mail_id, receiver, tries, queued_at_ms",
            free = D::FOR_UPDATE_OF_FREE
        );
        let mut tx = self.db.begin().await?;
        adopt_mails::<D>(&mut tx, now).await?;
        let rows = tx.fetch(&Sql::Built(claim), sql_args![worker, now, until, limit]).await?;
        let mut claimed = Vec::new();
        for mut row in rows {
            row.table = "mail_deliveries";
            let mail_id = rows::uuid_of(&mut row, "mail_id")?;
            let (audience, mail) = content(&mut tx, mail_id).await?;
            claimed.push(ClaimedDelivery {
                mail_id,
                audience,
                mail,
                receiver: row.text("receiver")?,
                tries: row.number("tries")?,
                queued_at: row.time("queued_at_ms")?,
            });
        }
        tx.commit().await?;
        claimed.sort_by_key(|delivery| (delivery.queued_at, delivery.mail_id));
        Ok(claimed)
    }

    async fn notices_of(&self, mail_id: Uuid) -> Result<Vec<Notice>, StoreError> {
        let sql = "SELECT id, kind, detail, created_at_ms
            FROM notices
            WHERE mail_id = $1 OR id IN (SELECT notice_id FROM mail_parts WHERE mail_id = $1)
            ORDER BY created_at_ms, id";
        let rows = self.db.fetch(&sql.into(), sql_args![mail_id]).await?;
        rows.into_iter().map(rows::notice).collect()
    }

    async fn settle_delivery(
        &self,
        mail_id: Uuid,
        receiver: &str,
        fate: MailFate,
    ) -> Result<MailStatus, StoreError> {
        let mut parts = Vec::new();
        let (sql, args) = match fate {
            MailFate::Sent(at) => (
                "UPDATE mail_deliveries
                SET status = 'sent', settled_at_ms = $3, error = NULL, claim_worker = NULL,
                  claimed_until_ms = NULL
                WHERE mail_id = $1 AND receiver = $2",
                sql_args![mail_id, receiver, at],
            ),
            MailFate::Later { at, error } => (
                "UPDATE mail_deliveries
                SET due_at_ms = $3, error = $4, claim_worker = NULL, claimed_until_ms = NULL
                WHERE mail_id = $1 AND receiver = $2 AND status = 'waiting'",
                sql_args![mail_id, receiver, at, error],
            ),
            MailFate::Failed { at, error } => (
                "UPDATE mail_deliveries
                SET status = 'failed', settled_at_ms = $3, error = $4, claim_worker = NULL,
                  claimed_until_ms = NULL
                WHERE mail_id = $1 AND receiver = $2 AND status = 'waiting'",
                sql_args![mail_id, receiver, at, error],
            ),
            MailFate::Split { at, error, parts: all } => {
                parts = all;
                (
                    "UPDATE mail_deliveries
                    SET status = 'split', settled_at_ms = $3, error = $4, claim_worker = NULL,
                      claimed_until_ms = NULL
                    WHERE mail_id = $1 AND receiver = $2 AND status = 'waiting'",
                    sql_args![mail_id, receiver, at, error],
                )
            }
            MailFate::Untried => (
                "UPDATE mail_deliveries
                SET tries = tries - 1, claim_worker = NULL, claimed_until_ms = NULL
                WHERE mail_id = $1 AND receiver = $2 AND status = 'waiting'",
                sql_args![mail_id, receiver],
            ),
        };
        let mut tx = self.db.begin().await?;
        lock_mail::<D>(&mut tx, mail_id).await?;
        if tx.execute(&sql.into(), args).await? > 0 {
            insert_parts(&mut tx, receiver, &parts).await?;
        }
        let status = update_status(&mut tx, mail_id).await?;
        tx.commit().await?;
        Ok(status)
    }
}

/// `mails.due_at_ms` of a mail whose receivers have rows of their own (migration 0011).
const NEVER: Timestamp = Timestamp::MAX;

/// Inserts a mail without its deliveries; `false` when one with its Message-ID is there.
async fn insert_mail<T: Tx>(
    tx: &mut T,
    new: &NewMail,
    status: MailStatus,
) -> Result<bool, StoreError> {
    let sql =
        "INSERT INTO mails (id, audience, kind, sender, receivers, subject, text_body, html_body,
          attachment, message_id, in_reply_to, list_id, status, due_at_ms, created_at_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        ON CONFLICT DO NOTHING";
    let args = sql_args![
        new.id,
        &new.audience,
        new.mail.kind.as_str(),
        &new.mail.sender,
        json(&new.mail.receivers)?,
        &new.mail.subject,
        &new.mail.text,
        &new.mail.html,
        new.mail.attachment.as_deref(),
        &new.mail.message_id,
        new.mail.in_reply_to.as_deref(),
        new.mail.list_id.as_deref(),
        status.as_str(),
        NEVER,
        new.now
    ];
    Ok(tx.execute(&sql.into(), args).await? > 0)
}

/// The parts of a mail that is too large for a receiver.
async fn insert_parts<T: Tx>(
    tx: &mut T,
    receiver: &str,
    parts: &[NewMail],
) -> Result<(), StoreError> {
    let known = "SELECT id FROM mails WHERE message_id = $1";
    let link = "INSERT INTO mail_parts (mail_id, notice_id)
        VALUES ($1, $2)
        ON CONFLICT DO NOTHING";
    for part in parts {
        insert_mail(tx, part, MailStatus::Waiting).await?;
        let args = sql_args![&part.mail.message_id];
        let mut row = rows::only(tx.fetch(&known.into(), args).await?)?;
        row.table = "mails";
        let id = rows::uuid_of(&mut row, "id")?;
        for notice in &part.notices {
            tx.execute(&link.into(), sql_args![id, notice]).await?;
        }
        let to = [receiver.to_owned()];
        insert_deliveries(tx, id, &to, MailStatus::Waiting, part.now).await?;
        update_status(tx, id).await?;
    }
    Ok(())
}

/// Each receiver once, however often the mail names it.
async fn insert_deliveries<T: Tx>(
    tx: &mut T,
    mail_id: Uuid,
    receivers: &[String],
    status: MailStatus,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO mail_deliveries
          (mail_id, receiver, place, status, queued_at_ms, due_at_ms)
        VALUES ($1, $2, $3, $4, $5, $5)
        ON CONFLICT DO NOTHING";
    for (place, receiver) in (0i64..).zip(receivers) {
        let args = sql_args![mail_id, receiver, place, status.as_str(), now];
        tx.execute(&sql.into(), args).await?;
    }
    Ok(())
}

/// Mails that a process of the release before has written, and that nobody sends now, get deliveries.
async fn adopt_mails<D: Db>(tx: &mut D::Tx, now: Timestamp) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT id, receivers, created_at_ms
        FROM mails
        WHERE status = 'waiting' AND due_at_ms < $1
          AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
        ORDER BY due_at_ms
        LIMIT 100
        {free}",
        free = D::FOR_UPDATE_OF_FREE
    );
    let adopt = "UPDATE mails
        SET due_at_ms = $2
        WHERE id = $1";
    for mut row in tx.fetch(&Sql::Built(sql), sql_args![NEVER, now]).await? {
        row.table = "mails";
        let id = rows::uuid_of(&mut row, "id")?;
        let receivers: Vec<String> =
            row.parsed("receivers", |text| serde_json::from_str(text).ok())?;
        let created_at = row.time("created_at_ms")?;
        insert_deliveries(tx, id, &receivers, MailStatus::Waiting, created_at).await?;
        tx.execute(&adopt.into(), sql_args![id, NEVER]).await?;
    }
    Ok(())
}

/// The audience of a mail, and the mail as it is sent.
async fn content<T: Tx>(tx: &mut T, id: Uuid) -> Result<(String, Mail), StoreError> {
    let sql = format!("SELECT audience, {CONTENT_COLUMNS} FROM mails WHERE id = $1");
    let mut row = rows::only(tx.fetch(&Sql::Built(sql), sql_args![id]).await?)?;
    row.table = "mails";
    row.name = id.to_string();
    Ok((row.text("audience")?, rows::mail(&mut row)?))
}

/// Outcomes of two receivers of one mail are written one after the other: the second has to see the first.
async fn lock_mail<D: Db>(tx: &mut D::Tx, id: Uuid) -> Result<(), StoreError> {
    let sql = format!("SELECT id FROM mails WHERE id = $1 {lock}", lock = D::FOR_UPDATE);
    tx.fetch(&Sql::Built(sql), sql_args![id]).await.map(|_| ())
}

/// Writes the status of all receivers together ([`MailStatus::of_all`]), and returns it.
async fn update_status<T: Tx>(tx: &mut T, id: Uuid) -> Result<MailStatus, StoreError> {
    let sql = "UPDATE mails
        SET status = COALESCE((
          SELECT CASE status WHEN 'split' THEN 'sent' ELSE status END
          FROM mail_deliveries
          WHERE mail_id = $1
          ORDER BY CASE status WHEN 'waiting' THEN 0 WHEN 'sent' THEN 1 WHEN 'split' THEN 1
            WHEN 'kept' THEN 2 ELSE 3 END
          LIMIT 1), status)
        WHERE id = $1
        RETURNING status";
    let mut row = rows::only(tx.fetch(&sql.into(), sql_args![id]).await?)?;
    row.table = "mails";
    row.parsed("status", MailStatus::from_name)
}

#[async_trait]
impl<D: Db> MailLevels for SqlStore<D> {
    async fn count_mails(&self) -> Result<MailCounts, StoreError> {
        let sql = "SELECT
              (SELECT COUNT(*) FROM notices WHERE mail_id IS NULL)
                + (SELECT COUNT(*) FROM mail_deliveries WHERE status = 'waiting')
                + (SELECT COUNT(*) FROM mails WHERE status = 'waiting' AND due_at_ms < $1),
              (SELECT COUNT(*) FROM mail_deliveries WHERE status = 'failed')
                + (SELECT COUNT(*) FROM mails AS m WHERE status = 'failed'
                    AND NOT EXISTS (SELECT 1 FROM mail_deliveries AS d WHERE d.mail_id = m.id)),
              (SELECT COUNT(*) FROM mails
                WHERE status = 'failed' AND kind <> 'customer_confirmation'
                  AND acknowledged_at_ms IS NULL)";
        let mut rows = self.db.fetch(&sql.into(), sql_args![NEVER]).await?;
        let Some(mut row) = rows.pop() else { return Ok(MailCounts::default()) };
        Ok(MailCounts {
            waiting: row.number("waiting")?,
            failed: row.number("failed")?,
            unheard: row.number("unheard")?,
        })
    }

    async fn refused_receivers(
        &self,
        since: Timestamp,
    ) -> Result<Vec<RefusedReceiver>, StoreError> {
        let sql = "SELECT DISTINCT m.audience, d.receiver, d.error
            FROM mail_deliveries AS d
            JOIN mails AS m ON m.id = d.mail_id
            WHERE d.status = 'failed' AND d.settled_at_ms >= $1
              AND m.kind <> 'customer_confirmation'
              AND NOT EXISTS (
                SELECT 1
                FROM mail_deliveries AS later
                JOIN mails AS n ON n.id = later.mail_id
                WHERE later.receiver = d.receiver AND n.audience = m.audience
                  AND n.kind <> 'customer_confirmation'
                  AND later.settled_at_ms > d.settled_at_ms)
            ORDER BY m.audience, d.receiver, d.error
            LIMIT 1000";
        let rows = self.db.fetch(&sql.into(), sql_args![since]).await?;
        let mut refused = Vec::<RefusedReceiver>::new();
        for mut row in rows {
            row.table = "mail_deliveries";
            let (audience, receiver) = (row.text("audience")?, row.text("receiver")?);
            let error = row.text_or_null("error")?.unwrap_or_default();
            // Of two mails that were refused in the same millisecond, one is enough.
            let is_known = refused
                .last()
                .is_some_and(|last| last.audience == audience && last.receiver == receiver);
            if !is_known {
                refused.push(RefusedReceiver { audience, receiver, error });
            }
        }
        Ok(refused)
    }

    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(1 AS BIGINT)
            WHERE EXISTS (SELECT 1 FROM notices WHERE mail_id IS NULL AND due_at_ms <= $1)
               OR EXISTS (SELECT 1 FROM mail_deliveries
                    WHERE status = 'waiting' AND due_at_ms <= $1
                      AND (claimed_until_ms IS NULL OR claimed_until_ms <= $1))
               OR EXISTS (SELECT 1 FROM mails WHERE status = 'waiting' AND due_at_ms <= $1
                    AND (claimed_until_ms IS NULL OR claimed_until_ms <= $1))";
        Ok(!self.db.fetch(&sql.into(), sql_args![now]).await?.is_empty())
    }
}

#[async_trait]
impl<D: Db> MailArchive for SqlStore<D> {
    async fn list_mails(
        &self,
        status: Option<MailStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError> {
        let sql = format!(
            "SELECT {MAIL_COLUMNS}
            FROM mail_rows AS m
            WHERE ($1 IS NULL OR status = $1 OR EXISTS (
              SELECT 1 FROM mail_deliveries AS d WHERE d.mail_id = m.id AND d.status = $1))
            ORDER BY created_at_ms DESC, id DESC
            LIMIT $2"
        );
        let status = status.map(MailStatus::as_str);
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![status, limit]).await?;
        rows.into_iter().map(rows::stored_mail).collect()
    }

    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError> {
        let sql = format!("SELECT {MAIL_COLUMNS} FROM mail_rows WHERE id = $1");
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![id]).await?;
        rows.into_iter().map(rows::stored_mail).next().transpose()
    }
}

#[async_trait]
impl<D: Db> MailDesk for SqlStore<D> {
    async fn resend_mail(
        &self,
        id: Uuid,
        receivers: &[String],
        act: &Act,
    ) -> Result<u32, StoreError> {
        let queue = "INSERT INTO mail_deliveries
              (mail_id, receiver, place, status, queued_at_ms, due_at_ms)
            VALUES ($1, $2, (SELECT COUNT(*) FROM mail_deliveries WHERE mail_id = $1), 'waiting',
              $3, $3)
            ON CONFLICT (mail_id, receiver) DO UPDATE
            SET status = 'waiting', tries = 0, queued_at_ms = excluded.queued_at_ms,
              due_at_ms = excluded.due_at_ms, settled_at_ms = NULL
            WHERE mail_deliveries.status IN ('failed', 'kept')";
        let reopen = "UPDATE mails
            SET due_at_ms = $2, acknowledged_at_ms = NULL
            WHERE id = $1";
        let mut tx = self.db.begin().await?;
        lock_mail::<D>(&mut tx, id).await?;
        split_account(&mut tx, id).await?;
        let mut queued = 0;
        for receiver in receivers {
            let done = tx.execute(&queue.into(), sql_args![id, receiver, act.now]).await?;
            queued += u32::from(done > 0);
        }
        if queued == 0 {
            return Ok(0);
        }
        tx.execute(&reopen.into(), sql_args![id, NEVER]).await?;
        update_status(&mut tx, id).await?;
        let target = format!("mail {id}");
        insert_audit(&mut tx, act, "mail.resend", &target, None, None).await?;
        tx.commit().await?;
        Ok(queued)
    }

    async fn acknowledge_mail(&self, id: Uuid, act: &Act) -> Result<bool, StoreError> {
        let sql = "UPDATE mails
            SET acknowledged_at_ms = $2
            WHERE id = $1 AND status = 'failed' AND kind <> 'customer_confirmation'
              AND acknowledged_at_ms IS NULL";
        let mut tx = self.db.begin().await?;
        let done = tx.execute(&sql.into(), sql_args![id, act.now]).await? > 0;
        if done {
            let target = format!("mail {id}");
            insert_audit(&mut tx, act, "mail.acknowledge", &target, None, None).await?;
        }
        tx.commit().await?;
        Ok(done)
    }
}

/// The receivers of a mail from before migration 0011 get rows of their own, with the status that they shared.
async fn split_account<T: Tx>(tx: &mut T, id: Uuid) -> Result<(), StoreError> {
    let sql = "SELECT receivers, status, created_at_ms
        FROM mails
        WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM mail_deliveries WHERE mail_id = $1)";
    for mut row in tx.fetch(&sql.into(), sql_args![id]).await? {
        row.table = "mails";
        let receivers: Vec<String> =
            row.parsed("receivers", |text| serde_json::from_str(text).ok())?;
        let status = row.parsed("status", MailStatus::from_name)?;
        insert_deliveries(tx, id, &receivers, status, row.time("created_at_ms")?).await?;
    }
    Ok(())
}
