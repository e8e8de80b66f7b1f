//! Sessions, failed logins, and logins that continue at an identity provider. Only hashes of tokens,
//! names and addresses are stored.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::login::{REMEMBERED, wait_after};
use crate::ports::audit::Act;
use crate::ports::people::{OidcLogin, Provider, SessionRecord, Sessions, Tried};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Tx};
use super::encode::{after, before, json};
use super::ledger::SqlStore;
use super::users::roles;

/// How long a login at the identity provider may take.
const LOGIN_LIFE: Duration = Duration::from_mins(10);

#[async_trait]
impl<D: Db> Sessions for SqlStore<D> {
    async fn begin_session(
        &self,
        session: &SessionRecord,
        hash: &[u8],
        act: &Act,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO sessions (token_hash, user_name, provider, roles, created_at_ms,
              seen_at_ms, expires_at_ms, came_from)
            VALUES ($1, $2, $3, $4, $5, $5, $6, $7)";
        let roles = match session.provider {
            Provider::Local => None,
            Provider::Oidc => Some(json(&session.roles)?),
        };
        let args = sql_args![
            hash,
            &session.user,
            session.provider.as_str(),
            roles.as_deref(),
            session.created_at,
            session.expires_at,
            session.from.as_deref()
        ];
        let over = "DELETE FROM sessions WHERE expires_at_ms <= $1";
        let mut tx = self.db.begin().await?;
        tx.execute(&over.into(), sql_args![act.now]).await?;
        tx.execute(&sql.into(), args).await?;
        let target = format!("{} {}", session.provider.as_str(), session.user);
        insert_audit(&mut tx, act, "session.begin", &target, None, None).await?;
        tx.commit().await
    }

    async fn session(
        &self,
        hash: &[u8],
        now: Timestamp,
        idle: Duration,
        every: Duration,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let sql = "SELECT s.user_name, s.provider, COALESCE(s.roles, u.roles), u.language,
              s.created_at_ms, s.expires_at_ms, s.came_from, s.seen_at_ms
            FROM sessions AS s
            LEFT JOIN users AS u ON u.name = s.user_name AND s.provider = 'local'
            WHERE s.token_hash = $1 AND s.expires_at_ms > $2 AND s.seen_at_ms > $3
              AND (s.provider = 'oidc' OR (u.name IS NOT NULL AND u.disabled_at_ms IS NULL))";
        let args = sql_args![hash, now, before(now, idle)?];
        let Some(mut row) = self.db.fetch(&sql.into(), args).await?.pop() else {
            return Ok(None);
        };
        row.table = "sessions";
        let session = SessionRecord {
            user: row.id("user_name")?,
            provider: row.parsed("provider", Provider::from_name)?,
            roles: row.parsed("roles", roles)?,
            language: row.text_or_null("language")?,
            created_at: row.time("created_at_ms")?,
            expires_at: row.time("expires_at_ms")?,
            from: row.text_or_null("came_from")?,
        };
        let written_since = before(now, every)?;
        if row.time("seen_at_ms")? < written_since {
            let sql = "UPDATE sessions
                SET seen_at_ms = $2
                WHERE token_hash = $1 AND seen_at_ms < $3";
            self.db.execute(&sql.into(), sql_args![hash, now, written_since]).await?;
        }
        Ok(Some(session))
    }

    async fn end_session(&self, hash: &[u8], act: &Act) -> Result<bool, StoreError> {
        let sql = "DELETE FROM sessions WHERE token_hash = $1 RETURNING provider, user_name";
        let mut tx = self.db.begin().await?;
        let Some(mut row) = tx.fetch(&sql.into(), sql_args![hash]).await?.pop() else {
            return Ok(false);
        };
        let target = format!("{} {}", row.text("provider")?, row.text("user_name")?);
        insert_audit(&mut tx, act, "session.end", &target, None, None).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn end_sessions(&self, user: &str, act: &Act) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sessions WHERE user_name = $1";
        let mut tx = self.db.begin().await?;
        let ended = tx.execute(&sql.into(), sql_args![user]).await?;
        if ended > 0 {
            let change = (ended.to_string(), "0".to_owned());
            insert_audit(&mut tx, act, "session.end_all", user, None, Some(change)).await?;
        }
        tx.commit().await?;
        Ok(ended)
    }

    async fn failed_logins(&self, whose: &[u8], now: Timestamp) -> Result<u32, StoreError> {
        let sql = "SELECT failures FROM login_failures WHERE whose = $1 AND failed_at_ms > $2";
        let args = sql_args![whose, before(now, REMEMBERED)?];
        let row = self.db.fetch(&sql.into(), args).await?.pop();
        row.map_or(Ok(0), |mut row| row.number("failures"))
    }

    async fn login_begins(
        &self,
        whose: &[Tried],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let known = "INSERT INTO login_failures (whose, failures, failed_at_ms)
            VALUES ($1, 0, $2)
            ON CONFLICT DO NOTHING";
        let count = "UPDATE login_failures
            SET failures = CASE WHEN failed_at_ms > $3 THEN failures + 1 ELSE 1 END,
              failed_at_ms = $2
            WHERE whose = $1 AND (blocked_until_ms IS NULL OR blocked_until_ms <= $2)
            RETURNING failures";
        let block = "UPDATE login_failures SET blocked_until_ms = $2 WHERE whose = $1";
        let old = before(now, REMEMBERED)?;
        let mut tx = self.db.begin().await?;
        for tried in whose {
            let hash = &tried.whose[..];
            tx.execute(&known.into(), sql_args![hash, now]).await?;
            // The update locks the row: parallel guesses are counted one after the other.
            let Some(mut row) = tx.fetch(&count.into(), sql_args![hash, now, old]).await?.pop()
            else {
                let sql = "SELECT blocked_until_ms FROM login_failures WHERE whose = $1";
                let row = tx.fetch(&sql.into(), sql_args![hash]).await?.pop();
                let until = row.map(|mut row| row.time_or_null("blocked_until_ms")).transpose()?;
                return Ok(Some(until.flatten().unwrap_or(now)));
            };
            let until = wait_after(row.number("failures")?, tried.free);
            let until = until.map(|wait| after(now, wait)).transpose()?;
            tx.execute(&block.into(), sql_args![hash, until]).await?;
        }
        tx.commit().await?;
        let forget = "DELETE FROM login_failures
            WHERE failed_at_ms <= $1 AND (blocked_until_ms IS NULL OR blocked_until_ms <= $2)";
        self.db.execute(&forget.into(), sql_args![old, now]).await?;
        Ok(None)
    }

    async fn login_succeeded(&self, name: &[u8], address: &[u8]) -> Result<(), StoreError> {
        let forget = "DELETE FROM login_failures WHERE whose = $1";
        let take_back = "UPDATE login_failures
            SET failures = failures - 1, blocked_until_ms = NULL
            WHERE whose = $1 AND failures > 0";
        let mut tx = self.db.begin().await?;
        tx.execute(&forget.into(), sql_args![name]).await?;
        tx.execute(&take_back.into(), sql_args![address]).await?;
        tx.commit().await
    }

    async fn begin_oidc_login(&self, state: &[u8], login: &OidcLogin) -> Result<(), StoreError> {
        let forget = "DELETE FROM oidc_logins WHERE created_at_ms <= $1";
        let old = before(login.created_at, LOGIN_LIFE)?;
        self.db.execute(&forget.into(), sql_args![old]).await?;
        let sql = "INSERT INTO oidc_logins (state_hash, nonce, verifier, return_to, created_at_ms)
            VALUES ($1, $2, $3, $4, $5)";
        let (nonce, verifier) = (&login.nonce, &login.verifier);
        let args = sql_args![state, nonce, verifier, &login.return_to, login.created_at];
        self.db.execute(&sql.into(), args).await.map(|_| ())
    }

    async fn take_oidc_login(&self, state: &[u8]) -> Result<Option<OidcLogin>, StoreError> {
        let sql = "DELETE FROM oidc_logins
            WHERE state_hash = $1
            RETURNING nonce, verifier, return_to, created_at_ms";
        let mut tx = self.db.begin().await?;
        let Some(mut row) = tx.fetch(&sql.into(), sql_args![state]).await?.pop() else {
            return Ok(None);
        };
        tx.commit().await?;
        row.table = "oidc_logins";
        Ok(Some(OidcLogin {
            nonce: row.text("nonce")?,
            verifier: row.text("verifier")?,
            return_to: row.text("return_to")?,
            created_at: row.time("created_at_ms")?,
        }))
    }
}
