//! Users, sessions, failed logins, tokens, idempotency keys, and the audit as a list.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::login::{REMEMBERED, wait_after};
use crate::domain::permission::{RoleGrant, roles_text};
use crate::ports::audit::{Act, AuditFilter, AuditRow, AuditTrail};
use crate::ports::people::{
    ApiToken, KeptAnswer, KeyClaim, OidcLogin, Provider, RequestKey, RequestKeys, SessionRecord,
    Sessions, Tokens, Tried, User, UserChange, UserChanged, Users, last_administrator,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::back_office::insert_audit;
use super::conditions::Conditions;
use super::db::{Db, Row, Sql, Tx, Value};
use super::ledger::SqlStore;
use super::rows;
use super::schema::read_failed;

/// How long an answer is given again for the same key.
const KEY_LIFE: Duration = Duration::from_hours(24);
/// Longer than any request may take: the process that claimed such a key has died.
const KEY_ABANDONED: Duration = Duration::from_mins(5);
/// How long a login at the identity provider may take.
const LOGIN_LIFE: Duration = Duration::from_mins(10);

const USER: &str = "name, roles, language, created_at_ms, password_changed_ms, disabled_at_ms";
const TOKEN: &str = "name, scopes, shops, created_at_ms, expires_at_ms, revoked_at_ms";

#[async_trait]
impl<D: Db> Users for SqlStore<D> {
    async fn add_user(&self, user: &User, hash: &str, act: &Act) -> Result<bool, StoreError> {
        let sql = "INSERT INTO users (name, password_hash, roles, language, created_at_ms,
              password_changed_ms)
            VALUES ($1, $2, $3, $4, $5, $5)
            ON CONFLICT DO NOTHING";
        let (roles, language) = (json(&user.roles)?, user.language.as_deref());
        let args = sql_args![&user.name, hash, roles, language, user.created_at];
        let mut tx = self.db.begin().await?;
        if tx.execute(&sql.into(), args).await? == 0 {
            return Ok(false);
        }
        let change = Some((String::new(), roles_text(&user.roles)));
        insert_audit(&mut tx, act, "user.add", &target_user(&user.name), None, change).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn list_users(&self) -> Result<Vec<User>, StoreError> {
        let sql = format!("SELECT {USER} FROM users ORDER BY name");
        let rows = self.db.fetch(&Sql::Built(sql), Vec::new()).await?;
        rows.into_iter().map(user).collect()
    }

    async fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let sql = format!("SELECT {USER} FROM users WHERE name = $1");
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![name]).await?;
        rows.into_iter().map(user).next().transpose()
    }

    async fn password_hash(&self, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT password_hash FROM users WHERE name = $1";
        let row = self.db.fetch(&sql.into(), sql_args![name]).await?.pop();
        row.map(|mut row| row.text("password_hash")).transpose()
    }

    async fn change_user(
        &self,
        name: &str,
        change: UserChange,
        act: &Act,
    ) -> Result<UserChanged, StoreError> {
        let mut tx = self.db.begin().await?;
        // All of them are locked: of two administrators who disable each other the second waits here,
        // and sees what the first did.
        let sql = format!("SELECT {USER} FROM users ORDER BY name {}", D::FOR_UPDATE);
        let rows = tx.fetch(&Sql::Built(sql), Vec::new()).await?;
        let users = rows.into_iter().map(user).collect::<Result<Vec<_>, _>>()?;
        let Some(before) = users.iter().find(|user| user.name == name) else {
            return Ok(UserChanged::Missing);
        };
        let is_last = last_administrator(&users).is_some_and(|last| last.name == name);
        if is_last && change.ends_administrator() {
            return Ok(UserChanged::LastAdministrator);
        }
        let written = write_change(before, &change, act.now)?;
        tx.execute(&written.sql.into(), written.args).await?;
        if written.ends_sessions {
            let sql = "DELETE FROM sessions WHERE user_name = $1 AND provider = 'local'";
            tx.execute(&sql.into(), sql_args![name]).await?;
        }
        let target = target_user(name);
        insert_audit(&mut tx, act, written.action, &target, None, written.change).await?;
        tx.commit().await?;
        Ok(UserChanged::Done)
    }
}

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

#[async_trait]
impl<D: Db> Tokens for SqlStore<D> {
    async fn add_token(
        &self,
        token: &ApiToken,
        hash: &[u8],
        act: &Act,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO tokens (name, hash, scopes, shops, created_at_ms, expires_at_ms)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT DO NOTHING";
        let scopes = token.scopes.join(" ");
        let shops = token.shops.as_ref().map(|shops| shops.join(" "));
        let args = sql_args![
            &token.name,
            hash,
            &scopes,
            shops.as_deref(),
            token.created_at,
            token.expires_at
        ];
        let mut tx = self.db.begin().await?;
        if tx.execute(&sql.into(), args).await? == 0 {
            return Ok(false);
        }
        let only = shops.map(|shops| format!(" in {shops}")).unwrap_or_default();
        let change = Some((String::new(), format!("{scopes}{only}")));
        let target = format!("token {}", token.name);
        insert_audit(&mut tx, act, "token.create", &target, None, change).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn token(&self, hash: &[u8], now: Timestamp) -> Result<Option<ApiToken>, StoreError> {
        let sql = format!(
            "SELECT {TOKEN}
            FROM tokens
            WHERE hash = $1 AND revoked_at_ms IS NULL
              AND (expires_at_ms IS NULL OR expires_at_ms > $2)"
        );
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![hash, now]).await?;
        rows.into_iter().map(api_token).next().transpose()
    }

    async fn list_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let sql = format!("SELECT {TOKEN} FROM tokens ORDER BY created_at_ms, name");
        let rows = self.db.fetch(&Sql::Built(sql), Vec::new()).await?;
        rows.into_iter().map(api_token).collect()
    }

    async fn revoke_token(&self, name: &str, act: &Act) -> Result<bool, StoreError> {
        let sql = "UPDATE tokens
            SET revoked_at_ms = $2
            WHERE name = $1 AND revoked_at_ms IS NULL";
        let mut tx = self.db.begin().await?;
        if tx.execute(&sql.into(), sql_args![name, act.now]).await? == 0 {
            return Ok(false);
        }
        insert_audit(&mut tx, act, "token.revoke", &format!("token {name}"), None, None).await?;
        tx.commit().await?;
        Ok(true)
    }
}

#[async_trait]
impl<D: Db> RequestKeys for SqlStore<D> {
    async fn claim_key(&self, key: &RequestKey, now: Timestamp) -> Result<KeyClaim, StoreError> {
        let forget = "DELETE FROM idempotency_keys WHERE created_at_ms <= $1";
        self.db.execute(&forget.into(), sql_args![before(now, KEY_LIFE)?]).await?;
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

#[async_trait]
impl<D: Db> AuditTrail for SqlStore<D> {
    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut conditions = Conditions::default();
        add_filter(&mut conditions, filter);
        if let Some((at, id)) = after {
            conditions.add("(at_ms, id) < (?, ?)", sql_args![at, id]);
        }
        let sql = format!(
            "SELECT id, at_ms, actor, came_from, action, target, reason, was, became
            FROM audit
            WHERE {}
            ORDER BY at_ms DESC, id DESC
            LIMIT {limit}",
            conditions.text
        );
        let rows = self.db.fetch(&Sql::Built(sql), conditions.args).await?;
        let row = |mut row: Row| {
            row.table = "audit";
            let id = row.id("id")?;
            let id = id.parse().map_err(|_| row.corrupt("id", "not a UUID"))?;
            Ok(AuditRow { id, entry: rows::audit_entry(row)? })
        };
        rows.into_iter().map(row).collect()
    }
}

fn add_filter(conditions: &mut Conditions, filter: &AuditFilter) {
    if let Some(actor) = &filter.actor {
        conditions.add("actor = ?", sql_args![actor]);
    }
    if let Some(action) = &filter.action {
        match action.strip_suffix('.') {
            Some(_) => {
                let length = u32::try_from(action.chars().count()).unwrap_or(u32::MAX);
                conditions.add(
                    "SUBSTR(action, 1, CAST(? AS INTEGER)) = ?",
                    vec![length.into(), action.into()],
                );
            }
            None => conditions.add("action = ?", sql_args![action]),
        }
    }
    if let Some(target) = &filter.target {
        conditions.add("target = ?", sql_args![target]);
    }
    if let Some(since) = filter.since {
        conditions.add("at_ms >= ?", sql_args![since]);
    }
    if let Some(until) = filter.until {
        conditions.add("at_ms < ?", sql_args![until]);
    }
    // A row of no shop has NULL there, which is in no list.
    conditions.shops(&filter.shops);
}

/// How a change of a user is written.
struct Written {
    sql: &'static str,
    args: Vec<Value>,
    action: &'static str,
    change: Option<(String, String)>,
    ends_sessions: bool,
}

fn write_change(user: &User, change: &UserChange, now: Timestamp) -> Result<Written, StoreError> {
    let name = &user.name;
    let plain =
        |sql, args, action| Written { sql, args, action, change: None, ends_sessions: false };
    Ok(match change {
        UserChange::Password { hash } => {
            let sql = "UPDATE users
                SET password_hash = $2, password_changed_ms = $3
                WHERE name = $1";
            let written = plain(sql, sql_args![name, hash, now], "user.password");
            Written { ends_sessions: true, ..written }
        }
        UserChange::Roles(roles) => {
            let sql = "UPDATE users SET roles = $2 WHERE name = $1";
            let change = Some((roles_text(&user.roles), roles_text(roles)));
            Written { change, ..plain(sql, sql_args![name, json(roles)?], "user.roles") }
        }
        UserChange::Language(language) => {
            let sql = "UPDATE users SET language = $2 WHERE name = $1";
            plain(sql, sql_args![name, language.as_deref()], "user.language")
        }
        UserChange::Disable => {
            let sql = "UPDATE users
                SET disabled_at_ms = COALESCE(disabled_at_ms, $2)
                WHERE name = $1";
            let written = plain(sql, sql_args![name, now], "user.disable");
            Written { ends_sessions: true, ..written }
        }
        UserChange::Enable => {
            let sql = "UPDATE users SET disabled_at_ms = NULL WHERE name = $1";
            plain(sql, sql_args![name], "user.enable")
        }
        UserChange::Remove => {
            let change = Some((roles_text(&user.roles), String::new()));
            let sql = "DELETE FROM users WHERE name = $1";
            let written = plain(sql, sql_args![name], "user.remove");
            Written { change, ends_sessions: true, ..written }
        }
    })
}

fn target_user(name: &str) -> String {
    format!("user {name}")
}

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| read_failed(sqlx::Error::Encode(error.into())))
}

fn roles(text: &str) -> Option<Vec<RoleGrant>> {
    serde_json::from_str(text).ok()
}

/// Times outside the range are not clamped: the clock is broken then.
fn before(now: Timestamp, span: Duration) -> Result<Timestamp, StoreError> {
    now.checked_sub(span).map_err(|error| read_failed(sqlx::Error::Encode(error.into())))
}

fn after(now: Timestamp, span: Duration) -> Result<Timestamp, StoreError> {
    now.checked_add(span).map_err(|error| read_failed(sqlx::Error::Encode(error.into())))
}

fn user(mut row: Row) -> Result<User, StoreError> {
    row.table = "users";
    Ok(User {
        name: row.id("name")?,
        roles: row.parsed("roles", roles)?,
        language: row.text_or_null("language")?,
        created_at: row.time("created_at_ms")?,
        password_changed_at: row.time("password_changed_ms")?,
        disabled_at: row.time_or_null("disabled_at_ms")?,
    })
}

fn api_token(mut row: Row) -> Result<ApiToken, StoreError> {
    row.table = "tokens";
    let words = |text: String| text.split(' ').map(str::to_owned).collect();
    Ok(ApiToken {
        name: row.id("name")?,
        scopes: words(row.text("scopes")?),
        shops: row.text_or_null("shops")?.map(words),
        created_at: row.time("created_at_ms")?,
        expires_at: row.time_or_null("expires_at_ms")?,
        revoked_at: row.time_or_null("revoked_at_ms")?,
    })
}
