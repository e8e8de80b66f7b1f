//! Messages that could not be accepted, stored with headers and routing.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ports::audit::Act;
use crate::ports::dead_letters::{
    DeadLetter, DeadLetterDesk, DeadLetterIntake, LISTED_BYTES, NewDeadLetter, Resolution,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Sql, Tx};
use super::encode::json;
use super::ledger::SqlStore;
use super::rows::{self, DEAD_LETTER_COLUMNS};

#[async_trait]
impl<D: Db> DeadLetterIntake for SqlStore<D> {
    async fn record_dead_letter(&self, letter: NewDeadLetter) -> Result<(), StoreError> {
        let sql = "INSERT INTO dead_letters (id, source, reason, place, detail, body, digest,
              headers, exchange, routing_key, status, first_seen_ms, last_seen_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', $11, $11)
            ON CONFLICT (source, digest) WHERE status = 'open' DO UPDATE
            SET seen = dead_letters.seen + 1, last_seen_ms = excluded.last_seen_ms";
        let letter = letter.bounded();
        let headers = json(&letter.headers)?;
        let args = sql_args![
            letter.id,
            &letter.source,
            letter.fault.reason.as_str(),
            letter.fault.place.as_deref(),
            &letter.fault.detail,
            &letter.body[..],
            &Sha256::digest(&letter.body)[..],
            headers,
            &letter.exchange,
            &letter.routing_key,
            letter.now
        ];
        self.db.execute(&sql.into(), args).await.map(|_| ())
    }
}

#[async_trait]
impl<D: Db> DeadLetterDesk for SqlStore<D> {
    async fn list_dead_letters(
        &self,
        open_only: bool,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let condition = if open_only { "status = 'open'" } else { "TRUE" };
        let sql = format!(
            "SELECT {DEAD_LETTER_COLUMNS}, COALESCE(substr(body, 1, {LISTED_BYTES}), body)
            FROM dead_letters
            WHERE {condition}
            ORDER BY last_seen_ms DESC, id DESC
            LIMIT $1"
        );
        let rows = self.db.read(&Sql::Built(sql), sql_args![limit]).await?;
        rows.into_iter().map(rows::dead_letter).collect()
    }

    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>, StoreError> {
        let sql = format!("SELECT {DEAD_LETTER_COLUMNS}, body FROM dead_letters WHERE id = $1");
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![id]).await?;
        rows.into_iter().map(rows::dead_letter).next().transpose()
    }

    async fn resolve_dead_letter(
        &self,
        id: Uuid,
        resolution: Resolution,
        by: &Act,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE dead_letters
            SET status = $2, resolution = $3
            WHERE id = $1 AND status = 'open'";
        let why = by.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let resolution_text = format!("{}{why}", by.actor);
        let mut tx = self.db.begin().await?;
        let args = sql_args![id, resolution.as_str(), resolution_text];
        let resolved = tx.execute(&sql.into(), args).await? > 0;
        if resolved {
            let action = format!("dead_letter.{}", resolution.as_str());
            insert_audit(&mut tx, by, &action, &id.to_string(), None, None).await?;
        }
        tx.commit().await?;
        Ok(resolved)
    }

    async fn count_dead_letters(&self) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*)
            FROM dead_letters
            WHERE status = 'open'";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows::only(rows)?.number("count")
    }
}
