//! What people did: written in the transaction of the change itself, and listed here.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::order::values::OrderKey;
use crate::ports::audit::{Act, AuditFilter, AuditRow, AuditTrail};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::conditions::Conditions;
use super::db::{Db, Row, Sql, Tx};
use super::ledger::SqlStore;
use super::rows;

#[async_trait]
impl<D: Db> AuditTrail for SqlStore<D> {
    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut conditions = Conditions::default();
        add_filter(&mut conditions, filter);
        if let Some((at, id)) = after {
            conditions.add("(at_ms, id) < (?, ?)", sql_args![at, id]);
        }
        let sql = format!(
            "SELECT id, at_ms, actor, came_from, action, target, reason, was, became
            FROM audit
            WHERE {}
            ORDER BY at_ms DESC, id DESC
            LIMIT {limit}",
            conditions.text
        );
        let rows = self.db.read(&Sql::Built(sql), conditions.args).await?;
        let row = |mut row: Row| {
            row.table = "audit";
            let id = row.id("id")?;
            let id = id.parse().map_err(|_| row.corrupt("id", "not a UUID"))?;
            Ok(AuditRow { id, entry: rows::audit_entry(row)? })
        };
        rows.into_iter().map(row).collect()
    }
}

fn add_filter(conditions: &mut Conditions, filter: &AuditFilter) {
    if let Some(actor) = &filter.actor {
        conditions.add("actor = ?", sql_args![actor]);
    }
    if let Some(action) = &filter.action {
        match action.strip_suffix('.') {
            Some(_) => {
                let length = u32::try_from(action.chars().count()).unwrap_or(u32::MAX);
                conditions.add(
                    "SUBSTR(action, 1, CAST(? AS INTEGER)) = ?",
                    vec![length.into(), action.into()],
                );
            }
            None => conditions.add("action = ?", sql_args![action]),
        }
    }
    if let Some(target) = &filter.target {
        conditions.add("target = ?", sql_args![target]);
    }
    if let Some(since) = filter.since {
        conditions.add("at_ms >= ?", sql_args![since]);
    }
    if let Some(until) = filter.until {
        conditions.add("at_ms < ?", sql_args![until]);
    }
    // A row of no shop has NULL there, which is in no list.
    conditions.shops(&filter.shops);
}

/// Writes the audit row of a change by hand.
pub(super) async fn insert_audit<T: Tx>(
    tx: &mut T,
    act: &Act,
    action: &str,
    target: &str,
    order: Option<&OrderKey>,
    change: Option<(String, String)>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit (id, at_ms, actor, action, target, shop, order_id, reason, was,
          became, came_from)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let (was, became) = change.unzip();
    let args = sql_args![
        act.id,
        act.now,
        &act.actor,
        action,
        target,
        order.map(|key| key.shop.as_str()),
        order.map(|key| key.order_id.as_str()),
        act.reason.as_deref(),
        was.as_deref(),
        became.as_deref(),
        act.from.as_deref()
    ];
    tx.execute(&sql.into(), args).await.map(|_| ())
}
