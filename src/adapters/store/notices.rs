//! Notices and mails in the ledger: each notice ends in exactly one mail, which is stored as it is
//! sent.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::notice::DigestWindow;
use crate::ports::notices::{
    MailArchive, MailCounts, MailFate, MailLevels, MailStatus, NewMail, Notice, Outbox, StoredMail,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, Sql, Tx};
use super::encode::json;
use super::ledger::SqlStore;
use super::rows::{self, MAIL_COLUMNS};

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
        let insert = "INSERT INTO mails (id, audience, kind, sender, receivers, subject, text_body,
              html_body, message_id, status, due_at_ms, created_at_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
            ON CONFLICT DO NOTHING";
        let take = "UPDATE notices
            SET mail_id = $2
            WHERE id = $1 AND mail_id IS NULL";
        let mut tx = self.db.begin().await?;
        for new in &mails {
            let status = if new.keep_only { MailStatus::Kept } else { MailStatus::Waiting };
            let args = sql_args![
                new.id,
                &new.audience,
                new.mail.kind.as_str(),
                &new.mail.sender,
                json(&new.mail.receivers)?,
                &new.mail.subject,
                &new.mail.text,
                &new.mail.html,
                &new.mail.message_id,
                status.as_str(),
                new.now
            ];
            // The same notices have the same Message-ID: another process wrote this mail first.
            if tx.execute(&insert.into(), args).await? == 0 {
                return Ok(false);
            }
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

    async fn claim_mails(
        &self,
        worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError> {
        let sql = format!(
            "WITH due AS (
              SELECT id
              FROM mails
              WHERE status = 'waiting' AND due_at_ms <= $2
                AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
              ORDER BY due_at_ms, id
              LIMIT $4
              {free})
            UPDATE mails
            SET claim_worker = $1, claimed_until_ms = $3, tries = tries + 1
            WHERE id IN (SELECT id FROM due)
              AND status = 'waiting' AND (claimed_until_ms IS NULL OR claimed_until_ms <= $2)
            RETURNING {MAIL_COLUMNS}",
            free = D::FOR_UPDATE_OF_FREE
        );
        let mut tx = self.db.begin().await?;
        let rows = tx.fetch(&Sql::Built(sql), sql_args![worker, now, until, limit]).await?;
        tx.commit().await?;
        rows.into_iter().map(rows::stored_mail).collect()
    }

    async fn settle_mail(&self, id: Uuid, fate: MailFate) -> Result<(), StoreError> {
        let (sql, args) = match fate {
            MailFate::Sent(at) => (
                "UPDATE mails
                SET status = 'sent', sent_at_ms = $2, error = NULL, claim_worker = NULL,
                  claimed_until_ms = NULL
                WHERE id = $1",
                sql_args![id, at],
            ),
            MailFate::Later { at, error } => (
                "UPDATE mails
                SET due_at_ms = $2, error = $3, claim_worker = NULL, claimed_until_ms = NULL
                WHERE id = $1 AND status = 'waiting'",
                sql_args![id, at, error],
            ),
            MailFate::Failed(error) => (
                "UPDATE mails
                SET status = 'failed', error = $2, claim_worker = NULL, claimed_until_ms = NULL
                WHERE id = $1 AND status = 'waiting'",
                sql_args![id, error],
            ),
        };
        self.db.execute(&sql.into(), args).await.map(|_| ())
    }
}

#[async_trait]
impl<D: Db> MailLevels for SqlStore<D> {
    async fn count_mails(&self) -> Result<MailCounts, StoreError> {
        let sql = "SELECT
              (SELECT COUNT(*) FROM notices WHERE mail_id IS NULL)
                + (SELECT COUNT(*) FROM mails WHERE status = 'waiting'),
              (SELECT COUNT(*) FROM mails WHERE status = 'failed')";
        let mut rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        let Some(mut row) = rows.pop() else { return Ok(MailCounts::default()) };
        Ok(MailCounts { waiting: row.number("waiting")?, failed: row.number("failed")? })
    }

    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(1 AS BIGINT)
            WHERE EXISTS (SELECT 1 FROM notices WHERE mail_id IS NULL AND due_at_ms <= $1)
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
            FROM mails
            WHERE ($1 IS NULL OR status = $1)
            ORDER BY created_at_ms DESC, id DESC
            LIMIT $2"
        );
        let status = status.map(MailStatus::as_str);
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![status, limit]).await?;
        rows.into_iter().map(rows::stored_mail).collect()
    }

    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError> {
        let sql = format!("SELECT {MAIL_COLUMNS} FROM mails WHERE id = $1");
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![id]).await?;
        rows.into_iter().map(rows::stored_mail).next().transpose()
    }
}
