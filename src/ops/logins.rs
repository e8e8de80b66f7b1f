//! Login and logout: passwords, sessions, and logins at an identity provider.
//!
//! A session is 256 random bits in a cookie; the table holds their SHA-256. After too many failures
//! the next login has to wait, by address and by name from that address; the count is shared by all processes and
//! survives restarts.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::domain::login::{FREE_BY_ADDRESS, FREE_BY_NAME, return_path, slowed_after, user_name};
use crate::domain::permission::{Permission, RoleGrant};
use crate::ports::audit::Act;
use crate::ports::identity::{BegunLogin, FinishedLogin, IdentityError};
use crate::ports::people::{OidcLogin, Provider, SessionRecord, Tried, UserChange};

use crate::ops::digest::{hash, hex};
use crate::ops::login_config::OidcDoor;
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

/// The last use of a session is written at most this often.
/// Digits of the mask of a CSRF value: as many as the value has.
const MASK_CHARS: usize = 64;
const SEEN_EVERY: Duration = Duration::from_mins(1);
/// Longest password that is checked.
const MAX_BYTES: usize = 4_000;

/// A new session.
#[derive(Clone)]
pub struct NewSession {
    /// What the cookie holds.
    pub token: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginFailure {
    /// Name or password is wrong, or the user is disabled: the answer does not say which.
    #[error("the name or the password is wrong")]
    Wrong,
    /// Too many failures.
    #[error("too many failed logins; try again in {} s", .wait.as_secs().max(1))]
    Wait {
        /// For how long.
        wait: Duration,
    },
    /// Too many at once.
    #[error("too many logins at once; try again in a moment")]
    Busy,
    /// The identity provider confirmed the user, but the user has no role here.
    #[error(
        "{name} has no role here; roles are assigned by the administrator of the identity provider"
    )]
    NoRole { name: String },
    /// The login took too long, was already finished or started in another browser.
    #[error("this login is not known any more; start again")]
    Forgotten,
    /// The identity provider did not confirm them.
    #[error("{0}")]
    Provider(String),
}

impl LoginFailure {
    fn until(until: Timestamp, now: Timestamp) -> Self {
        Self::Wait { wait: until.duration_since(now).try_into().unwrap_or_default() }
    }
}

/// A logged-in user.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who, and what they may do.
    pub person: Principal,
    /// Their name alone.
    pub user: String,
    /// Where their password is.
    pub provider: Provider,
    /// The CSRF value of their forms.
    pub csrf: String,
    /// The language of their pages.
    pub language: Option<String>,
    session: [u8; 32],
}

/// A login that continues at the identity provider.
#[derive(Clone)]
pub struct GoingOn {
    /// Where the browser goes.
    pub address: String,
    /// What the browser must return, also in a cookie.
    pub state: String,
}

impl Ops {
    /// Logs a user in by password.
    pub async fn log_in(
        &self,
        name: &str,
        password: &str,
        from: Option<&str>,
    ) -> Result<Result<NewSession, LoginFailure>, Refusal> {
        let now = self.clock.now();
        // Nobody locks a name out from elsewhere: it has to wait only where it failed. From everywhere together it only
        // gets slower.
        let by_name = tried(&format!("{name} from {}", from.unwrap_or_default()), FREE_BY_NAME);
        let (by_address, everywhere) = (tried_from(from), tried(name, u32::MAX));
        let whose = [by_name.clone(), by_address.clone(), everywhere.clone()];
        if let Some(until) = self.store.login_begins(&whose, now).await? {
            return Ok(Err(LoginFailure::until(until, now)));
        }
        let failures = self.store.failed_logins(&everywhere.whose, now).await?;
        tokio::time::sleep(slowed_after(failures)).await;
        let name = user_name(name).unwrap_or_default();
        let user = self.store.user(&name).await?.filter(|user| user.disabled_at.is_none());
        let kept = match &user {
            Some(user) => self.store.password_hash(&user.name).await?,
            None => None,
        };
        let password = if password.len() <= MAX_BYTES { password } else { "" };
        let fits = match self.login.passwords.fits(password, kept).await {
            Ok(fits) => fits,
            Err(_) => return Ok(Err(LoginFailure::Busy)),
        };
        let Some(user) = user.filter(|_| fits) else {
            tracing::info!(from, "login.refused");
            return Ok(Err(LoginFailure::Wrong));
        };
        self.store.login_succeeded(&by_name.whose, &by_address.whose).await?;
        self.store.login_succeeded(&[], &everywhere.whose).await?;
        let until = now.checked_add(self.login.lifetime).unwrap_or(Timestamp::MAX);
        self.begin(Provider::Local, user.name, user.roles, from, until).await.map(Ok)
    }

    /// Ends a session.
    pub async fn log_out(&self, session: &Session) -> Result<(), Refusal> {
        self.store.end_session(&session.session, &self.act(&session.person, None)).await?;
        Ok(())
    }

    /// Changes one's own password, given the old one; ends all of one's sessions.
    pub async fn change_own_password(
        &self,
        session: &Session,
        old: &str,
        new: &str,
    ) -> Result<Result<(), LoginFailure>, Refusal> {
        if session.provider != Provider::Local {
            let why = "your password is managed by your identity provider; change it there";
            return Err(Refusal::Unacceptable(why.to_owned()));
        }
        let act = self.act(&session.person, None);
        let (user, whose) = (session.user.as_str(), tried(&session.user, FREE_BY_NAME));
        if let Some(until) = self.store.login_begins(std::slice::from_ref(&whose), act.now).await? {
            return Ok(Err(LoginFailure::until(until, act.now)));
        }
        let kept = self.store.password_hash(user).await?;
        match self.login.passwords.fits(old, kept).await {
            Err(_) => return Ok(Err(LoginFailure::Busy)),
            Ok(false) => return Ok(Err(LoginFailure::Wrong)),
            Ok(true) => {}
        }
        self.store.login_succeeded(&whose.whose, &[]).await?;
        if old == new {
            return Err(Refusal::Unacceptable("this is your current password".to_owned()));
        }
        let hash = self.hashed(user, new).await?;
        self.change(user, UserChange::Password { hash }, &act).await?;
        Ok(Ok(()))
    }

    /// The user of this session token.
    pub async fn session(
        &self,
        token: &str,
        from: Option<&str>,
    ) -> Result<Option<Session>, Refusal> {
        let (now, idle) = (self.clock.now(), self.login.idle);
        let session = self.store.session(&hash(token), now, idle, SEEN_EVERY).await?;
        Ok(session.map(|session| Session {
            person: person(session.provider, &session.user, session.roles, from),
            user: session.user,
            provider: session.provider,
            csrf: csrf(token),
            session: hash(token),
            language: session.language,
        }))
    }

    /// Whether a session is still valid, and its user may do what they could when it was read; an open page alone does
    /// not keep it alive.
    pub async fn is_still_in(&self, session: &Session) -> Result<bool, Refusal> {
        let (now, idle) = (self.clock.now(), self.login.idle);
        // One that is seen was used within `idle`, so its last use is not written.
        let kept = self.store.session(&session.session, now, idle, idle).await?;
        Ok(kept.is_some_and(|kept| {
            let now = person(kept.provider, &kept.user, kept.roles, None);
            now.grants == session.person.grants
        }))
    }

    /// Ends all sessions of a user, whoever has their password: the local user and that of the identity provider.
    pub async fn end_sessions(&self, user: &str, act: &Act) -> Result<u64, Refusal> {
        authorize(act, Permission::Admin, None)?;
        Ok(self.store.end_sessions(user, act).await?)
    }

    /// Starts a login at the identity provider; `None`: none is configured.
    pub async fn begin_oidc(&self, return_to: &str) -> Result<Option<GoingOn>, Refusal> {
        let Some(door) = &self.login.oidc else { return Ok(None) };
        let [state, nonce, verifier] =
            [(); 3].map(|()| URL_SAFE_NO_PAD.encode(self.clock.secret_bytes()));
        let begun = BegunLogin {
            state: state.clone(),
            nonce: nonce.clone(),
            challenge: URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier)),
            callback: door.callback.clone(),
        };
        let address = door.provider.login_address(&begun).await?;
        let return_to = return_path(return_to).to_owned();
        let login = OidcLogin { nonce, verifier, return_to, created_at: self.clock.now() };
        self.store.begin_oidc_login(&hash(&state), &login).await?;
        Ok(Some(GoingOn { address, state }))
    }

    /// Logs a user in whom the identity provider has confirmed; returns the requested page.
    pub async fn finish_oidc(
        &self,
        state: &str,
        code: &str,
        from: Option<&str>,
    ) -> Result<Result<(NewSession, String), LoginFailure>, Refusal> {
        let (Some(door), now) = (&self.login.oidc, self.clock.now()) else {
            return Ok(Err(LoginFailure::Forgotten));
        };
        let Some(login) = self.store.take_oidc_login(&hash(state)).await? else {
            return Ok(Err(LoginFailure::Forgotten));
        };
        let finished = FinishedLogin {
            code: code.to_owned(),
            nonce: login.nonce,
            verifier: login.verifier,
            callback: door.callback.clone(),
            now,
        };
        let claims = match door.provider.finish(finished).await {
            Ok(claims) => claims,
            Err(error @ IdentityError::Refused(_)) => {
                tracing::info!(%error, from, "login.refused");
                return Ok(Err(LoginFailure::Provider(error.to_string())));
            }
            Err(error) => return Err(error.into()),
        };
        let until = OidcDoor::session_end(&claims, now, self.login.lifetime);
        let (name, roles) = (door.name(&claims), door.roles(&claims));
        if roles.is_empty() {
            return Ok(Err(LoginFailure::NoRole { name }));
        }
        let session = self.begin(Provider::Oidc, name, roles, from, until).await?;
        Ok(Ok((session, login.return_to)))
    }

    async fn begin(
        &self,
        provider: Provider,
        user: String,
        roles: Vec<RoleGrant>,
        from: Option<&str>,
        expires_at: Timestamp,
    ) -> Result<NewSession, Refusal> {
        let token = hex(&self.clock.secret_bytes());
        let now = self.clock.now();
        let session = SessionRecord {
            user,
            provider,
            roles: roles.clone(),
            language: None,
            created_at: now,
            expires_at,
            from: from.map(str::to_owned),
        };
        let person = person(provider, &session.user, roles, from);
        let act = Act { now, ..self.act(&person, None) };
        self.store.begin_session(&session, &hash(&token), &act).await?;
        Ok(NewSession { token, expires_at })
    }
}

fn person(provider: Provider, user: &str, roles: Vec<RoleGrant>, from: Option<&str>) -> Principal {
    // The user `erika` of the identity provider is not the local user `erika`.
    let kind = match provider {
        Provider::Local => "user",
        Provider::Oidc => "oidc",
    };
    Principal {
        name: format!("{kind}:{user}"),
        from: from.map(str::to_owned),
        grants: roles.into_iter().collect(),
    }
}

fn tried(name: &str, free: u32) -> Tried {
    let name = name.trim().to_ascii_lowercase();
    Tried { whose: hash(&format!("name {name}")), free }
}

fn tried_from(from: Option<&str>) -> Tried {
    let whose = hash(&format!("address {}", from.unwrap_or_default()));
    Tried { whose, free: FREE_BY_ADDRESS }
}

impl Ops {
    /// The CSRF value as a page holds it: other text on each, so that nobody learns it from the lengths of compressed
    /// pages (BREACH, 2013).
    pub fn masked_csrf(&self, csrf: &str) -> String {
        let mask = hex(&self.clock.secret_bytes());
        format!("{mask}{}", xor(&mask, csrf))
    }
}

/// The value of a masked one; nothing if it is none.
fn unmasked(text: &str) -> Option<String> {
    let (mask, masked) = text.split_at_checked(MASK_CHARS)?;
    (masked.len() == MASK_CHARS && text.is_ascii()).then(|| xor(mask, masked))
}

/// Digit by digit; what is no hexadecimal digit counts as zero, and so fits nothing.
fn xor(mask: &str, text: &str) -> String {
    let digit = |c: char| c.to_digit(16).unwrap_or_default();
    let pairs = mask.chars().zip(text.chars());
    pairs.filter_map(|(a, b)| char::from_digit(digit(a) ^ digit(b), 16)).collect()
}

/// The CSRF value of every form of this session: no other site can know it, and it does not reveal
/// the session's token.
fn csrf(token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    hex(hmac::sign(&key, b"form").as_ref())
}

/// Whether `text` is the CSRF value of this session, compared in constant time.
pub fn csrf_fits(session: &Session, text: &str) -> bool {
    let unmasked = unmasked(text);
    let text = unmasked.as_deref().unwrap_or(text);
    let key = hmac::Key::new(hmac::HMAC_SHA256, session.csrf.as_bytes());
    hmac::verify(&key, text.as_bytes(), hmac::sign(&key, session.csrf.as_bytes()).as_ref()).is_ok()
}
