//! The newest refresh token of each ERP.

use async_trait::async_trait;

use super::memory::MemoryLedger;
use super::tables::RefreshRow;
use super::values::stored_time;
use crate::ports::refresh_tokens::{KeptToken, LeasedToken, RefreshTokens, TokenLease};
use crate::ports::store_error::StoreError;

#[async_trait]
impl RefreshTokens for MemoryLedger {
    async fn lease_refresh_token(&self, lease: &TokenLease) -> Result<LeasedToken, StoreError> {
        self.write(|tables| {
            let mut row = tables.refresh_tokens.get(&lease.erp).cloned().unwrap_or_default();
            if row.held.as_ref().is_some_and(|(_, until)| *until > stored_time(lease.now)) {
                return Ok(LeasedToken::Busy);
            }
            row.held = Some((lease.holder.clone(), stored_time(lease.until)));
            let kept = row.kept.clone();
            tables.refresh_tokens.put(lease.erp.clone(), row);
            Ok(kept.map_or(LeasedToken::Nothing, LeasedToken::Kept))
        })
        .await
    }

    async fn keep_refresh_token(
        &self,
        lease: &TokenLease,
        token: &KeptToken,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            Ok(tables.refresh_tokens.update_if(
                &lease.erp,
                |row| is_held(row, lease),
                |row| *row = RefreshRow { kept: Some(token.clone()), held: None },
            ))
        })
        .await
    }

    async fn release_refresh_token(&self, lease: &TokenLease) -> Result<(), StoreError> {
        self.write(|tables| {
            let held = |row: &RefreshRow| is_held(row, lease);
            tables.refresh_tokens.update_if(&lease.erp, held, |row| row.held = None);
            Ok(())
        })
        .await
    }
}

fn is_held(row: &RefreshRow, lease: &TokenLease) -> bool {
    row.held.as_ref().is_some_and(|(holder, _)| *holder == lease.holder)
}
