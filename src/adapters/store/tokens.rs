//! Tokens of the API; only their hashes are stored.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::audit::Act;
use crate::ports::people::{ApiToken, Tokens};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::db::{Db, Row, Sql, Tx};
use super::ledger::SqlStore;

const TOKEN: &str = "name, scopes, shops, created_at_ms, expires_at_ms, revoked_at_ms";

#[async_trait]
impl<D: Db> Tokens for SqlStore<D> {
    async fn add_token(
        &self,
        token: &ApiToken,
        hash: &[u8],
        act: &Act,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO tokens (name, hash, scopes, shops, created_at_ms, expires_at_ms)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT DO NOTHING";
        let scopes = token.scopes.join(" ");
        let shops = token.shops.as_ref().map(|shops| shops.join(" "));
        let args = sql_args![
            &token.name,
            hash,
            &scopes,
            shops.as_deref(),
            token.created_at,
            token.expires_at
        ];
        let mut tx = self.db.begin().await?;
        if tx.execute(&sql.into(), args).await? == 0 {
            return Ok(false);
        }
        let only = shops.map(|shops| format!(" in {shops}")).unwrap_or_default();
        let change = Some((String::new(), format!("{scopes}{only}")));
        let target = format!("token {}", token.name);
        insert_audit(&mut tx, act, "token.create", &target, None, change).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn token(&self, hash: &[u8], now: Timestamp) -> Result<Option<ApiToken>, StoreError> {
        let sql = format!(
            "SELECT {TOKEN}
            FROM tokens
            WHERE hash = $1 AND revoked_at_ms IS NULL
              AND (expires_at_ms IS NULL OR expires_at_ms > $2)"
        );
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![hash, now]).await?;
        rows.into_iter().map(api_token).next().transpose()
    }

    async fn list_tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        let sql = format!("SELECT {TOKEN} FROM tokens ORDER BY created_at_ms, name");
        let rows = self.db.fetch(&Sql::Built(sql), Vec::new()).await?;
        rows.into_iter().map(api_token).collect()
    }

    async fn revoke_token(&self, name: &str, act: &Act) -> Result<bool, StoreError> {
        let sql = "UPDATE tokens
            SET revoked_at_ms = $2
            WHERE name = $1 AND revoked_at_ms IS NULL";
        let mut tx = self.db.begin().await?;
        if tx.execute(&sql.into(), sql_args![name, act.now]).await? == 0 {
            return Ok(false);
        }
        insert_audit(&mut tx, act, "token.revoke", &format!("token {name}"), None, None).await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn api_token(mut row: Row) -> Result<ApiToken, StoreError> {
    row.table = "tokens";
    let words = |text: String| text.split(' ').map(str::to_owned).collect();
    Ok(ApiToken {
        name: row.id("name")?,
        scopes: words(row.text("scopes")?),
        shops: row.text_or_null("shops")?.map(words),
        created_at: row.time("created_at_ms")?,
        expires_at: row.time_or_null("expires_at_ms")?,
        revoked_at: row.time_or_null("revoked_at_ms")?,
    })
}
