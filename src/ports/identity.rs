//! An identity provider that people log in at (OpenID Connect).

use async_trait::async_trait;
use jiff::Timestamp;

/// What we ask of an identity provider.
#[async_trait]
pub trait IdentityProvider: Send + Sync {
    /// The address at the provider to which the browser is sent.
    async fn login_address(&self, begun: &BegunLogin) -> Result<String, IdentityError>;
    /// Fetches the tokens for `code` and verifies the ID token. The answer are its claims.
    async fn finish(&self, finished: FinishedLogin) -> Result<Claims, IdentityError>;
}

/// A login that starts.
#[derive(Clone)]
pub struct BegunLogin {
    /// Returned by the browser.
    pub state: String,
    /// Returned in the ID token.
    pub nonce: String,
    /// SHA-256 of the verifier, base64url (RFC 7636, S256).
    pub challenge: String,
    /// The address to which the browser returns.
    pub callback: String,
}

/// A login that returned from the provider.
#[derive(Clone)]
pub struct FinishedLogin {
    /// What the browser brought.
    pub code: String,
    /// What the ID token must hold.
    pub nonce: String,
    /// Proves who began.
    pub verifier: String,
    /// As it was at the start.
    pub callback: String,
    pub now: Timestamp,
}

/// The provider's statement about a user.
pub type Claims = serde_json::Map<String, serde_json::Value>;

/// Why the login failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IdentityError {
    /// The provider cannot be reached, or its answer is invalid: repeat it later.
    #[error("the identity provider cannot be used: {0}")]
    Unavailable(String),
    /// It refused, or its answer is not valid.
    #[error("the identity provider did not confirm this login: {0}")]
    Refused(String),
}
