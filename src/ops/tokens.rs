//! Tokens for the API: made, checked, ended. A token is shown once; only its hash is kept.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::domain::permission::Permission;
use crate::ports::store::ApiToken;

use super::orders::{Ops, Refusal};

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
/// Begin of every token, so that secret scanners find one that leaks.
const PREFIX: &str = "orl_";

impl Ops {
    /// Makes a token and returns it; it cannot be shown again.
    pub async fn create_token(
        &self,
        name: &str,
        scopes: &[String],
        expires_at: Option<Timestamp>,
    ) -> Result<String, Refusal> {
        if self.store.list_tokens().await?.iter().any(|token| token.name == name) {
            return Err(Refusal::NotFound(format!(
                "there is a token {name} already; choose another name"
            )));
        }
        let secret: String =
            self.clock.secret_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{PREFIX}{secret}");
        let token = ApiToken {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            created_at: self.clock.now(),
            expires_at,
            revoked_at: None,
        };
        self.store.add_token(&token, &hash(&text)).await?;
        Ok(text)
    }

    /// The token that `text` is, if it is valid now and allows `scope`.
    pub async fn authorize(
        &self,
        text: &str,
        scope: &str,
    ) -> Result<Result<ApiToken, Denied>, Refusal> {
        let Some(token) = self.store.token(&hash(text), self.clock.now()).await? else {
            return Ok(Err(Denied::Unknown));
        };
        let allowed = token.scopes.iter().any(|own| own == scope || own == "admin");
        Ok(if allowed { Ok(token) } else { Err(Denied::Scope) })
    }
}

/// Why a token does not open a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No such token, or ended.
    Unknown,
    /// It is valid, and not for this.
    Scope,
}

/// Tokens are 256 random bits: one round of SHA-256 keeps them as safe as a slow hash would.
fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
