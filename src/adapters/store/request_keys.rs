//! `Idempotency-Key`s of the API: a request is claimed by its key, and its answer is kept for a day.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::people::{KeptAnswer, KeyClaim, RequestKey, RequestKeys};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::Db;
use super::encode::{before, json};
use super::ledger::SqlStore;

/// How long an answer is given again for the same key.
const KEY_LIFE: Duration = Duration::from_hours(24);

/// Most answers that are kept, of all callers: what is older is forgotten before its day is over.
const MAX_KEYS: u32 = 100_000;

/// Longer than any request may take: the process that claimed such a key has died.
const KEY_ABANDONED: Duration = Duration::from_mins(5);

#[async_trait]
impl<D: Db> RequestKeys for SqlStore<D> {
    async fn claim_key(&self, key: &RequestKey, now: Timestamp) -> Result<KeyClaim, StoreError> {
        let forget = "DELETE FROM idempotency_keys WHERE created_at_ms <= $1";
        self.db.execute(&forget.into(), sql_args![before(now, KEY_LIFE)?]).await?;
        // Looking costs a moment, so one key in 256 does.
        if key.digest[0] == 0 {
            let old = "DELETE FROM idempotency_keys WHERE created_at_ms < (
                SELECT created_at_ms FROM idempotency_keys ORDER BY created_at_ms DESC LIMIT 1 OFFSET $1)";
            self.db.execute(&old.into(), sql_args![MAX_KEYS]).await?;
        }
        let claim = "INSERT INTO idempotency_keys (actor, name, request_digest, created_at_ms)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING";
        let digest = &key.digest[..];
        let args = sql_args![&key.actor, &key.name, digest, now];
        if self.db.execute(&claim.into(), args).await? > 0 {
            return Ok(KeyClaim::New);
        }
        let known = "SELECT request_digest, status, headers, body
            FROM idempotency_keys
            WHERE actor = $1 AND name = $2";
        let args = sql_args![&key.actor, &key.name];
        let Some(mut row) = self.db.fetch(&known.into(), args).await?.pop() else {
            // It was released a moment ago.
            return Ok(KeyClaim::Running);
        };
        row.table = "idempotency_keys";
        if row.bytes("request_digest")? != key.digest {
            return Ok(KeyClaim::Other);
        }
        if let Some(status) = row.number_or_null("status")? {
            let headers = row.parsed("headers", |text| serde_json::from_str(text).ok())?;
            return Ok(KeyClaim::Answered(KeptAnswer {
                status,
                headers,
                body: row.bytes("body")?,
            }));
        }
        let take_over = "UPDATE idempotency_keys
            SET created_at_ms = $3
            WHERE actor = $1 AND name = $2 AND status IS NULL AND created_at_ms <= $4";
        let args = sql_args![&key.actor, &key.name, now, before(now, KEY_ABANDONED)?];
        let taken = self.db.execute(&take_over.into(), args).await? > 0;
        Ok(if taken { KeyClaim::New } else { KeyClaim::Running })
    }

    async fn settle_key(
        &self,
        key: &RequestKey,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), StoreError> {
        let Some(answer) = answer else {
            let sql = "DELETE FROM idempotency_keys
                WHERE actor = $1 AND name = $2 AND status IS NULL";
            let args = sql_args![&key.actor, &key.name];
            return self.db.execute(&sql.into(), args).await.map(|_| ());
        };
        let sql = "UPDATE idempotency_keys
            SET status = $3, headers = $4, body = $5
            WHERE actor = $1 AND name = $2";
        let headers = json(&answer.headers)?;
        let (status, body) = (u32::from(answer.status), &answer.body[..]);
        let args = sql_args![&key.actor, &key.name, status, headers, body];
        self.db.execute(&sql.into(), args).await.map(|_| ())
    }
}
