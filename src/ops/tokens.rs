//! Tokens for the API: created, checked, revoked. A token is shown once; only its hash is stored.

use crate::ops::digest::{hash, hex};
use jiff::Timestamp;

use crate::domain::order::values::Shop;
use crate::domain::permission::Permission;
use crate::ports::audit::Act;
use crate::ports::people::ApiToken;

use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

/// What a token can be allowed to do (docs/operations.md).
pub const SCOPES: [&str; 7] = {
    let mut names = [""; Permission::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Permission::ALL[at].as_str();
        at += 1;
    }
    names
};
/// Prefix of every token, so that secret scanners find one that leaks.
const PREFIX: &str = "orl_";
const MAX_NAME: usize = 100;

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Permission>,
    /// The shops that it is limited to; `None`: to none.
    pub shops: Option<Vec<String>>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

impl Ops {
    /// Creates a token and returns it; it cannot be shown again.
    pub async fn create_token(&self, new: NewToken, act: &Act) -> Result<String, Refusal> {
        authorize(act, Permission::Admin, None)?;
        check(&new, act.now).map_err(Refusal::Unacceptable)?;
        let text = format!("{PREFIX}{}", hex(&self.clock.secret_bytes()));
        let token = ApiToken {
            name: new.name,
            scopes: new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            shops: new.shops,
            created_at: act.now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        if self.store.add_token(&token, &hash(&text), act).await? {
            return Ok(text);
        }
        Err(Refusal::Exists { what: "token", name: token.name })
    }

    /// Every token, without its secret.
    pub async fn tokens(&self, person: &Principal) -> Result<Vec<ApiToken>, Refusal> {
        person.authorize(Permission::Admin, None)?;
        Ok(self.store.list_tokens().await?)
    }

    /// Ends a token.
    pub async fn revoke_token(&self, name: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Admin, None)?;
        if self.store.revoke_token(name, act).await? {
            return Ok(());
        }
        Err(Refusal::not_found("token", format!("{name} that is still valid")))
    }

    /// The holder of this token, if it is valid now.
    pub async fn holder(
        &self,
        text: &str,
        from: Option<&str>,
    ) -> Result<Option<Principal>, Refusal> {
        let token = self.store.token(&hash(text), self.clock.now()).await?;
        Ok(token.map(|token| Principal {
            name: format!("token:{}", token.name),
            from: from.map(str::to_owned),
            grants: token.grants(),
        }))
    }
}

fn check(new: &NewToken, now: Timestamp) -> Result<(), String> {
    let good = |c: char| !c.is_control() && !c.is_whitespace();
    if !(1..=MAX_NAME).contains(&new.name.chars().count()) || !new.name.chars().all(good) {
        return Err(format!("a token's name is 1 to {MAX_NAME} characters without spaces"));
    }
    if new.scopes.is_empty() {
        return Err(format!("choose what the token may do: one or more of {}", SCOPES.join(", ")));
    }
    for shop in new.shops.iter().flatten() {
        Shop::try_from(shop.clone()).map_err(|error| format!("shop `{shop}`: {error}"))?;
    }
    if new.shops.as_ref().is_some_and(Vec::is_empty) {
        return Err("a token needs at least one shop".to_owned());
    }
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err("this token would expire before it starts".to_owned());
    }
    Ok(())
}
