//! Users, sessions, tokens and idempotency keys.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::permission::{Grants, Permission, Role, RoleGrant};
use crate::ports::audit::{Act, AuditEntry};
use crate::ports::store_error::StoreError;

/// Users with a password.
#[async_trait]
pub trait Users: Send + Sync {
    /// Adds a user; `false` when there is one of that name.
    async fn add_user(&self, user: &User, hash: &str, act: &Act) -> Result<bool, StoreError>;
    /// Every user, by name.
    async fn list_users(&self) -> Result<Vec<User>, StoreError>;
    /// One of them.
    async fn user(&self, name: &str) -> Result<Option<User>, StoreError>;
    /// The hash of a user's password.
    async fn password_hash(&self, name: &str) -> Result<Option<String>, StoreError>;
    /// Changes a user, and ends the sessions that the change makes void. Changes that are made at once
    /// take turns: together they leave an administrator, too.
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
    /// Begins a session, forgets those that are over, and leaves an audit row.
    async fn begin_session(
        &self,
        session: &SessionRecord,
        hash: &[u8],
        act: &Act,
    ) -> Result<(), StoreError>;
    /// The session with that hash, unless it is over at `now` or nobody was seen for `idle`; its user
    /// as of now. Being seen is written at most once in `every`.
    async fn session(
        &self,
        hash: &[u8],
        now: Timestamp,
        idle: Duration,
        every: Duration,
    ) -> Result<Option<SessionRecord>, StoreError>;
    /// Ends a session; `false` when there is none.
    async fn end_session(&self, hash: &[u8], act: &Act) -> Result<bool, StoreError>;
    /// Counts a login that begins as failed, until [`Self::login_succeeded`] takes it back: guesses
    /// that run side by side are all counted. While one of `whose` has to wait nothing is counted, and
    /// the end of the wait is answered.
    async fn login_begins(
        &self,
        whose: &[Tried],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError>;
    /// The login was right: its name begins at zero again, its address has one failure less.
    async fn login_succeeded(&self, name: &[u8], address: &[u8]) -> Result<(), StoreError>;
    /// Keeps a login that goes on at the identity provider, and forgets old ones.
    async fn begin_oidc_login(&self, state: &[u8], login: &OidcLogin) -> Result<(), StoreError>;
    /// Takes it out: it can be finished once.
    async fn take_oidc_login(&self, state: &[u8]) -> Result<Option<OidcLogin>, StoreError>;
}

/// Tokens of the API.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Keeps the hash of a new API token; `false` when there was ever one of that name.
    async fn add_token(&self, token: &ApiToken, hash: &[u8], act: &Act)
    -> Result<bool, StoreError>;
    /// The token with that hash, if it may be used at `now`.
    async fn token(&self, hash: &[u8], now: Timestamp) -> Result<Option<ApiToken>, StoreError>;
    /// All tokens.
    async fn list_tokens(&self) -> Result<Vec<ApiToken>, StoreError>;
    /// Ends a token; `false` when there is none of that name that is still valid.
    async fn revoke_token(&self, name: &str, act: &Act) -> Result<bool, StoreError>;
}

/// `Idempotency-Key`s of the API.
#[async_trait]
pub trait RequestKeys: Send + Sync {
    /// Claims an idempotency key for a request, or says what is known of it. Keys are forgotten after
    /// a day, those of a process that died after five minutes.
    async fn claim_key(&self, key: &RequestKey, now: Timestamp) -> Result<KeyClaim, StoreError>;
    /// Keeps the answer for whoever asks again; without one the key is free again.
    async fn settle_key(
        &self,
        key: &RequestKey,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), StoreError>;
}

/// Somebody with a password of their own here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// As it is typed at the login, in small letters.
    pub name: String,
    /// What they may do.
    pub roles: Vec<RoleGrant>,
    /// The language of their pages; `None`: the browser's.
    pub language: Option<String>,
    /// When they were added.
    pub created_at: Timestamp,
    /// When the password was set.
    pub password_changed_at: Timestamp,
    /// Since when they may not come in.
    pub disabled_at: Option<Timestamp>,
}

impl User {
    /// Whether they can come in and may everything everywhere.
    pub fn is_administrator(&self) -> bool {
        self.disabled_at.is_none() && hold_all(&self.roles)
    }
}

fn hold_all(roles: &[RoleGrant]) -> bool {
    roles.contains(&RoleGrant::everywhere(Role::Admin))
}

/// The administrator without whom there would be none.
pub fn last_administrator(users: &[User]) -> Option<&User> {
    let mut all = users.iter().filter(|user| user.is_administrator());
    all.next().filter(|_| all.next().is_none())
}

/// What became of a change of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChanged {
    /// It was made.
    Done,
    /// There is no such user.
    Missing,
    /// It would leave nobody who is an administrator; nothing was changed.
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
    /// Other roles; they count at once.
    Roles(Vec<RoleGrant>),
    /// Another language of the pages.
    Language(Option<String>),
    /// May not come in any more; ends all sessions.
    Disable,
    /// May come in again.
    Enable,
    /// Gone; ends all sessions. What they did stays in the audit.
    Remove,
}

impl UserChange {
    /// Whether an administrator is one no more after it.
    pub fn ends_administrator(&self) -> bool {
        match self {
            Self::Roles(roles) => !hold_all(roles),
            Self::Disable | Self::Remove => true,
            Self::Password { .. } | Self::Language(_) | Self::Enable => false,
        }
    }
}

/// Where somebody's password is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Here.
    Local,
    /// At the identity provider.
    Oidc,
}

impl Provider {
    /// The name used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Oidc => "oidc",
        }
    }

    /// The provider with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Local, Self::Oidc].into_iter().find(|provider| provider.as_str() == name)
    }
}

/// Somebody who is logged in.
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
    /// When it ends by itself, however busy they are.
    pub expires_at: Timestamp,
    /// From which address.
    pub from: Option<String>,
}

/// Whose logins are counted.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Hash of a name or an address.
    pub whose: [u8; 32],
    /// Failures that are forgiven.
    pub free: u32,
}

/// A login that goes on at the identity provider.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcLogin {
    /// Comes back in the ID token.
    pub nonce: String,
    /// Proves that whoever fetches the tokens is who began (RFC 7636).
    pub verifier: String,
    /// The page that was wanted.
    pub return_to: String,
    /// When it began.
    pub created_at: Timestamp,
}

/// A token for the API; the token itself is shown once and only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiToken {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The shops that it is limited to; `None`: to none.
    pub shops: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When somebody ended it.
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

/// An `Idempotency-Key` and the request that it stands for.
#[derive(Debug, Clone)]
pub struct RequestKey {
    /// Who asks; keys of different people never meet.
    pub actor: String,
    /// The key.
    pub name: String,
    /// SHA-256 of the request.
    pub digest: [u8; 32],
}

/// What is known of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyClaim {
    /// Nothing: the request is to be done now.
    New,
    /// The first request with this key is still being worked on.
    Running,
    /// It stands for another request.
    Other,
    /// It was answered.
    Answered(KeptAnswer),
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Status.
    pub status: u16,
    /// Headers that belong to the answer.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// An audit row with its id.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct AuditRow {
    /// Its id.
    #[schemars(with = "String")]
    pub id: Uuid,
    /// What was done.
    #[serde(flatten)]
    pub entry: AuditEntry,
}
