//! Orders that are gone: what is left of each, and taking them out in two steps.
//!
//! An order is noted in `gone_orders` first. From then on it is not inserted again (`insert_orders`), also when its rows
//! are deleted at that moment: before they are, whoever was inserting has finished (`WRITERS_END`).

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::domain::money::Sum;
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::ports::retention::{Deleted, GoneOrder};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::batch::Batch;
use super::db::{Db, Row, Sql, Tx, Value};
use super::encode::json;
use super::moves::{Place, What};
use super::rows::{self, places};

/// Columns of `gone_orders` that are written when an order is noted.
const NOTED_COLUMNS: usize = 12;
/// Tables whose rows belong to one order, by `shop` and `order_id`; `orders` last.
const OF_ORDERS: [&str; 11] = [
    "exchanges",
    "attempts",
    "conflicts",
    "revisions",
    "second_entries",
    "settled_entries",
    "total_differences",
    "accepted_totals",
    "notices",
    "order_states",
    "orders",
];

/// What stands in place of the content of a mail that was taken out.
pub(super) const EMPTIED: &str = "(no longer kept)";

/// What is left of an order, if it was noted.
pub(super) const GONE_ORDER: &str = "SELECT content, phase, erp_order_id, kind, gone_at_ms
    FROM gone_orders
    WHERE shop = $1 AND order_id = $2";

pub(super) fn of_key(key: &OrderKey) -> Vec<Value> {
    sql_args![key.shop.as_str(), key.order_id.as_str()]
}

pub(super) fn read_gone(mut row: Row) -> Result<GoneOrder, StoreError> {
    row.table = "gone_orders";
    Ok(GoneOrder {
        content: row.bytes("content")?,
        phase: row.text("phase")?,
        erp_order_id: row.text_or_null("erp_order_id")?,
        kind: row.text("kind")?,
        gone_at: row.time_or_null("gone_at_ms")?,
    })
}

/// What is left of an order, inside of a transaction.
pub(super) async fn gone_order<T: Tx>(
    tx: &mut T,
    key: &OrderKey,
) -> Result<Option<GoneOrder>, StoreError> {
    let rows = tx.fetch(&GONE_ORDER.into(), of_key(key)).await?;
    rows.into_iter().map(read_gone).next().transpose()
}

/// Orders that can go, with a condition on their state `s`: finished, everybody was told, and not in the ERP twice
/// without a person having settled it.
pub(super) fn finished(condition: &str) -> String {
    format!(
        "s.state = 'confirmed' AND {condition}
        AND NOT EXISTS (
          SELECT 1 FROM notices AS n
          WHERE n.shop = s.shop AND n.order_id = s.order_id AND n.mail_id IS NULL)
        AND NOT EXISTS (
          SELECT 1 FROM second_entries AS e
          WHERE e.shop = s.shop AND e.order_id = s.order_id AND NOT EXISTS (
            SELECT 1 FROM settled_entries AS t
            WHERE t.shop = e.shop AND t.order_id = e.order_id AND t.number = e.number))"
    )
}

/// Notes the orders that `rows` are, the columns of [`NOTED`]; how many, and when the last one changed.
pub(super) async fn note<T: Tx>(
    tx: &mut T,
    rows: Vec<Row>,
    kind: &str,
) -> Result<(u64, i64), StoreError> {
    let mut args = Vec::with_capacity(rows.len() * NOTED_COLUMNS);
    let (count, mut last) = (rows.len(), 0);
    for mut row in rows {
        row.table = "order_states";
        let key = rows::order_key(&mut row)?;
        args.append(&mut of_key(&key));
        args.push(kind.into());
        args.push(Value::from(&Order::content_digest(&row.text("document")?)[..]));
        args.push(row.text("phase")?.into());
        args.push(row.text_or_null("erp_order_id")?.as_deref().into());
        args.extend([row.text("currency")?.into(), row.text("total")?.into()]);
        for column in ["fail_count", "received_at_ms"] {
            args.push(row.int(column)?.into());
        }
        last = row.int("updated_at_ms")?;
        args.extend([last.into(), row.int("version")?.into()]);
    }
    if count == 0 {
        return Ok((0, 0));
    }
    let values = places(count, NOTED_COLUMNS);
    let sql = format!(
        "INSERT INTO gone_orders (shop, order_id, kind, content, phase, erp_order_id, currency, total, fail_count,
          received_at_ms, settled_at_ms, version)
        VALUES {values}
        ON CONFLICT DO NOTHING"
    );
    Ok((tx.execute(&Sql::Built(sql), args).await?, last))
}

/// What [`note`] reads of each order.
pub(super) const NOTED: &str = "s.shop, s.order_id, o.document, s.phase, s.erp_order_id, o.currency, o.total, \
    s.fail_count, s.received_at_ms, s.updated_at_ms, s.version";

/// Deletes the rows of noted orders, and counts them.
pub(super) async fn delete_noted<D: Db>(
    db: &D,
    limit: u32,
    now: Timestamp,
) -> Result<Deleted, StoreError> {
    let noted = "SELECT CAST(1 AS BIGINT) FROM gone_orders WHERE gone_at_ms IS NULL LIMIT 1";
    if db.fetch(&noted.into(), Vec::new()).await?.is_empty() {
        return Ok(Deleted::default());
    }
    wait_for_writers(db).await?;
    let mut batch = Batch::new(db.begin().await?);
    let noted = take_noted(&mut batch.tx, limit, D::FOR_UPDATE).await?;
    let keys: Vec<OrderKey> = noted.iter().map(|noted| noted.key.clone()).collect();
    let unchanged = unchanged::<D>(&mut batch.tx, noted).await?;
    delete_rows::<D>(&mut batch.tx, &unchanged).await?;
    for order in &unchanged {
        let whose = (order.key.shop.as_str(), order.currency.as_str());
        let way = (Place::plain(&order.phase), Place::default());
        let sum = Sum::of_total(&order.total);
        batch.moves.add(whose, way, (What::Nothing, 0), sum, now.as_millisecond());
    }
    count_gone::<D>(&mut batch.tx, &keys, &unchanged, now).await?;
    batch.commit().await?;
    Ok(Deleted { seen: keys.len() as u64, gone: unchanged.len() as u64 })
}

/// Whoever began to insert orders before those were noted has finished when this returns.
async fn wait_for_writers<D: Db>(db: &D) -> Result<(), StoreError> {
    let Some(sql) = D::WRITERS_END else { return Ok(()) };
    let mut tx = db.begin().await?;
    tx.execute(&sql.into(), Vec::new()).await?;
    tx.commit().await
}

struct Noted {
    key: OrderKey,
    phase: String,
    kind: String,
    currency: String,
    total: String,
}

async fn take_noted<T: Tx>(tx: &mut T, limit: u32, lock: &str) -> Result<Vec<Noted>, StoreError> {
    let sql = format!(
        "SELECT shop, order_id, phase, kind, currency, total
        FROM gone_orders
        WHERE gone_at_ms IS NULL
        ORDER BY shop, order_id
        LIMIT $1
        {lock}"
    );
    let rows = tx.fetch(&Sql::Built(sql), sql_args![limit]).await?;
    rows.into_iter()
        .map(|mut row| {
            row.table = "gone_orders";
            Ok(Noted {
                key: rows::order_key(&mut row)?,
                phase: row.text("phase")?,
                kind: row.text("kind")?,
                currency: row.text("currency")?,
                total: row.text("total")?,
            })
        })
        .collect()
}

/// Locks the states of noted orders, and returns those that are as they were when they were noted.
async fn unchanged<D: Db>(tx: &mut D::Tx, noted: Vec<Noted>) -> Result<Vec<Noted>, StoreError> {
    let keys: Vec<OrderKey> = noted.iter().map(|noted| noted.key.clone()).collect();
    tx.lock(&keys).await?;
    let sql = format!(
        "SELECT s.shop, s.order_id
        FROM order_states AS s
        JOIN gone_orders AS g ON g.shop = s.shop AND g.order_id = s.order_id
        WHERE (s.shop, s.order_id) IN ({}) AND {}",
        D::KEYS,
        finished("s.version = g.version")
    );
    let rows = tx.fetch(&Sql::Built(sql), sql_args![keys_as_json(keys.iter())?]).await?;
    let same = rows.into_iter().map(|mut row| rows::order_key(&mut row));
    let same: HashSet<OrderKey> = same.collect::<Result<_, _>>()?;
    Ok(noted.into_iter().filter(|noted| same.contains(&noted.key)).collect())
}

/// Deletes everything that belongs to these orders; their mails keep their places until they are empty.
async fn delete_rows<D: Db>(tx: &mut D::Tx, orders: &[Noted]) -> Result<(), StoreError> {
    let keys = keys_as_json(orders.iter().map(|order| &order.key))?;
    let mails = format!(
        "SELECT DISTINCT mail_id FROM notices WHERE mail_id IS NOT NULL AND (shop, order_id) IN ({})",
        D::KEYS
    );
    let rows = tx.fetch(&Sql::Built(mails), sql_args![&keys]).await?;
    let mails: Result<Vec<String>, _> = rows.into_iter().map(|mut r| r.text("mail_id")).collect();
    for table in OF_ORDERS {
        let sql = format!("DELETE FROM {table} WHERE (shop, order_id) IN ({})", D::KEYS);
        tx.execute(&Sql::Built(sql), sql_args![&keys]).await?;
    }
    let emptied = format!(
        "DELETE FROM mails
        WHERE id = $1 AND text_body = '{EMPTIED}'
          AND NOT EXISTS (SELECT 1 FROM notices WHERE mail_id = $1)"
    );
    for mail in mails? {
        tx.execute(&Sql::Built(emptied.clone()), sql_args![mail]).await?;
    }
    Ok(())
}

/// Says of noted orders that they are gone, forgets the note of those that changed, and counts by kind.
async fn count_gone<D: Db>(
    tx: &mut D::Tx,
    noted: &[OrderKey],
    gone: &[Noted],
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql =
        format!("UPDATE gone_orders SET gone_at_ms = $2 WHERE (shop, order_id) IN ({})", D::KEYS);
    let keys = keys_as_json(gone.iter().map(|order| &order.key))?;
    tx.execute(&Sql::Built(sql), sql_args![keys, now]).await?;
    let sql = format!(
        "DELETE FROM gone_orders WHERE gone_at_ms IS NULL AND (shop, order_id) IN ({})",
        D::KEYS
    );
    tx.execute(&Sql::Built(sql), sql_args![keys_as_json(noted.iter())?]).await?;
    let mut kinds = BTreeMap::<&str, u64>::new();
    for order in gone {
        *kinds.entry(&order.kind).or_default() += 1;
    }
    for (kind, removed) in kinds {
        count_removed(tx, kind, removed, now).await?;
    }
    Ok(())
}

/// Counts what a transaction takes out.
pub(super) async fn count_removed<T: Tx>(
    tx: &mut T,
    kind: &str,
    removed: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO removals (kind, removed, last_ms)
        VALUES ($1, $2, $3)
        ON CONFLICT (kind) DO UPDATE SET
          removed = removals.removed + excluded.removed, last_ms = excluded.last_ms";
    let removed = i64::try_from(removed).unwrap_or(i64::MAX);
    tx.execute(&sql.into(), sql_args![kind, removed, now]).await.map(drop)
}

/// The argument of `Db::KEYS`.
pub(super) fn keys_as_json<'k>(
    keys: impl Iterator<Item = &'k OrderKey>,
) -> Result<String, StoreError> {
    json(&keys.map(|key| [key.shop.as_str(), key.order_id.as_str()]).collect::<Vec<_>>())
}
