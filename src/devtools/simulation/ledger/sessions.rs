//! Sessions, failed logins, and logins that continue at an identity provider.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{LoginRow, SessionRow, Tables};
use super::values::{after, before, refused, stored_option, stored_time};
use crate::domain::login::{REMEMBERED, wait_after};
use crate::ports::audit::Act;
use crate::ports::people::{OidcLogin, Provider, SessionRecord, Sessions, Tried};
use crate::ports::store_error::StoreError;

/// How long a login at the identity provider may take.
const LOGIN_LIFE: Duration = Duration::from_mins(10);

#[async_trait]
impl Sessions for MemoryLedger {
    async fn begin_session(
        &self,
        session: &SessionRecord,
        hash: &[u8],
        act: &Act,
    ) -> Result<(), StoreError> {
        self.write(|tables| {
            let now = stored_time(act.now);
            tables.sessions.delete_where(|_, row| row.session.expires_at <= now);
            let begun = stored_session(session);
            let row = SessionRow { seen_at: begun.created_at, session: begun };
            if !tables.sessions.insert_new(hash.to_vec(), row) {
                return Err(refused("another session has this token"));
            }
            tables.write_audit(act, Deed::new("session.begin", &target(session)))
        })
        .await
    }

    async fn session(
        &self,
        hash: &[u8],
        now: Timestamp,
        idle: Duration,
        every: Duration,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let (idle_since, written_since) = (before(now, idle)?, before(now, every)?);
        self.write(|tables| {
            let Some(row) = tables.sessions.get(hash) else { return Ok(None) };
            if row.session.expires_at <= stored_time(now) || row.seen_at <= idle_since {
                return Ok(None);
            }
            let Some(session) = tables.session_of(row) else { return Ok(None) };
            let was_seen_long_ago = |row: &SessionRow| row.seen_at < written_since;
            tables.sessions.update_if(&hash.to_vec(), was_seen_long_ago, |row| {
                row.seen_at = stored_time(now);
            });
            Ok(Some(session))
        })
        .await
    }

    async fn end_session(&self, hash: &[u8], act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let Some(row) = tables.sessions.get(hash) else { return Ok(false) };
            let target = target(&row.session);
            tables.sessions.delete(&hash.to_vec());
            tables.write_audit(act, Deed::new("session.end", &target))?;
            Ok(true)
        })
        .await
    }

    async fn end_sessions(&self, user: &str, act: &Act) -> Result<u64, StoreError> {
        self.write(|tables| {
            let before = tables.sessions.len();
            tables.sessions.delete_where(|_, row| row.session.user == user);
            let ended = before - tables.sessions.len();
            if ended > 0 {
                let deed = Deed::new("session.end_all", user);
                tables.write_audit(act, deed.changing(ended.to_string(), "0".to_owned()))?;
            }
            Ok(ended as u64)
        })
        .await
    }

    async fn failed_logins(&self, whose: &[u8], now: Timestamp) -> Result<u32, StoreError> {
        let old = before(now, REMEMBERED)?;
        self.read(|tables| {
            let row = tables.login_failures.get(whose).filter(|row| row.failed_at > old);
            row.map_or(0, |row| row.failures)
        })
        .await
    }

    async fn login_begins(
        &self,
        whose: &[Tried],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.write(|tables| {
            for tried in whose {
                if let Some(until) = tables.count_login(tried, now)? {
                    tables.roll_back();
                    return Ok(Some(until));
                }
            }
            tables.forget_logins(now)?;
            Ok(None)
        })
        .await
    }

    async fn login_succeeded(&self, name: &[u8], address: &[u8]) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.login_failures.delete(&name.to_vec());
            let failed = |row: &LoginRow| row.failures > 0;
            tables.login_failures.update_if(&address.to_vec(), failed, |row| {
                row.failures -= 1;
                row.blocked_until = None;
            });
            Ok(())
        })
        .await
    }

    async fn begin_oidc_login(&self, state: &[u8], login: &OidcLogin) -> Result<(), StoreError> {
        let old = before(login.created_at, LOGIN_LIFE)?;
        self.write(|tables| {
            tables.oidc_logins.delete_where(|_, login| login.created_at <= old);
            let begun = OidcLogin { created_at: stored_time(login.created_at), ..login.clone() };
            match tables.oidc_logins.insert_new(state.to_vec(), begun) {
                true => Ok(()),
                false => Err(refused("another login has this state")),
            }
        })
        .await
    }

    async fn take_oidc_login(&self, state: &[u8]) -> Result<Option<OidcLogin>, StoreError> {
        self.write(|tables| {
            let login = tables.oidc_logins.get(state).cloned();
            tables.oidc_logins.delete(&state.to_vec());
            Ok(login)
        })
        .await
    }
}

impl Tables {
    /// A session with what its user may do now; `None`: they may not come in any more.
    fn session_of(&self, row: &SessionRow) -> Option<SessionRecord> {
        let session = row.session.clone();
        if session.provider == Provider::Oidc {
            return Some(session);
        }
        let user =
            &self.users.get(&session.user).filter(|row| row.user.disabled_at.is_none())?.user;
        Some(SessionRecord {
            roles: user.roles.clone(),
            language: user.language.clone(),
            ..session
        })
    }

    /// Counts a login as failed; the end of the wait if there is one, then nothing is counted.
    fn count_login(
        &mut self,
        tried: &Tried,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let old = before(now, REMEMBERED)?;
        let now = stored_time(now);
        let known = self.login_failures.get(&tried.whose[..]);
        if let Some(until) = known.and_then(|row| row.blocked_until).filter(|until| *until > now) {
            return Ok(Some(until));
        }
        let counted = known.filter(|row| row.failed_at > old).map_or(0, |row| row.failures);
        let failures = counted + 1;
        let wait = wait_after(failures, tried.free);
        let blocked_until = wait.map(|wait| after(now, wait)).transpose()?;
        let row = LoginRow { failures, failed_at: now, blocked_until };
        self.login_failures.put(tried.whose.to_vec(), row);
        Ok(None)
    }

    fn forget_logins(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let old = before(now, REMEMBERED)?;
        let now = stored_time(now);
        self.login_failures.delete_where(|_, row| {
            row.failed_at <= old && row.blocked_until.is_none_or(|until| until <= now)
        });
        Ok(())
    }
}

/// Roles of a local user stand with the user, and so does the language.
fn stored_session(session: &SessionRecord) -> SessionRecord {
    let roles = match session.provider {
        Provider::Local => Vec::new(),
        Provider::Oidc => session.roles.clone(),
    };
    SessionRecord {
        user: session.user.clone(),
        provider: session.provider,
        roles,
        language: None,
        created_at: stored_time(session.created_at),
        expires_at: stored_time(session.expires_at),
        from: stored_option(session.from.as_deref()),
    }
}

fn target(session: &SessionRecord) -> String {
    format!("{} {}", session.provider.as_str(), session.user)
}
