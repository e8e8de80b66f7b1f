//! Users with a password. Changes are serialised, so that an administrator is always left.

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{Tables, UserRow};
use super::values::stored_time;
use crate::domain::permission::roles_text;
use crate::ports::audit::Act;
use crate::ports::people::{Provider, User, UserChange, UserChanged, Users, last_administrator};
use crate::ports::store_error::StoreError;

#[async_trait]
impl Users for MemoryLedger {
    async fn add_user(&self, user: &User, hash: &str, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let row = UserRow { user: added(user), hash: hash.to_owned() };
            if !tables.users.insert_new(user.name.clone(), row) {
                return Ok(false);
            }
            let deed = Deed::new("user.add", &target(&user.name));
            let deed = deed.changing(String::new(), roles_text(&user.roles));
            tables.write_audit(act, deed)?;
            Ok(true)
        })
        .await
    }

    async fn list_users(&self) -> Result<Vec<User>, StoreError> {
        self.read(Tables::all_users).await
    }

    async fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        self.read(|tables| tables.users.get(name).map(|row| row.user.clone())).await
    }

    async fn password_hash(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read(|tables| tables.users.get(name).map(|row| row.hash.clone())).await
    }

    async fn change_user(
        &self,
        name: &str,
        change: UserChange,
        act: &Act,
    ) -> Result<UserChanged, StoreError> {
        self.write(|tables| tables.change_user(name, change, act)).await
    }
}

impl Tables {
    fn all_users(&self) -> Vec<User> {
        self.users.values().map(|row| row.user.clone()).collect()
    }

    fn change_user(
        &mut self,
        name: &str,
        change: UserChange,
        act: &Act,
    ) -> Result<UserChanged, StoreError> {
        let Some(row) = self.users.get(name).cloned() else { return Ok(UserChanged::Missing) };
        let users = self.all_users();
        let is_last = last_administrator(&users).is_some_and(|last| last.name == name);
        if is_last && change.ends_administrator() {
            return Ok(UserChanged::LastAdministrator);
        }
        if ends_sessions(&change) {
            self.sessions.delete_where(|_, row| {
                row.session.user == name && row.session.provider == Provider::Local
            });
        }
        let target = target(name);
        let deed = deed(&change, &row.user, &target);
        match changed(row, change, stored_time(act.now)) {
            Some(row) => self.users.put(name.to_owned(), row),
            None => drop(self.users.delete(&name.to_owned())),
        }
        self.write_audit(act, deed)?;
        Ok(UserChanged::Done)
    }
}

/// A new user is enabled, and their password as old as they are.
fn added(user: &User) -> User {
    let created_at = stored_time(user.created_at);
    User { created_at, password_changed_at: created_at, disabled_at: None, ..user.clone() }
}

fn ends_sessions(change: &UserChange) -> bool {
    matches!(change, UserChange::Password { .. } | UserChange::Disable | UserChange::Remove)
}

/// A user after a change; `None`: removed.
fn changed(mut row: UserRow, change: UserChange, now: Timestamp) -> Option<UserRow> {
    let user = &mut row.user;
    match change {
        UserChange::Password { hash } => {
            user.password_changed_at = now;
            row.hash = hash;
        }
        UserChange::Roles(roles) => user.roles = roles,
        UserChange::Language(language) => user.language = language,
        UserChange::Disable => user.disabled_at = user.disabled_at.or(Some(now)),
        UserChange::Enable => user.disabled_at = None,
        UserChange::Remove => return None,
    }
    Some(row)
}

/// What the audit tells of a change.
fn deed(change: &UserChange, user: &User, target: &str) -> Deed<'static> {
    let before = roles_text(&user.roles);
    match change {
        UserChange::Password { .. } => Deed::new("user.password", target),
        UserChange::Roles(roles) => {
            Deed::new("user.roles", target).changing(before, roles_text(roles))
        }
        UserChange::Language(_) => Deed::new("user.language", target),
        UserChange::Disable => Deed::new("user.disable", target),
        UserChange::Enable => Deed::new("user.enable", target),
        UserChange::Remove => Deed::new("user.remove", target).changing(before, String::new()),
    }
}

fn target(name: &str) -> String {
    format!("user {name}")
}
