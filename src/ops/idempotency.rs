//! `Idempotency-Key`s of the API: a request that is repeated gets the answer of the first one.

use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::people::{KeptAnswer, KeyClaim, RequestKey};

impl Ops {
    /// Claims a key for this request, or finds the answer that it got before.
    pub async fn claim_key(&self, key: &RequestKey) -> Result<KeyClaim, Refusal> {
        Ok(self.store.claim_key(key, self.clock.now()).await?)
    }

    /// Keeps the answer under its key; without one the key is free again.
    pub async fn settle_key(
        &self,
        key: &RequestKey,
        answer: Option<&KeptAnswer>,
    ) -> Result<(), Refusal> {
        Ok(self.store.settle_key(key, answer).await?)
    }
}
