//! Refresh tokens of ERPs that give a new one with each use (RFC 6749, 6): the newest one of each ERP. What is kept was
//! sealed by the caller.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::store_error::StoreError;

/// One process at a time uses the token of an ERP: many ERPs end every session when a token is used twice.
#[async_trait]
pub trait RefreshTokens: Send + Sync {
    /// Takes the right to use the token of this ERP, unless another holder has it.
    async fn lease_refresh_token(&self, lease: &TokenLease) -> Result<LeasedToken, StoreError>;
    /// Keeps the newest token and gives the right back; `false` if another holder has it by now, and nothing is kept.
    async fn keep_refresh_token(
        &self,
        lease: &TokenLease,
        token: &KeptToken,
    ) -> Result<bool, StoreError>;
    /// Gives the right back; what was kept stays.
    async fn release_refresh_token(&self, lease: &TokenLease) -> Result<(), StoreError>;
}

/// A right to use the token of an ERP.
#[derive(Debug, Clone)]
pub struct TokenLease {
    pub erp: String,
    /// Who has it.
    pub holder: String,
    pub now: Timestamp,
    /// When others may take it.
    pub until: Timestamp,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeasedToken {
    /// Another holder has the right.
    Busy,
    /// It is ours; nothing is kept yet.
    Nothing,
    /// It is ours, with the newest token.
    Kept(KeptToken),
}

/// A refresh token that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptToken {
    /// The token, encrypted.
    pub sealed: String,
    /// The fingerprint of the token of the settings that it comes from.
    pub origin: String,
}
