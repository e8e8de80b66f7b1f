//! The newest refresh token of each ERP, sealed.

use async_trait::async_trait;

use crate::ports::refresh_tokens::{KeptToken, LeasedToken, RefreshTokens, TokenLease};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, Tx};
use super::ledger::SqlStore;

#[async_trait]
impl<D: Db> RefreshTokens for SqlStore<D> {
    async fn lease_refresh_token(&self, lease: &TokenLease) -> Result<LeasedToken, StoreError> {
        let sql = "INSERT INTO refresh_tokens AS t (erp, holder, held_until_ms)
            VALUES ($1, $2, $4)
            ON CONFLICT (erp) DO UPDATE SET
              holder = excluded.holder, held_until_ms = excluded.held_until_ms
            WHERE t.holder IS NULL OR t.held_until_ms <= $3
            RETURNING sealed, origin";
        let args = sql_args![&lease.erp, &lease.holder, lease.now, lease.until];
        let mut tx = self.db.begin().await?;
        let Some(mut row) = tx.fetch(&sql.into(), args).await?.pop() else {
            return Ok(LeasedToken::Busy);
        };
        tx.commit().await?;
        let (sealed, origin) = (row.text_or_null("sealed")?, row.text_or_null("origin")?);
        Ok(match sealed.zip(origin) {
            Some((sealed, origin)) => LeasedToken::Kept(KeptToken { sealed, origin }),
            None => LeasedToken::Nothing,
        })
    }

    async fn keep_refresh_token(
        &self,
        lease: &TokenLease,
        token: &KeptToken,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE refresh_tokens
            SET sealed = $3, origin = $4, kept_at_ms = $5, holder = NULL, held_until_ms = NULL
            WHERE erp = $1 AND holder = $2";
        let args = sql_args![&lease.erp, &lease.holder, &token.sealed, &token.origin, lease.now];
        Ok(self.db.execute(&sql.into(), args).await? > 0)
    }

    async fn release_refresh_token(&self, lease: &TokenLease) -> Result<(), StoreError> {
        let sql = "UPDATE refresh_tokens
            SET holder = NULL, held_until_ms = NULL
            WHERE erp = $1 AND holder = $2";
        let args = sql_args![&lease.erp, &lease.holder];
        self.db.execute(&sql.into(), args).await.map(|_| ())
    }
}
