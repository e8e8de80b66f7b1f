//! SQLite: one writer, a pool of readers; WAL with synchronous=FULL, so that what was committed
//! survives a power loss before anything is acknowledged.
//!
//! Mirrors `postgres.rs`, function by function. What every order passes takes a whole batch as JSON; what only some
//! pass, and what holds documents, is a loop.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::query::Query;
use sqlx::sqlite::{
    Sqlite, SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row as _, Transaction, TypeInfo, ValueRef};

use crate::domain::lifecycle::claim::Claim;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::clock::Stopwatch;
use crate::ports::notices::Notice;
use crate::ports::orders::{ConfirmRequest, FailureRequest, KeepRequest, Placed};
use crate::ports::schema::SchemaStatus;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, Row, Sql, Tx, Value};
use super::rows::ORDER_COLUMNS;
use super::schema::{self, skus};
use super::sorting::{read_failed, sqlite_code};

const MIGRATIONS: [(&str, &str); 8] = [
    ("0001_ledger", include_str!("../../../migrations/sqlite/0001_ledger.sql")),
    ("0002_exchanges", include_str!("../../../migrations/sqlite/0002_exchanges.sql")),
    ("0003_figures", include_str!("../../../migrations/sqlite/0003_figures.sql")),
    (
        "0004_revisions_and_redrives",
        include_str!("../../../migrations/sqlite/0004_revisions_and_redrives.sql"),
    ),
    ("0005_people", include_str!("../../../migrations/sqlite/0005_people.sql")),
    ("0006_search", include_str!("../../../migrations/sqlite/0006_search.sql")),
    ("0007_second_entries", include_str!("../../../migrations/sqlite/0007_second_entries.sql")),
    ("0008_commit_begun", include_str!("../../../migrations/sqlite/0008_commit_begun.sql")),
];

const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// A SQLite database in a file.
pub struct SqliteDb {
    writer: SqlitePool,
    readers: SqlitePool,
    migrator: Migrator,
    patience: Duration,
}

impl SqliteDb {
    /// Opens the file when it is used, and makes it when it is missing. `url` is `sqlite://…`.
    pub fn open(url: &str, max_connections: u32, patience: Duration) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(read_failed)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(patience)
            .foreign_keys(true);
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(patience);
        Ok(Self {
            writer: pool(1).connect_lazy_with(options.clone()),
            readers: pool(max_connections).connect_lazy_with(options),
            migrator: schema::migrator(&MIGRATIONS),
            patience,
        })
    }
}

#[async_trait]
impl Db for SqliteDb {
    type Tx = SqliteTx;
    // Without it SQLite would scan the primary key by shop and sort the result; so an index by time
    // is used, and each of those contains the shop too.
    const SHOP_IN_LISTS: &'static str = "shop || ''";
    // There is one writer.
    const FOR_UPDATE: &'static str = "";
    const NOW: Option<&'static str> = None;
    const FOR_UPDATE_OF_FREE: &'static str = "";
    const FOLD_COUNTS: &'static [&'static str] = &["DELETE FROM order_counts
            WHERE orders = 0 AND units = 0 AND nanos = 0 AND unsummed = 0"];
    const FOLD_ACTIVITY: &'static [&'static str] = &[
        "INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
            SELECT bucket_ms - bucket_ms % ($2 * 60000) AS begins, $2, shop, what, fingerprint,
              SUM(orders), MAX(last_ms)
            FROM activity
            WHERE minutes = $1 AND bucket_ms < $3
            GROUP BY begins, shop, what, fingerprint
            ON CONFLICT (minutes, bucket_ms, shop, what, fingerprint) DO UPDATE SET
              orders = orders + excluded.orders, last_ms = MAX(last_ms, excluded.last_ms)",
        // $2 is not used here; it keeps the arguments the same as in the other statements.
        "DELETE FROM activity
            WHERE $2 > $1 AND minutes = $1 AND bucket_ms < $3",
    ];

    async fn begin(&self) -> Result<SqliteTx, StoreError> {
        // IMMEDIATE: takes the write lock now, so that no read can be overtaken later.
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(read_failed)?;
        Ok(SqliteTx { tx })
    }

    async fn fetch(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let rows = query(sql, args).fetch_all(&self.readers).await.map_err(read_failed)?;
        rows.iter().map(row).collect()
    }

    async fn execute(&self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let done = query(sql, args).execute(&self.writer).await.map_err(read_failed)?;
        Ok(done.rows_affected())
    }

    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        // While another process creates the file, SQLite answers "locked" without waiting:
        // switching to WAL ignores the busy timeout.
        let watch = Stopwatch::start();
        loop {
            let applied = self.fetch(&schema::APPLIED.into(), Vec::new()).await;
            match schema::status(applied, &self.migrator, true) {
                Err(error) if is_locked(&error) && watch.elapsed() < self.patience => {
                    tokio::time::sleep(LOCKED_PAUSE).await;
                }
                status => return status,
            }
        }
    }

    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let pending = self.schema_status().await?.pending;
        // One transaction around all of it: two processes that open the same new file are
        // serialised.
        let mut tx = self.begin().await?;
        self.migrator.run_direct(tx.conn()).await.map_err(|e| read_failed(e.into()))?;
        tx.commit().await?;
        Ok(pending)
    }
}

/// SQLITE_BUSY or SQLITE_LOCKED (sqlite.org/rescode.html).
fn is_locked(error: &StoreError) -> bool {
    matches!(sqlite_code(error), Some(5 | 6))
}

/// A transaction in SQLite.
pub struct SqliteTx {
    tx: Transaction<'static, Sqlite>,
}

impl SqliteTx {
    fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}

#[async_trait]
impl Tx for SqliteTx {
    async fn fetch(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let rows = query(sql, args).fetch_all(self.conn()).await.map_err(read_failed)?;
        rows.iter().map(row).collect()
    }

    async fn execute(&mut self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let done = query(sql, args).execute(self.conn()).await.map_err(read_failed)?;
        Ok(done.rows_affected())
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(read_failed)
    }

    async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        let sql = "INSERT INTO orders (shop, order_id, state, phase, claim_worker, claim_attempt,
              claimed_until_ms, claim_preparing, placed_at_ms, currency, total, customer_number, customer_name,
              customer_email, customer_locale, payment, skus, traceparent, tracestate,
              received_at_ms, updated_at_ms, source, digest, document)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
              $19, $20, $20, $21, $22, $23)
            ON CONFLICT DO NOTHING";
        let mut inserted = HashSet::new();
        for (placed, record) in rows {
            let customer = &record.facts.customer;
            let args = sql_args![
                record.key.shop.as_str(),
                record.key.order_id.as_str(),
                record.phase.state().as_str(),
                record.phase.name(),
                record.claim.as_ref().map(|claim| claim.worker.as_str()),
                int(record.claim.as_ref().map(|claim| claim.attempt.into())),
                record.claim.as_ref().map(|claim| claim.until),
                record.claim.as_ref().and_then(Claim::preparing),
                record.facts.placed_at,
                record.facts.currency.as_str(),
                record.facts.total.as_str(),
                customer.number.as_deref(),
                customer.name.as_deref(),
                customer.email.as_ref().map_or("", Email::as_str),
                customer.locale.as_deref(),
                record.facts.payment.as_deref(),
                skus(&placed.order),
                record.trace.parent.as_deref(),
                record.trace.state.as_deref(),
                record.received_at,
                placed.source.as_str(),
                &placed.order.digest[..],
                &*placed.order.document,
            ];
            if self.execute(&sql.into(), args).await? > 0 {
                inserted.insert(record.key.clone());
            }
        }
        Ok(inserted)
    }

    // There is one writer.
    async fn lock(&mut self, _: &[OrderKey]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS}, digest
            FROM orders
            WHERE (shop, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))"
        );
        self.fetch(&Sql::Built(sql), by_key(keys)).await
    }

    async fn documents(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = "SELECT shop, order_id, document, edited
            FROM orders
            WHERE (shop, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))";
        self.fetch(&sql.into(), by_key(keys)).await
    }

    async fn save(&mut self, records: &[&OrderRecord]) -> Result<u64, StoreError> {
        let sql = "UPDATE orders
            SET state = i.value ->> 3, phase = i.value ->> 4, due_at_ms = i.value ->> 5,
              fail_count = i.value ->> 6, max_count = i.value ->> 7, last_attempt = i.value ->> 8,
              claim_worker = i.value ->> 9, claim_attempt = i.value ->> 10,
              claimed_until_ms = i.value ->> 11, unclear_since_ms = i.value ->> 12,
              error_class = i.value ->> 13, error_code = i.value ->> 14,
              error_message = i.value ->> 15, error_fingerprint = i.value ->> 16,
              failed_at_ms = i.value ->> 17, in_doubt = i.value ->> 18,
              updated_at_ms = i.value ->> 19, claim_preparing = i.value ->> 20,
              swept_at_ms = NULL, version = version + 1
            FROM json_each($1) AS i
            WHERE orders.shop = i.value ->> 0 AND orders.order_id = i.value ->> 1
              AND orders.version = i.value ->> 2";
        let args = records.iter().map(|record| {
            let failure = record.last_failure.as_ref();
            sql_args![
                record.key.shop.as_str(),
                record.key.order_id.as_str(),
                record.version,
                record.phase.state().as_str(),
                record.phase.name(),
                record.phase.due_at(),
                record.fail_count,
                int(record.max_count.map(i64::from)),
                record.last_attempt,
                record.claim.as_ref().map(|claim| claim.worker.as_str()),
                int(record.claim.as_ref().map(|claim| claim.attempt.into())),
                record.claim.as_ref().map(|claim| claim.until),
                record.unclear_since,
                failure.map(|failure| failure.summary.class.as_str()),
                failure.map(|failure| failure.summary.code.as_str()),
                failure.map(|failure| failure.summary.message.as_str()),
                failure.map(|failure| failure.summary.fingerprint.as_str()),
                failure.map(|failure| failure.at),
                i64::from(failure.is_some_and(|failure| failure.in_doubt)),
                record.updated_at,
                record.claim.as_ref().and_then(Claim::preparing),
            ]
        });
        self.execute(&sql.into(), batch(args)).await
    }

    async fn confirm(&mut self, rows: &[&ConfirmRequest]) -> Result<Vec<Row>, StoreError> {
        let was = "SELECT o.shop, o.order_id, o.phase, o.erp_order_id, o.fail_count,
              COALESCE(o.phase = 'transferred' AND o.erp_order_id <> (i.value ->> 7)
                AND NOT EXISTS (
                  SELECT 1
                  FROM second_entries AS s
                  WHERE s.shop = o.shop AND s.order_id = o.order_id AND s.number = i.value ->> 7), 0)
            FROM json_each($1) AS i
            CROSS JOIN orders AS o ON o.shop = i.value ->> 0 AND o.order_id = i.value ->> 1";
        let tried = "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, worker,
              request, http_status, erp_order_id, found, occurred_at_ms, duration_ms)
            SELECT o.shop, o.order_id, i.value ->> 2, 'succeeded', i.value ->> 3, i.value ->> 4,
              i.value ->> 5, i.value ->> 6, i.value ->> 7, i.value ->> 8, i.value ->> 9, i.value ->> 10
            FROM json_each($1) AS i
            CROSS JOIN orders AS o ON o.shop = i.value ->> 0 AND o.order_id = i.value ->> 1
            WHERE o.phase <> 'transferred' OR o.erp_order_id IS NOT i.value ->> 7
            ON CONFLICT DO NOTHING";
        let done = "UPDATE orders
            SET state = 'confirmed', phase = 'transferred', due_at_ms = NULL,
              erp_order_id = i.value ->> 7, last_attempt = MAX(last_attempt, i.value ->> 2),
              claim_worker = NULL, claim_attempt = NULL, claimed_until_ms = NULL,
              unclear_since_ms = NULL, updated_at_ms = i.value ->> 9, version = version + 1
            FROM json_each($1) AS i
            WHERE orders.shop = i.value ->> 0 AND orders.order_id = i.value ->> 1
              AND phase <> 'transferred'";
        let twice =
            "INSERT INTO second_entries (shop, order_id, number, first_number, attempt, worker, at_ms)
            SELECT o.shop, o.order_id, i.value ->> 7, o.erp_order_id, i.value ->> 2, i.value ->> 4,
              i.value ->> 9
            FROM json_each($1) AS i
            CROSS JOIN orders AS o ON o.shop = i.value ->> 0 AND o.order_id = i.value ->> 1
            WHERE o.phase = 'transferred' AND o.erp_order_id <> i.value ->> 7
            ON CONFLICT DO NOTHING";
        let args = batch(rows.iter().map(|r| {
            sql_args![
                r.key.shop.as_str(),
                r.key.order_id.as_str(),
                r.attempt,
                r.trigger.as_str(),
                &r.worker,
                &r.request,
                u32::from(r.status),
                r.erp_order_id.as_deref(),
                i64::from(r.found),
                r.now,
                i64::try_from(r.duration_ms).unwrap_or(i64::MAX),
            ]
        }));
        let before = self.fetch(&was.into(), args.clone()).await?;
        self.execute(&tried.into(), args.clone()).await?;
        let done = self.execute(&done.into(), args.clone()).await?;
        if done < before.len() as u64 {
            // Some were there before, perhaps under another number.
            self.execute(&twice.into(), args).await?;
        }
        Ok(before)
    }

    async fn insert_failures(
        &mut self,
        rows: &[&FailureRequest],
    ) -> Result<HashSet<(OrderKey, u32)>, StoreError> {
        let sql = "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, worker,
              error_class, error_code, error_message, stage, request, http_status, occurred_at_ms,
              duration_ms)
            VALUES ($1, $2, $3, 'failed', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            ON CONFLICT DO NOTHING";
        let mut inserted = HashSet::new();
        for r in rows {
            let args = sql_args![
                r.key.shop.as_str(),
                r.key.order_id.as_str(),
                r.failed.attempt,
                r.trigger.as_str(),
                r.failed.worker.as_deref(),
                r.failed.failure.class.as_str(),
                &r.failed.failure.code,
                &r.failed.failure.message,
                r.failed.failure.stage.map(|stage| stage.as_str()),
                r.failed.failure.request.as_deref(),
                int(r.failed.failure.status.map(i64::from)),
                r.failed.occurred_at,
                i64::try_from(r.duration_ms).unwrap_or(i64::MAX),
            ];
            if self.execute(&sql.into(), args).await? > 0 {
                inserted.insert((r.key.clone(), r.failed.attempt));
            }
        }
        Ok(inserted)
    }

    async fn insert_exchanges(&mut self, rows: &[&KeepRequest]) -> Result<(), StoreError> {
        let sql = "INSERT INTO exchanges (shop, order_id, worker, seq, attempt, step, question,
              method, url, request_headers, request_body, http_status, stage, meaning, message,
              reply, duration_ms, at_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
            ON CONFLICT DO NOTHING";
        for r in rows {
            for (seq, x) in (0i64..).zip(&r.exchanges) {
                let args = sql_args![
                    r.key.shop.as_str(),
                    r.key.order_id.as_str(),
                    &r.worker,
                    seq,
                    r.attempt,
                    &x.step,
                    i64::from(x.question),
                    &x.method,
                    &x.url,
                    &x.request_headers,
                    &x.request_body,
                    int(x.status.map(i64::from)),
                    x.stage.as_str(),
                    &x.meaning,
                    x.message.as_deref(),
                    &x.reply,
                    i64::try_from(x.duration_ms).unwrap_or(i64::MAX),
                    r.now,
                ];
                self.execute(&sql.into(), args).await?;
            }
        }
        Ok(())
    }

    async fn insert_notices(&mut self, rows: &[Notice]) -> Result<(), StoreError> {
        let sql = "INSERT INTO notices (id, kind, shop, order_id, detail, due_at_ms, created_at_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $6)
            ON CONFLICT DO NOTHING";
        for notice in rows {
            let args = sql_args![
                &notice.id,
                notice.kind.as_str(),
                &notice.detail.shop,
                notice.detail.order_id.as_deref(),
                schema::notice_detail(notice)?,
                notice.created_at,
            ];
            self.execute(&sql.into(), args).await?;
        }
        Ok(())
    }
}

fn query(sql: &Sql, args: Vec<Value>) -> Query<'_, Sqlite, SqliteArguments<'_>> {
    args.into_iter().fold(sqlx::query(sql.text()), |query, arg| match arg {
        Value::Int(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn row(row: &SqliteRow) -> Result<Row, StoreError> {
    let value = |index: usize| -> Result<Value, sqlx::Error> {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Text(None));
        }
        Ok(match raw.type_info().name() {
            "INTEGER" => Value::Int(row.try_get(index)?),
            "BLOB" => Value::Bytes(row.try_get(index)?),
            _ => Value::Text(row.try_get(index)?),
        })
    };
    let values = (0..row.len()).map(value).collect::<Result<_, _>>().map_err(read_failed)?;
    Ok(Row::new(values))
}

/// Rows as one argument, a JSON array of arrays, which `json_each` takes apart again: each statement goes to
/// another thread and back, whatever it does there.
fn batch(rows: impl Iterator<Item = Vec<Value>>) -> Vec<Value> {
    let value = |value| match value {
        Value::Int(number) => serde_json::Value::from(number),
        Value::Text(text) => serde_json::Value::from(text),
        Value::Bytes(bytes) => serde_json::Value::from(bytes),
    };
    let rows = rows.map(|row| row.into_iter().map(value).collect::<Vec<_>>());
    let rows: Vec<_> = rows.map(serde_json::Value::from).collect();
    sql_args![serde_json::Value::from(rows).to_string()]
}

fn by_key(keys: &[OrderKey]) -> Vec<Value> {
    batch(keys.iter().map(|key| sql_args![key.shop.as_str(), key.order_id.as_str()]))
}

fn int(number: Option<i64>) -> Value {
    Value::Int(number)
}
