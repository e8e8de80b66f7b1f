//! OAuth 2 by refresh token (RFC 6749, 6) with an ERP that gives a new one with each use: the newest is kept in the
//! ledger, encrypted, and one process at a time uses it.
//!
//! The lease is written before the ERP is asked, so a ledger that takes no writes is found before the old token is
//! used up. A process that dies between the answer and the ledger leaves the old token there: most ERPs accept it for
//! a while; one that does not refuses the login, and the refusal says what to do.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::ports::clock::Clock;
use crate::ports::refresh_tokens::{KeptToken, LeasedToken, RefreshTokens, TokenLease};
use crate::ports::store_error::StoreError;

/// Longest use of a token, with the request and the ledger.
const LEASE: SignedDuration = SignedDuration::from_secs(120);
/// How long to wait for another process, in steps.
const STEP: Duration = Duration::from_millis(250);
const STEPS: usize = 80;
/// How often the ledger is asked to keep a new token, and the pause between.
const ATTEMPTS: usize = 20;

/// Encrypts refresh tokens with `erp.token_key`: AES-256-GCM, bound to the name of the ERP.
pub struct TokenKey(LessSafeKey);

impl TokenKey {
    /// 32 bytes in base64; otherwise what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = "expected 32 random bytes in base64: openssl rand -base64 32";
        let bytes = STANDARD.decode(text.trim()).map_err(|_| wrong.to_owned())?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong.to_owned())?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(&self, erp: &str, token: &str, random: &[u8; 32]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&random[..NONCE_LEN]);
        let mut sealed = token.as_bytes().to_vec();
        let associated = Aad::from(erp.as_bytes());
        let bound = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(bound, associated, &mut sealed).ok()?;
        Some(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    fn unseal(&self, erp: &str, sealed: &str) -> Option<String> {
        let mut bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let token = self.0.open_in_place(nonce, Aad::from(erp.as_bytes()), sealed).ok()?;
        String::from_utf8(token.to_vec()).ok()
    }
}

/// Uses and keeps the refresh tokens of one ERP.
pub struct Renewal {
    pub tokens: Arc<dyn RefreshTokens>,
    pub key: TokenKey,
    pub clock: Arc<dyn Clock>,
    /// The name of the ERP.
    pub erp: String,
    /// The name of this process.
    pub holder: String,
    /// The token of the settings.
    pub initial: String,
    /// The newest token, while the ledger does not have it.
    pub unkept: Mutex<Option<String>>,
}

/// A token that may be used now.
pub struct Usable {
    pub token: String,
    lease: TokenLease,
}

impl Renewal {
    /// The newest token, once no other process uses it.
    pub async fn lease(&self) -> Result<Usable, Failure> {
        for _ in 0..STEPS {
            let now = self.clock.now();
            let until = now.checked_add(LEASE).unwrap_or(now);
            let (erp, holder) = (self.erp.clone(), self.holder.clone());
            let lease = TokenLease { erp, holder, now, until };
            match self.tokens.lease_refresh_token(&lease).await {
                Ok(LeasedToken::Busy) => tokio::time::sleep(STEP).await,
                Ok(LeasedToken::Nothing) => return Ok(self.usable(lease, None).await),
                Ok(LeasedToken::Kept(kept)) => match self.read(&kept) {
                    Ok(token) => return Ok(self.usable(lease, token).await),
                    Err(failure) => {
                        self.release(&lease).await;
                        return Err(failure);
                    }
                },
                Err(error) => return Err(of_ledger(&error)),
            }
        }
        let detail = "another process has been renewing the token for 20 s";
        Err(Failure::new(ErrorClass::Unavailable, "token_busy", detail, Stage::Before))
    }

    async fn usable(&self, lease: TokenLease, kept: Option<String>) -> Usable {
        let newest = self.unkept.lock().await.clone().or(kept);
        Usable { token: newest.unwrap_or_else(|| self.initial.clone()), lease }
    }

    /// The kept token; `None` if the settings have another one by now, which counts.
    fn read(&self, kept: &KeptToken) -> Result<Option<String>, Failure> {
        if kept.origin != self.origin() {
            return Ok(None);
        }
        let detail = "the refresh token in the ledger was encrypted with another erp.token_key: set that one again, or give \
                      a new refresh token";
        let refused = || Failure::new(ErrorClass::Unauthorized, "token_key", detail, Stage::Before);
        self.key.unseal(&self.erp, &kept.sealed).map(Some).ok_or_else(refused)
    }

    /// What the token of the settings is recognised by.
    fn origin(&self) -> String {
        STANDARD.encode(Sha256::digest(self.initial.as_bytes()))
    }

    /// After an answer: keeps the token that came with it, if there is a new one.
    pub async fn settle(&self, used: &Usable, next: Option<String>) {
        let mut unkept = self.unkept.lock().await;
        let Some(token) = next.or_else(|| unkept.clone()) else {
            return self.release(&used.lease).await;
        };
        *unkept = Some(token.clone());
        let sealed = self.key.seal(&self.erp, &token, &self.clock.secret_bytes());
        let Some(sealed) = sealed else { return };
        let kept = KeptToken { sealed, origin: self.origin() };
        for _ in 0..ATTEMPTS {
            match self.tokens.keep_refresh_token(&used.lease, &kept).await {
                Ok(true) => {
                    *unkept = None;
                    return;
                }
                Ok(false) => {
                    tracing::error!(
                        erp = self.erp,
                        "erp.token_not_kept: another process has the lease"
                    );
                    return;
                }
                Err(error) => {
                    tracing::error!(erp = self.erp, %error, "erp.token_not_kept");
                    tokio::time::sleep(STEP).await;
                }
            }
        }
    }

    /// After a refusal: the token stays what it was.
    pub async fn refused(&self, used: &Usable, mut failure: Failure) -> Failure {
        self.release(&used.lease).await;
        failure.message = failure.message.replace(&used.token, "***");
        if failure.class == ErrorClass::Unauthorized {
            failure.message.push_str(
                "; if the refresh token has ended, log in to the ERP again and set erp.secret.refresh_token",
            );
        }
        failure
    }

    async fn release(&self, lease: &TokenLease) {
        if let Err(error) = self.tokens.release_refresh_token(lease).await {
            tracing::warn!(erp = self.erp, %error, "erp.token_lease_stays");
        }
    }
}

fn of_ledger(error: &StoreError) -> Failure {
    let detail = format!("the refresh token cannot be read from the ledger: {error}");
    Failure::new(ErrorClass::Unavailable, "ledger", &detail, Stage::Before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> TokenKey {
        TokenKey::parse(&STANDARD.encode([byte; 32])).unwrap()
    }

    #[test]
    fn a_token_is_read_only_with_its_key_and_for_its_erp() {
        let sealed = key(1).seal("default", "s3cret-token", &[7; 32]).unwrap();
        assert_eq!(key(1).unseal("default", &sealed).as_deref(), Some("s3cret-token"));
        assert_eq!(key(2).unseal("default", &sealed), None);
        assert_eq!(key(1).unseal("at", &sealed), None);
        assert_eq!(key(1).unseal("default", "AAAA"), None);
        let plain = STANDARD.decode(&sealed).unwrap();
        assert!(!plain.windows(6).any(|bytes| bytes == b"s3cret"));
    }

    #[test]
    fn a_key_has_32_bytes() {
        for wrong in ["", "secret", "c2VjcmV0", "!!!"] {
            assert!(TokenKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
