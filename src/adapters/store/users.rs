//! Users with a password. Changes are serialised, so that an administrator is always left.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::permission::{RoleGrant, roles_text};
use crate::ports::audit::Act;
use crate::ports::people::{User, UserChange, UserChanged, Users, last_administrator};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Row, Sql, Tx, Value};
use super::encode::json;
use super::ledger::SqlStore;

const USER: &str = "name, roles, language, created_at_ms, password_changed_ms, disabled_at_ms";

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

/// What a column `roles` holds.
pub(super) fn roles(text: &str) -> Option<Vec<RoleGrant>> {
    serde_json::from_str(text).ok()
}
