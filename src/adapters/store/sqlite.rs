//! SQLite: one writer, a pool of readers; WAL with synchronous=FULL, so that what was committed
//! survives a power loss before anything is acknowledged.
//!
//! Mirrors `postgres.rs`, function by function. What every order passes takes a whole batch, as JSON or as arguments;
//! what only some pass is a loop.

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
use crate::domain::money::Sum;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::clock::Stopwatch;
use crate::ports::notices::Notice;
use crate::ports::orders::{ConfirmRequest, FailureRequest, KeepRequest, Placed};
use crate::ports::schema::{CopyTold, SchemaStatus};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, PlainWrites, Row, Sql, Tx, Value};
use super::moves::Moves;
use super::rows::{self, EDITED, ORDER_COLUMNS, places};
use super::schema::{self, searched, skus};
use super::sorting::{read_failed, sqlite_code};

const MIGRATIONS: [(&str, &str); 16] = [
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
    ("0009_order_states", include_str!("../../../migrations/sqlite/0009_order_states.sql")),
    (
        "0010_insert_only_orders",
        include_str!("../../../migrations/sqlite/0010_insert_only_orders.sql"),
    ),
    ("0011_deliveries", include_str!("../../../migrations/sqlite/0011_deliveries.sql")),
    ("0012_alarms", include_str!("../../../migrations/sqlite/0012_alarms.sql")),
    (
        "0013_total_differences",
        include_str!("../../../migrations/sqlite/0013_total_differences.sql"),
    ),
    ("0014_channels", include_str!("../../../migrations/sqlite/0014_channels.sql")),
    ("0015_refresh_tokens", include_str!("../../../migrations/sqlite/0015_refresh_tokens.sql")),
    ("0016_retention", include_str!("../../../migrations/sqlite/0016_retention.sql")),
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
    const KEYS: &'static str = "SELECT value ->> 0, value ->> 1 FROM json_each($1)";
    const BODY_HOLDS: &'static str = "INSTR(body, $1) > 0";
    // There is one writer.
    const WRITERS_END: Option<&'static str> = None;
    const FOLD_COUNTS: &'static [&'static str] = &[
        "INSERT INTO added_counts
              (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
            SELECT shop, CASE WHEN phase IN ('queued', 'held') THEN 'payed'
                WHEN phase IN ('transferred', 'removed') THEN 'confirmed' ELSE 'ordered_failed' END,
              phase, currency, fingerprint, SUM(orders), SUM(units), SUM(nanos), SUM(unsummed)
            FROM (
              SELECT shop, phase, currency, fingerprint, orders, units, nanos, unsummed
              FROM moves
              UNION ALL
              SELECT shop, was, currency, was_fingerprint, -orders, -units, -nanos, -unsummed
              FROM moves) AS sides
            WHERE phase <> ''
            GROUP BY shop, phase, currency, fingerprint
            ON CONFLICT (state, fingerprint, shop, phase, currency) DO UPDATE SET
              orders = orders + excluded.orders, units = units + excluded.units,
              nanos = nanos + excluded.nanos, unsummed = unsummed + excluded.unsummed",
        "INSERT INTO added_activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
            SELECT at_ms - at_ms % 60000 AS begins, 0, shop, what,
              CASE WHEN what = 'failed' THEN fingerprint ELSE '' END AS failure,
              SUM(CASE WHEN what = 'failed' THEN failures ELSE orders END), MAX(at_ms)
            FROM moves
            WHERE what <> ''
            GROUP BY begins, shop, what, failure
            ON CONFLICT (minutes, bucket_ms, shop, what, fingerprint) DO UPDATE SET
              orders = orders + excluded.orders, last_ms = MAX(last_ms, excluded.last_ms)",
        "INSERT INTO added_tallies (shop, shard, received)
            SELECT shop, 0, SUM(orders)
            FROM moves
            WHERE what = 'received'
            GROUP BY shop
            ON CONFLICT (shop, shard) DO UPDATE SET received = received + excluded.received",
        "INSERT INTO failure_types (shop, fingerprint, first_ms, last_ms)
            SELECT shop, fingerprint, MIN(at_ms), MAX(at_ms)
            FROM moves
            WHERE what = 'failed' AND fingerprint <> ''
            GROUP BY shop, fingerprint
            ON CONFLICT (shop, fingerprint) DO UPDATE SET
              last_ms = MAX(last_ms, excluded.last_ms)",
        "DELETE FROM moves",
        "DELETE FROM added_counts
            WHERE orders = 0 AND units = 0 AND nanos = 0 AND unsummed = 0",
    ];
    const FOLD_ACTIVITY: &'static [&'static str] = &[
        "INSERT INTO added_activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
            SELECT bucket_ms - bucket_ms % ($2 * 60000) AS begins, $2, shop, what, fingerprint,
              SUM(orders), MAX(last_ms)
            FROM added_activity
            WHERE minutes = $1 AND bucket_ms < $3
            GROUP BY begins, shop, what, fingerprint
            ON CONFLICT (minutes, bucket_ms, shop, what, fingerprint) DO UPDATE SET
              orders = orders + excluded.orders, last_ms = MAX(last_ms, excluded.last_ms)",
        // $2 is not used here; it keeps the arguments the same as in the other statements.
        "DELETE FROM added_activity
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

    // The database is in this process, and readers are apart from the writer.
    async fn read(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.fetch(sql, args).await
    }

    async fn execute(&self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let done = query(sql, args).execute(&self.writer).await.map_err(read_failed)?;
        Ok(done.rows_affected())
    }

    fn plain(&self) -> Option<&dyn PlainWrites> {
        None
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

    async fn migrate(&self, _: CopyTold<'_>) -> Result<Vec<String>, StoreError> {
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
        let mut inserted = HashSet::new();
        for rows in at_once(rows) {
            let sql = format!(
                "INSERT INTO orders (shop, order_id, claim_worker, claimed_until_ms, claim_preparing,
                  placed_at_ms, currency, total, units, nanos, unsummed, customer_number, customer_name,
                  customer_email, customer_locale, payment, skus, traceparent, tracestate, received_at_ms,
                  source, search_text, digest, document)
                SELECT *
                FROM (VALUES {}) AS i
                WHERE NOT EXISTS (
                  SELECT 1 FROM gone_orders AS g WHERE g.shop = i.column1 AND g.order_id = i.column2)
                ON CONFLICT DO NOTHING
                RETURNING shop, order_id",
                places(rows.len(), 24)
            );
            let args = rows.iter().flat_map(|(placed, record)| {
                let customer = &record.facts.customer;
                let sum = Sum::of_total(record.facts.total.as_str());
                sql_args![
                    record.key.shop.as_str(),
                    record.key.order_id.as_str(),
                    record.claim.as_ref().map(|claim| claim.worker.as_str()),
                    record.claim.as_ref().map(|claim| claim.until),
                    record.claim.as_ref().and_then(Claim::preparing),
                    record.facts.placed_at,
                    record.facts.currency.as_str(),
                    record.facts.total.as_str(),
                    sum.units,
                    sum.nanos,
                    sum.unsummed,
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
                    searched(record),
                    &placed.order.digest[..],
                    &*placed.order.document,
                ]
            });
            for mut row in self.fetch(&Sql::Built(sql), args.collect()).await? {
                inserted.insert(rows::order_key(&mut row)?);
            }
        }
        let mut moves = Moves::default();
        for (_, record) in rows.iter().filter(|(_, record)| inserted.contains(&record.key)) {
            moves.receive(record);
        }
        moves.write(self).await?;
        Ok(inserted)
    }

    // There is one writer.
    async fn lock(&mut self, _: &[OrderKey]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS}, digest
            FROM order_rows
            WHERE (shop, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))"
        );
        self.fetch(&Sql::Built(sql), by_key(keys)).await
    }

    async fn documents(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "SELECT shop, order_id, document, {EDITED}
            FROM order_rows AS o
            WHERE (shop, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))"
        );
        self.fetch(&Sql::Built(sql), by_key(keys)).await
    }

    async fn save(&mut self, records: &[&OrderRecord]) -> Result<u64, StoreError> {
        let sql = "INSERT INTO order_states (shop, order_id, version, state, phase, due_at_ms,
              fail_count, max_count, last_attempt, claim_worker, claim_attempt, claimed_until_ms,
              unclear_since_ms, error_class, error_code, error_message, error_fingerprint, failed_at_ms,
              in_doubt, updated_at_ms, claim_preparing, received_at_ms, revision)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
              value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11,
              value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, value ->> 17,
              value ->> 18, value ->> 19, value ->> 20, value ->> 21, value ->> 22
            FROM json_each($1)
            WHERE TRUE
            ON CONFLICT (shop, order_id) DO UPDATE
            SET version = excluded.version, state = excluded.state, phase = excluded.phase,
              due_at_ms = excluded.due_at_ms, fail_count = excluded.fail_count,
              max_count = excluded.max_count, last_attempt = excluded.last_attempt,
              claim_worker = excluded.claim_worker, claim_attempt = excluded.claim_attempt,
              claimed_until_ms = excluded.claimed_until_ms,
              unclear_since_ms = excluded.unclear_since_ms, error_class = excluded.error_class,
              error_code = excluded.error_code, error_message = excluded.error_message,
              error_fingerprint = excluded.error_fingerprint, failed_at_ms = excluded.failed_at_ms,
              in_doubt = excluded.in_doubt, updated_at_ms = excluded.updated_at_ms,
              claim_preparing = excluded.claim_preparing, revision = excluded.revision,
              swept_at_ms = NULL
            WHERE order_states.version = excluded.version - 1";
        let args = records.iter().map(|record| {
            let failure = record.last_failure.as_ref();
            sql_args![
                record.key.shop.as_str(),
                record.key.order_id.as_str(),
                record.version + 1,
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
                record.received_at,
                record.revision,
            ]
        });
        self.execute(&sql.into(), batch(args)).await
    }

    async fn confirm_plain(
        &mut self,
        rows: &[&ConfirmRequest],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        let sql = "INSERT INTO order_states (shop, order_id, state, phase, received_at_ms, updated_at_ms,
              last_attempt, erp_order_id, attempt, triggered_by, worker, request, http_status, found,
              duration_ms)
            SELECT o.shop, o.order_id, 'confirmed', 'transferred', o.received_at_ms, i.value ->> 9,
              i.value ->> 2, i.value ->> 7, i.value ->> 2, i.value ->> 3, i.value ->> 4, i.value ->> 5,
              i.value ->> 6, i.value ->> 8, i.value ->> 10
            FROM json_each($1) AS i
            CROSS JOIN orders AS o ON o.shop = i.value ->> 0 AND o.order_id = i.value ->> 1
            WHERE TRUE
            ON CONFLICT DO NOTHING
            RETURNING shop, order_id";
        let moved = "INSERT INTO moves (at_ms, shop, currency, was, was_fingerprint, phase, fingerprint,
              what, failures, orders, units, nanos, unsummed)
            SELECT MAX(i.value ->> 2), o.shop, o.currency, 'queued', '', 'transferred', '', 'confirmed', 0,
              COUNT(*), SUM(o.units), SUM(o.nanos), SUM(o.unsummed)
            FROM json_each($1) AS i
            CROSS JOIN orders AS o ON o.shop = i.value ->> 0 AND o.order_id = i.value ->> 1
            GROUP BY o.shop, o.currency, (i.value ->> 2) / 60000";
        let mut new = HashSet::new();
        for mut row in self.fetch(&sql.into(), receipts(rows)).await? {
            new.insert(rows::order_key(&mut row)?);
        }
        let args = rows
            .iter()
            .filter(|r| new.contains(&r.key))
            .map(|r| sql_args![r.key.shop.as_str(), r.key.order_id.as_str(), r.now]);
        if !new.is_empty() {
            self.execute(&moved.into(), batch(args)).await?;
        }
        Ok(new)
    }

    async fn confirm_known(&mut self, rows: &[&ConfirmRequest]) -> Result<Vec<Row>, StoreError> {
        let was = "SELECT s.shop, s.order_id, s.phase, s.state, s.error_fingerprint, s.erp_order_id,
              s.fail_count, o.currency, o.total,
              COALESCE(s.phase = 'transferred' AND s.erp_order_id <> (i.value ->> 7)
                AND NOT EXISTS (
                  SELECT 1
                  FROM second_entries AS e
                  WHERE e.shop = s.shop AND e.order_id = s.order_id AND e.number = i.value ->> 7), 0)
            FROM json_each($1) AS i
            CROSS JOIN order_states AS s ON s.shop = i.value ->> 0 AND s.order_id = i.value ->> 1
            CROSS JOIN orders AS o ON o.shop = s.shop AND o.order_id = s.order_id";
        let tried = "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, worker,
              request, http_status, erp_order_id, found, occurred_at_ms, duration_ms)
            SELECT s.shop, s.order_id, i.value ->> 2, 'succeeded', i.value ->> 3, i.value ->> 4,
              i.value ->> 5, i.value ->> 6, i.value ->> 7, i.value ->> 8, i.value ->> 9, i.value ->> 10
            FROM json_each($1) AS i
            CROSS JOIN order_states AS s ON s.shop = i.value ->> 0 AND s.order_id = i.value ->> 1
            WHERE s.phase = 'transferred' AND s.erp_order_id IS NOT i.value ->> 7
              AND s.attempt IS NOT i.value ->> 2
            ON CONFLICT DO NOTHING";
        let twice =
            "INSERT INTO second_entries (shop, order_id, number, first_number, attempt, worker, at_ms)
            SELECT s.shop, s.order_id, i.value ->> 7, s.erp_order_id, i.value ->> 2, i.value ->> 4,
              i.value ->> 9
            FROM json_each($1) AS i
            CROSS JOIN order_states AS s ON s.shop = i.value ->> 0 AND s.order_id = i.value ->> 1
            WHERE s.phase = 'transferred' AND s.erp_order_id <> i.value ->> 7
            ON CONFLICT DO NOTHING";
        let done = "UPDATE order_states
            SET state = 'confirmed', phase = 'transferred', due_at_ms = NULL,
              erp_order_id = i.value ->> 7, last_attempt = MAX(last_attempt, i.value ->> 2),
              claim_worker = NULL, claim_attempt = NULL, claimed_until_ms = NULL,
              unclear_since_ms = NULL, updated_at_ms = i.value ->> 9, version = version + 1,
              attempt = i.value ->> 2, triggered_by = i.value ->> 3, worker = i.value ->> 4,
              request = i.value ->> 5, http_status = i.value ->> 6, found = i.value ->> 8,
              duration_ms = i.value ->> 10
            FROM json_each($1) AS i
            WHERE order_states.shop = i.value ->> 0 AND order_states.order_id = i.value ->> 1
              AND phase <> 'transferred'";
        let args = receipts(rows);
        let before = self.fetch(&was.into(), args.clone()).await?;
        let done = self.execute(&done.into(), args.clone()).await?;
        if done < before.len() as u64 {
            // Some were there before, perhaps under another number.
            self.execute(&tried.into(), args.clone()).await?;
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
            SELECT value ->> 0, value ->> 1, value ->> 2, 'failed', value ->> 3, value ->> 4,
              value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10,
              value ->> 11, value ->> 12
            FROM json_each($1)
            WHERE TRUE
            ON CONFLICT DO NOTHING
            RETURNING shop, order_id, attempt";
        let args = rows.iter().map(|r| {
            sql_args![
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
            ]
        });
        let inserted = self.fetch(&sql.into(), batch(args)).await?;
        inserted
            .into_iter()
            .map(|mut row| Ok((rows::order_key(&mut row)?, row.number("attempt")?)))
            .collect()
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

/// Receipts as an argument of [`batch`].
fn receipts(rows: &[&ConfirmRequest]) -> Vec<Value> {
    batch(rows.iter().map(|r| {
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
    }))
}

/// Rows in pieces of a few sizes, so that a statement for each is prepared once. Documents would grow by a third as JSON,
/// so their rows are arguments of their own.
fn at_once<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    while !rows.is_empty() {
        let size = [64, 8, 1].into_iter().find(|size| *size <= rows.len()).unwrap_or(1);
        let (piece, rest) = rows.split_at(size);
        pieces.push(piece);
        rows = rest;
    }
    pieces
}

fn by_key(keys: &[OrderKey]) -> Vec<Value> {
    batch(keys.iter().map(|key| sql_args![key.shop.as_str(), key.order_id.as_str()]))
}

fn int(number: Option<i64>) -> Value {
    Value::Int(number)
}
