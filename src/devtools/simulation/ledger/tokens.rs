//! Tokens of the API, and its `Idempotency-Key`s.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{KeyRow, Tables, TokenRow};
use super::values::{before, stored_time};
use crate::ports::audit::Act;
use crate::ports::people::{ApiToken, KeptAnswer, KeyClaim, RequestKey, RequestKeys, Tokens};
use crate::ports::store_error::StoreError;

/// How long an answer is given again for the same key.
const KEY_LIFE: Duration = Duration::from_hours(24);
/// Longer than any request may take: the process that claimed such a key has died.
const KEY_ABANDONED: Duration = Duration::from_mins(5);

#[async_trait]
impl Tokens for MemoryLedger {
    async fn add_token(
        &self,
        token: &ApiToken,
        hash: &[u8],
        act: &Act,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let row = TokenRow { token: added(token), hash: hash.to_vec() };
            let is_known = tables.tokens.values().any(|row| row.hash == hash);
            if is_known || !tables.tokens.insert_new(token.name.clone(), row) {
                return Ok(false);
            }
            let shops = token.shops.as_ref().map(|shops| format!(" in {}", shops.join(" ")));
            let allowed = format!("{}{}", token.scopes.join(" "), shops.unwrap_or_default());
            let deed = Deed::new("token.create", &target(&token.name));
            tables.write_audit(act, deed.changing(String::new(), allowed))?;
            Ok(true)
        })
        .await
    }

    async fn token(&self, hash: &[u8], now: Timestamp) -> Result<Option<ApiToken>, StoreError> {
        let now = stored_time(now);
        self.read(|tables| {
            let mut with_hash = tables.tokens.values().filter(|row| row.hash == hash);
            let token = with_hash.next().map(|row| row.token.clone());
            token.filter(|token| {
                token.revoked_at.is_none() && token.expires_at.is_none_or(|end| end > now)
            })
        })
        .await
    }

    async fn list_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.read(|tables| {
            let mut all: Vec<ApiToken> =
                tables.tokens.values().map(|row| row.token.clone()).collect();
            // By name they are in order already.
            all.sort_by_key(|token| token.created_at);
            all
        })
        .await
    }

    async fn revoke_token(&self, name: &str, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let is_valid = |row: &TokenRow| row.token.revoked_at.is_none();
            let revoked = tables.tokens.update_if(&name.to_owned(), is_valid, |row| {
                row.token.revoked_at = Some(stored_time(act.now));
            });
            if revoked {
                tables.write_audit(act, Deed::new("token.revoke", &target(name)))?;
            }
            Ok(revoked)
        })
        .await
    }
}

#[async_trait]
impl RequestKeys for MemoryLedger {
    async fn claim_key(&self, key: &RequestKey, now: Timestamp) -> Result<KeyClaim, StoreError> {
        self.write(|tables| tables.claim_key(key, now)).await
    }

    async fn settle_key(
        &self,
        key: &RequestKey,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), StoreError> {
        let place = place(key);
        self.write(|tables| {
            match answer {
                Some(answer) => {
                    let answer = Some(answer.clone());
                    tables.request_keys.update(&place, |row| row.answer = answer);
                }
                None => {
                    tables.request_keys.delete_where(|k, row| *k == place && row.answer.is_none());
                }
            }
            Ok(())
        })
        .await
    }
}

impl Tables {
    fn claim_key(&mut self, key: &RequestKey, now: Timestamp) -> Result<KeyClaim, StoreError> {
        let (old, abandoned) = (before(now, KEY_LIFE)?, before(now, KEY_ABANDONED)?);
        let now = stored_time(now);
        self.request_keys.delete_where(|_, row| row.created_at <= old);
        let place = place(key);
        let Some(row) = self.request_keys.get(&place) else {
            let row = KeyRow { digest: key.digest, answer: None, created_at: now };
            self.request_keys.put(place, row);
            return Ok(KeyClaim::New);
        };
        if row.digest != key.digest {
            return Ok(KeyClaim::Other);
        }
        if let Some(answer) = &row.answer {
            return Ok(KeyClaim::Answered(answer.clone()));
        }
        let is_abandoned = |row: &KeyRow| row.created_at <= abandoned;
        let taken = self.request_keys.update_if(&place, is_abandoned, |row| row.created_at = now);
        Ok(if taken { KeyClaim::New } else { KeyClaim::Running })
    }
}

fn added(token: &ApiToken) -> ApiToken {
    ApiToken {
        created_at: stored_time(token.created_at),
        expires_at: token.expires_at.map(stored_time),
        revoked_at: None,
        ..token.clone()
    }
}

fn target(name: &str) -> String {
    format!("token {name}")
}

fn place(key: &RequestKey) -> (String, String) {
    (key.actor.clone(), key.name.clone())
}
