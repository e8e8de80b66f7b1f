//! Users, sessions, tokens and idempotency keys.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::permission::{Grants, Permission, Role, RoleGrant};
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// Users with a password.
#[async_trait]
pub trait Users: Send + Sync {
    /// Adds a user; `false` when there is one of that name.
    async fn add_user(&self, user: &User, hash: &str, act: &Act) -> Result<bool, StoreError>;
    /// Every user, by name.
    async fn list_users(&self) -> Result<Vec<User>, StoreError>;
    async fn user(&self, name: &str) -> Result<Option<User>, StoreError>;
    /// The hash of a user's password.
    async fn password_hash(&self, name: &str) -> Result<Option<String>, StoreError>;
    /// Changes a user, and ends the sessions that the change invalidates. Concurrent changes are
    /// serialised, so that an administrator is always left.
    async fn change_user(
        &self,
        name: &str,
        change: UserChange,
        act: &Act,
    ) -> Result<UserChanged, StoreError>;
}

/// Sessions and logins.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Starts a session, deletes those that have ended, and writes an audit row.
    async fn begin_session(
        &self,
        session: &SessionRecord,
        hash: &[u8],
        act: &Act,
    ) -> Result<(), StoreError>;
    /// The session with that hash, unless it has ended at `now` or was idle for `idle`; its user as
    /// of now. Its last use is written at most once in `every`.
    async fn session(
        &self,
        hash: &[u8],
        now: Timestamp,
        idle: Duration,
        every: Duration,
    ) -> Result<Option<SessionRecord>, StoreError>;
    /// Ends a session; `false` when there is none.
    async fn end_session(&self, hash: &[u8], act: &Act) -> Result<bool, StoreError>;
    /// Ends all sessions of that name, of every provider; how many.
    async fn end_sessions(&self, user: &str, act: &Act) -> Result<u64, StoreError>;
    /// How often a login failed lately.
    async fn failed_logins(&self, whose: &[u8], now: Timestamp) -> Result<u32, StoreError>;
    /// Counts a login as failed when it starts, until [`Self::login_succeeded`] reverts that, so
    /// that parallel guesses are all counted. While one of `whose` has to wait, nothing is counted,
    /// and the end of the wait is returned.
    async fn login_begins(
        &self,
        whose: &[Tried],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError>;
    /// The login was correct: its name starts at zero again, its address has one failure less.
    async fn login_succeeded(&self, name: &[u8], address: &[u8]) -> Result<(), StoreError>;
    /// Stores a login that continues at the identity provider, and deletes old ones.
    async fn begin_oidc_login(&self, state: &[u8], login: &OidcLogin) -> Result<(), StoreError>;
    /// Removes and returns it: it can be finished only once.
    async fn take_oidc_login(&self, state: &[u8]) -> Result<Option<OidcLogin>, StoreError>;
}

/// Tokens of the API.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Stores the hash of a new API token; `false` if the name was ever used.
    async fn add_token(&self, token: &ApiToken, hash: &[u8], act: &Act)
    -> Result<bool, StoreError>;
    /// The token with that hash, if it may be used at `now`.
    async fn token(&self, hash: &[u8], now: Timestamp) -> Result<Option<ApiToken>, StoreError>;
    /// All tokens.
    async fn list_tokens(&self) -> Result<Vec<ApiToken>, StoreError>;
    /// Revokes a token; `false` if there is no valid one of that name.
    async fn revoke_token(&self, name: &str, act: &Act) -> Result<bool, StoreError>;
}

/// `Idempotency-Key`s of the API.
#[async_trait]
pub trait RequestKeys: Send + Sync {
    /// Claims an idempotency key for a request, or returns what is known of it. Keys are deleted
    /// after a day, those of a process that died after five minutes.
    async fn claim_key(&self, key: &RequestKey, now: Timestamp) -> Result<KeyClaim, StoreError>;
    /// Stores the answer for repeated requests; without one the key is free again.
    async fn settle_key(
        &self,
        key: &RequestKey,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), StoreError>;
}

/// A user with a local password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name, in lower case.
    pub name: String,
    /// What they may do.
    pub roles: Vec<RoleGrant>,
    /// The language of their pages; `None`: the browser's.
    pub language: Option<String>,
    /// When they were added.
    pub created_at: Timestamp,
    /// When the password was set.
    pub password_changed_at: Timestamp,
    /// Since when the user is disabled.
    pub disabled_at: Option<Timestamp>,
}

impl User {
    /// Whether the user is enabled and has every permission for all shops.
    pub fn is_administrator(&self) -> bool {
        self.disabled_at.is_none() && hold_all(&self.roles)
    }
}

fn hold_all(roles: &[RoleGrant]) -> bool {
    roles.contains(&RoleGrant::everywhere(Role::Admin))
}

/// The last administrator.
pub fn last_administrator(users: &[User]) -> Option<&User> {
    let mut all = users.iter().filter(|user| user.is_administrator());
    all.next().filter(|_| all.next().is_none())
}

/// The result of a change of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChanged {
    /// It was made.
    Done,
    /// There is no such user.
    Missing,
    /// It would leave no administrator; nothing was changed.
    LastAdministrator,
}

/// A change of a user.
#[derive(Clone)]
pub enum UserChange {
    /// Another password; ends all sessions.
    Password {
        /// Its hash.
        hash: String,
    },
    /// Other roles, effective at once.
    Roles(Vec<RoleGrant>),
    /// Another language of the pages.
    Language(Option<String>),
    /// Disables the user; ends all sessions.
    Disable,
    /// Enables the user.
    Enable,
    /// Removes the user; ends all sessions. Their actions stay in the audit.
    Remove,
}

impl UserChange {
    /// Whether it takes the administrator role away.
    pub fn ends_administrator(&self) -> bool {
        match self {
            Self::Roles(roles) => !hold_all(roles),
            Self::Disable | Self::Remove => true,
            Self::Password { .. } | Self::Language(_) | Self::Enable => false,
        }
    }
}

/// Where a user's password is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Here.
    Local,
    /// At the identity provider.
    Oidc,
}

crate::names!(Provider {
    Local = "local",
    Oidc = "oidc",
});

/// A logged-in user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Their name.
    pub user: String,
    /// Where their password is.
    pub provider: Provider,
    /// What they may do now.
    pub roles: Vec<RoleGrant>,
    /// The language of their pages.
    pub language: Option<String>,
    /// When they logged in.
    pub created_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// From which address.
    pub from: Option<String>,
}

/// Whose logins are counted.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Hash of a name or an address.
    pub whose: [u8; 32],
    /// Failures without a wait.
    pub free: u32,
}

/// A login that continues at the identity provider.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcLogin {
    /// Returned in the ID token.
    pub nonce: String,
    /// Proves that the login is finished by the client that started it (RFC 7636).
    pub verifier: String,
    /// The requested page.
    pub return_to: String,
    /// When it began.
    pub created_at: Timestamp,
}

/// A token for the API; the token itself is shown once and only its hash is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The shops that it is limited to; `None`: to none.
    pub shops: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiToken {
    /// What it allows. A scope of a later release allows nothing.
    pub fn grants(&self) -> Grants {
        let scopes: Vec<Permission> =
            self.scopes.iter().filter_map(|scope| Permission::from_name(scope)).collect();
        let mut grants = Grants::default();
        match &self.shops {
            None => grants.add(&scopes, None),
            Some(shops) => shops.iter().for_each(|shop| grants.add(&scopes, Some(shop))),
        }
        grants
    }
}

/// An `Idempotency-Key` and its request.
#[derive(Debug, Clone)]
pub struct RequestKey {
    /// The caller; keys of different callers are separate.
    pub actor: String,
    pub name: String,
    /// SHA-256 of the request.
    pub digest: [u8; 32],
}

/// What is known of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyClaim {
    /// Nothing: the request is to be done now.
    New,
    /// The first request with this key is still in progress.
    Running,
    /// It belongs to another request.
    Other,
    /// It was answered.
    Answered(KeptAnswer),
}

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Status.
    pub status: u16,
    /// Headers that belong to the answer.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}
