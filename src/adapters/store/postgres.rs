//! PostgreSQL: every statement of the hot path takes a whole batch as arrays.
//!
//! `sqlite.rs` mirrors this file, function by function.

use std::collections::HashSet;
use std::str::FromStr;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{Column, Row as _, TypeInfo, ValueRef};

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::money::Sum;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::erp::Exchange;
use crate::ports::notices::Notice;
use crate::ports::orders::{ConfirmRequest, FailureRequest, KeepRequest, Placed};
use crate::ports::schema::{CopyTold, SchemaStatus};
use crate::ports::store_error::StoreError;

use crate::sql_args;

use super::connections::{Connections, Leased, Line, PoolRule};
use super::db::{Db, PlainWrites, Row, Sql, Tx, Value, storable};
use super::rows::{self, EDITED, ORDER_COLUMNS};
use super::schema::{self, searched, skus};
use super::sorting::read_failed;

const MIGRATIONS: [(&str, &str); 16] = [
    ("0001_ledger", include_str!("../../../migrations/postgres/0001_ledger.sql")),
    ("0002_exchanges", include_str!("../../../migrations/postgres/0002_exchanges.sql")),
    ("0003_figures", include_str!("../../../migrations/postgres/0003_figures.sql")),
    (
        "0004_revisions_and_redrives",
        include_str!("../../../migrations/postgres/0004_revisions_and_redrives.sql"),
    ),
    ("0005_people", include_str!("../../../migrations/postgres/0005_people.sql")),
    ("0006_search", include_str!("../../../migrations/postgres/0006_search.sql")),
    ("0007_second_entries", include_str!("../../../migrations/postgres/0007_second_entries.sql")),
    ("0008_commit_begun", include_str!("../../../migrations/postgres/0008_commit_begun.sql")),
    ("0009_order_states", include_str!("../../../migrations/postgres/0009_order_states.sql")),
    (
        "0010_insert_only_orders",
        include_str!("../../../migrations/postgres/0010_insert_only_orders.sql"),
    ),
    ("0011_deliveries", include_str!("../../../migrations/postgres/0011_deliveries.sql")),
    ("0012_alarms", include_str!("../../../migrations/postgres/0012_alarms.sql")),
    (
        "0013_total_differences",
        include_str!("../../../migrations/postgres/0013_total_differences.sql"),
    ),
    ("0014_channels", include_str!("../../../migrations/postgres/0014_channels.sql")),
    ("0015_refresh_tokens", include_str!("../../../migrations/postgres/0015_refresh_tokens.sql")),
    ("0016_retention", include_str!("../../../migrations/postgres/0016_retention.sql")),
];

/// The migration that needs `order_states` to be filled.
const INSERT_ONLY_ORDERS: &str = "0010_insert_only_orders";
/// Orders that are copied in one transaction.
const COPIED_AT_ONCE: i64 = 5_000;

/// Columns of `orders` before that migration that go to `order_states`.
const COPIED_COLUMNS: &str = "shop, order_id, state, phase, received_at_ms, updated_at_ms, version, fail_count, \
    last_attempt, in_doubt, revision, erp_order_id, due_at_ms, max_count, claim_worker, claim_attempt, \
    claimed_until_ms, claim_preparing, unclear_since_ms, error_class, error_code, error_message, \
    error_fingerprint, failed_at_ms, swept_at_ms";

/// A PostgreSQL database.
pub struct PostgresDb {
    connections: Connections,
    /// For lists, searches and statistics: however many are asked for, the work has its connections.
    reading: Connections,
    migrator: Migrator,
    /// New orders and receipts, which are written side by side.
    claims: Line,
    receipts: Line,
}

impl PostgresDb {
    /// The database at `urls`, `postgres://…`: the first that can write. Connects when it is used.
    pub fn open(urls: &[&str], rule: PoolRule, reading: PoolRule) -> Result<Self, StoreError> {
        let servers = urls.iter().map(|url| {
            let options = PgConnectOptions::from_str(url).map_err(read_failed)?;
            Ok(options.application_name("order-relay"))
        });
        let servers: Vec<_> = servers.collect::<Result<_, StoreError>>()?;
        Ok(Self {
            connections: Connections::new(servers.clone(), rule)?,
            reading: Connections::new(servers, reading)?,
            migrator: schema::migrator(&MIGRATIONS),
            claims: Line::default(),
            receipts: Line::default(),
        })
    }

    async fn keys(
        &self,
        line: &Line,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<HashSet<OrderKey>, StoreError> {
        let rows = line.fetch_all(&self.connections, query).await?;
        keys(rows.iter().map(row).collect::<Result<_, _>>()?)
    }

    /// Copies where orders stand into `order_states`, beside processes of an older release, in the order of their
    /// keys. A copy that was interrupted goes on where it was; the migration that follows copies what is missing.
    async fn copy_order_states(&self, told: CopyTold<'_>) -> Result<(), StoreError> {
        let all = "SELECT COUNT(*), (SELECT COUNT(*) FROM order_states) FROM orders";
        let mut row = rows::only(self.fetch(&all.into(), Vec::new()).await?)?;
        let (all, mut copied): (u64, u64) = (row.number("count")?, row.number("count")?);
        let last = "SELECT shop, order_id
            FROM order_states
            ORDER BY shop DESC, order_id DESC
            LIMIT 1";
        let some = format!(
            "WITH batch AS (
              SELECT {COPIED_COLUMNS}
              FROM orders
              WHERE (shop, order_id) > ($1, $2)
              ORDER BY shop, order_id
              LIMIT $3),
            copied AS (
              INSERT INTO order_states ({COPIED_COLUMNS})
              SELECT *
              FROM batch
              ON CONFLICT DO NOTHING)
            SELECT shop, order_id, (SELECT COUNT(*) FROM batch)
            FROM batch
            ORDER BY shop DESC, order_id DESC
            LIMIT 1"
        );
        let some = Sql::Built(some);
        let (mut shop, mut order_id) = (String::new(), String::new());
        if let Some(mut row) = self.fetch(&last.into(), Vec::new()).await?.pop() {
            (shop, order_id) = (row.text("shop")?, row.text("order_id")?);
        }
        loop {
            let args = sql_args![&shop, &order_id, COPIED_AT_ONCE];
            let Some(mut row) = self.fetch(&some, args).await?.pop() else { return Ok(()) };
            (shop, order_id) = (row.text("shop")?, row.text("order_id")?);
            copied += row.number::<u64>("count")?;
            told(copied.min(all), all);
        }
    }
}

#[async_trait]
impl Db for PostgresDb {
    type Tx = PostgresTx;
    // PostgreSQL knows how many orders a shop has, and chooses a good plan itself.
    const SHOP_IN_LISTS: &'static str = "shop";
    const FOR_UPDATE: &'static str = "FOR UPDATE";
    const NOW: Option<&'static str> =
        Some("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint AS now_ms");
    const FOR_UPDATE_OF_FREE: &'static str = "FOR UPDATE SKIP LOCKED";
    const KEYS: &'static str = "SELECT k.value ->> 0, k.value ->> 1
        FROM json_array_elements(CAST($1 AS json)) AS k";
    const BODY_HOLDS: &'static str = "POSITION($1 IN body) > 0";
    const WRITERS_END: Option<&'static str> = Some("LOCK TABLE orders IN SHARE MODE");
    const FOLD_COUNTS: &'static [&'static str] = &[
        "WITH taken AS (
              SELECT ctid
              FROM moves
              FOR UPDATE SKIP LOCKED),
            gone AS (
              DELETE FROM moves
              WHERE ctid IN (SELECT ctid FROM taken)
              RETURNING *),
            counted AS (
              INSERT INTO added_counts
                (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
              SELECT shop, CASE WHEN phase IN ('queued', 'held') THEN 'payed'
                  WHEN phase IN ('transferred', 'removed') THEN 'confirmed' ELSE 'ordered_failed' END,
                phase, currency, fingerprint, SUM(orders), SUM(units), SUM(nanos), SUM(unsummed)
              FROM (
                SELECT shop, phase, currency, fingerprint, orders, units, nanos, unsummed
                FROM gone
                UNION ALL
                SELECT shop, was, currency, was_fingerprint, -orders, -units, -nanos, -unsummed
                FROM gone) AS sides
              WHERE phase <> ''
              GROUP BY shop, phase, currency, fingerprint
              HAVING SUM(orders) <> 0 OR SUM(units) <> 0 OR SUM(nanos) <> 0 OR SUM(unsummed) <> 0),
            happened AS (
              INSERT INTO added_activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
              SELECT at_ms - at_ms % 60000, 0, shop, what,
                CASE WHEN what = 'failed' THEN fingerprint ELSE '' END,
                SUM(CASE WHEN what = 'failed' THEN failures ELSE orders END), MAX(at_ms)
              FROM gone
              WHERE what <> ''
              GROUP BY 1, 3, 4, 5),
            seen AS (
              INSERT INTO failure_types (shop, fingerprint, first_ms, last_ms)
              SELECT shop, fingerprint, MIN(at_ms), MAX(at_ms)
              FROM gone
              WHERE what = 'failed' AND fingerprint <> ''
              GROUP BY shop, fingerprint
              ORDER BY shop, fingerprint
              ON CONFLICT (shop, fingerprint) DO UPDATE SET
                last_ms = GREATEST(failure_types.last_ms, excluded.last_ms))
            INSERT INTO added_tallies (shop, shard, received)
            SELECT shop, 0, SUM(orders)
            FROM gone
            WHERE what = 'received'
            GROUP BY shop
            ORDER BY shop
            ON CONFLICT (shop, shard) DO UPDATE SET
              received = added_tallies.received + excluded.received",
        "WITH taken AS (
              SELECT ctid
              FROM added_counts
              WHERE (
                SELECT COUNT(*) > 200 + 2 * COUNT(DISTINCT (shop, state, phase, currency, fingerprint))
                FROM added_counts)
              FOR UPDATE SKIP LOCKED),
            gone AS (
              DELETE FROM added_counts
              WHERE ctid IN (SELECT ctid FROM taken)
              RETURNING *)
            INSERT INTO added_counts
              (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
            SELECT shop, state, phase, currency, fingerprint, SUM(orders), SUM(units), SUM(nanos),
              SUM(unsummed)
            FROM gone
            GROUP BY shop, state, phase, currency, fingerprint
            HAVING SUM(orders) <> 0 OR SUM(units) <> 0 OR SUM(nanos) <> 0 OR SUM(unsummed) <> 0",
    ];
    const FOLD_ACTIVITY: &'static [&'static str] = &["WITH taken AS (
              SELECT ctid
              FROM added_activity
              WHERE minutes = $1 AND bucket_ms < $3
              FOR UPDATE SKIP LOCKED),
            gone AS (
              DELETE FROM added_activity
              WHERE ctid IN (SELECT ctid FROM taken)
              RETURNING *, bucket_ms - bucket_ms % ($2 * 60000) AS begins)
            INSERT INTO added_activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
            SELECT begins, $2, shop, what, fingerprint, SUM(orders), MAX(last_ms)
            FROM gone
            GROUP BY begins, shop, what, fingerprint"];

    async fn begin(&self) -> Result<PostgresTx, StoreError> {
        let mut leased = self.connections.lease().await?;
        leased.begin().await?;
        Ok(PostgresTx(leased))
    }

    async fn fetch(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let rows = self.connections.lease().await?.fetch_all(query(sql, args)).await?;
        rows.iter().map(row).collect()
    }

    async fn read(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let rows = self.reading.lease().await?.fetch_all(query(sql, args)).await?;
        rows.iter().map(row).collect()
    }

    async fn execute(&self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let done = self.connections.lease().await?.execute(query(sql, args)).await?;
        Ok(done.rows_affected())
    }

    fn plain(&self) -> Option<&dyn PlainWrites> {
        Some(self)
    }

    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        self.connections.refuse_shared_sessions().await?;
        let applied = self.fetch(&schema::APPLIED.into(), Vec::new()).await;
        schema::status(applied, &self.migrator, false)
    }

    async fn migrate(&self, told: CopyTold<'_>) -> Result<Vec<String>, StoreError> {
        let pending = self.schema_status().await?.pending;
        let pool = &self.connections.pool;
        if pending.iter().any(|name| name == INSERT_ONLY_ORDERS) {
            let before = schema::before(&self.migrator, 10);
            before.run(pool).await.map_err(|e| self.connections.read(e.into()))?;
            self.copy_order_states(told).await?;
        }
        self.migrator.run(pool).await.map_err(|e| self.connections.read(e.into()))?;
        Ok(pending)
    }
}

#[async_trait]
impl PlainWrites for PostgresDb {
    async fn insert_orders(
        &self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        self.keys(&self.claims, insert_orders(rows)).await
    }

    async fn confirm_plain(
        &self,
        rows: &[&ConfirmRequest],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        self.keys(&self.receipts, receipts(sqlx::query(CONFIRM_PLAIN), rows)).await
    }
}

/// A transaction in PostgreSQL.
pub struct PostgresTx(Leased);

impl PostgresTx {
    async fn rows(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<Row>, StoreError> {
        self.0.fetch_all(query).await?.iter().map(row).collect()
    }
}

#[async_trait]
impl Tx for PostgresTx {
    async fn fetch(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.rows(query(sql, args)).await
    }

    async fn execute(&mut self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        Ok(self.0.execute(query(sql, args)).await?.rows_affected())
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.0.commit().await
    }

    async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        keys(self.rows(insert_orders(rows)).await?)
    }

    async fn lock(&mut self, keys: &[OrderKey]) -> Result<(), StoreError> {
        let sql = "SELECT CAST(1 AS BIGINT)
            FROM order_states
            WHERE (shop, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            ORDER BY shop COLLATE \"C\", order_id COLLATE \"C\"
            FOR UPDATE";
        self.rows(sqlx::query(sql).bind(shops(keys)).bind(order_ids(keys))).await.map(drop)
    }

    async fn load(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        // In a statement of its own: the next one sees what the last holder of a lock has written.
        self.lock(keys).await?;
        // OFFSET 0 keeps the planner from reading all orders when the tables were small a moment ago.
        let sql = format!(
            "SELECT {ORDER_COLUMNS}, digest
            FROM unnest($1::text[], $2::text[]) AS k (of_shop, number)
            CROSS JOIN LATERAL (
              SELECT * FROM order_rows WHERE shop = k.of_shop AND order_id = k.number OFFSET 0) AS o"
        );
        let query = sqlx::query(&sql).bind(shops(keys)).bind(order_ids(keys));
        self.rows(query).await
    }

    async fn documents(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "SELECT shop, order_id, document, {EDITED}
            FROM order_rows AS o
            WHERE (shop, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
        );
        self.rows(sqlx::query(&sql).bind(shops(keys)).bind(order_ids(keys))).await
    }

    async fn save(&mut self, records: &[&OrderRecord]) -> Result<u64, StoreError> {
        let sql = "INSERT INTO order_states AS s (shop, order_id, version, state, phase, due_at_ms,
              fail_count, max_count, last_attempt, claim_worker, claim_attempt, claimed_until_ms,
              unclear_since_ms, error_class, error_code, error_message, error_fingerprint, failed_at_ms,
              in_doubt, updated_at_ms, claim_preparing, received_at_ms, revision)
            SELECT *
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
              $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[],
              $13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bigint[],
              $19::bigint[], $20::bigint[], $21::text[], $22::bigint[], $23::bigint[])
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
            WHERE s.version = excluded.version - 1";
        let of = |get: fn(&OrderRecord) -> &str| texts(records.iter().map(|r| Some(get(r))));
        let maybe = |get: fn(&OrderRecord) -> Option<&str>| texts(records.iter().map(|r| get(r)));
        let int = |get: fn(&OrderRecord) -> Option<i64>| ints(records.iter().map(|r| get(r)));
        let query = sqlx::query(sql)
            .bind(of(|r| r.key.shop.as_str()))
            .bind(of(|r| r.key.order_id.as_str()))
            .bind(int(|r| Some(r.version + 1)))
            .bind(of(|r| r.phase.state().as_str()))
            .bind(of(|r| r.phase.name()))
            .bind(int(|r| Some(r.phase.due_at()?.as_millisecond())))
            .bind(int(|r| Some(r.fail_count.into())))
            .bind(int(|r| r.max_count.map(i64::from)))
            .bind(int(|r| Some(r.last_attempt.into())))
            .bind(maybe(|r| Some(r.claim.as_ref()?.worker.as_str())))
            .bind(int(|r| Some(r.claim.as_ref()?.attempt.into())))
            .bind(int(|r| Some(r.claim.as_ref()?.until.as_millisecond())))
            .bind(int(|r| Some(r.unclear_since?.as_millisecond())))
            .bind(maybe(|r| Some(r.last_failure.as_ref()?.summary.class.as_str())))
            .bind(maybe(|r| Some(r.last_failure.as_ref()?.summary.code.as_str())))
            .bind(maybe(|r| Some(r.last_failure.as_ref()?.summary.message.as_str())))
            .bind(maybe(|r| Some(r.last_failure.as_ref()?.summary.fingerprint.as_str())))
            .bind(int(|r| Some(r.last_failure.as_ref()?.at.as_millisecond())))
            .bind(int(|r| Some(r.last_failure.as_ref().is_some_and(|f| f.in_doubt).into())))
            .bind(int(|r| Some(r.updated_at.as_millisecond())))
            .bind(maybe(|r| r.claim.as_ref()?.preparing()))
            .bind(int(|r| Some(r.received_at.as_millisecond())))
            .bind(int(|r| Some(r.revision.into())));
        let done = self.0.execute(query).await?;
        Ok(done.rows_affected())
    }

    async fn confirm_plain(
        &mut self,
        rows: &[&ConfirmRequest],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        keys(self.rows(receipts(sqlx::query(CONFIRM_PLAIN), rows)).await?)
    }

    async fn confirm_known(&mut self, rows: &[&ConfirmRequest]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "WITH i AS (SELECT * FROM {RECEIPTS}),
            was AS (
              SELECT s.shop, s.order_id, s.phase, s.state, s.error_fingerprint, s.erp_order_id,
                s.fail_count, s.attempt
              FROM order_states AS s JOIN i USING (shop, order_id)
              ORDER BY s.shop COLLATE \"C\", s.order_id COLLATE \"C\"
              FOR UPDATE OF s),
            done AS (
              UPDATE order_states AS s
              SET state = 'confirmed', phase = 'transferred', due_at_ms = NULL,
                erp_order_id = i.erp_order_id, last_attempt = GREATEST(s.last_attempt, i.attempt),
                claim_worker = NULL, claim_attempt = NULL, claimed_until_ms = NULL,
                unclear_since_ms = NULL, updated_at_ms = i.now, version = s.version + 1,
                attempt = i.attempt, triggered_by = i.trigger, worker = i.worker, request = i.request,
                http_status = i.status, found = i.found, duration_ms = i.duration
              FROM i
              WHERE s.shop = i.shop AND s.order_id = i.order_id AND s.phase <> 'transferred'),
            tried AS (
              INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, worker, request,
                http_status, erp_order_id, found, occurred_at_ms, duration_ms)
              SELECT i.shop, i.order_id, i.attempt, 'succeeded', i.trigger, i.worker, i.request,
                i.status, i.erp_order_id, i.found, i.now, i.duration
              FROM i JOIN was USING (shop, order_id)
              WHERE was.phase = 'transferred' AND was.erp_order_id IS DISTINCT FROM i.erp_order_id
                AND was.attempt IS DISTINCT FROM i.attempt
              ON CONFLICT DO NOTHING),
            twice AS (
              INSERT INTO second_entries (shop, order_id, number, first_number, attempt, worker, at_ms)
              SELECT i.shop, i.order_id, i.erp_order_id, was.erp_order_id, i.attempt, i.worker, i.now
              FROM i JOIN was USING (shop, order_id)
              WHERE was.phase = 'transferred' AND was.erp_order_id <> i.erp_order_id
              ON CONFLICT DO NOTHING
              RETURNING shop, order_id)
            SELECT w.shop, w.order_id, w.phase, w.state, w.error_fingerprint, w.erp_order_id,
              w.fail_count, o.currency, o.total,
              CAST(CASE WHEN t.shop IS NULL THEN 0 ELSE 1 END AS BIGINT)
            FROM was AS w
            JOIN orders AS o ON o.shop = w.shop AND o.order_id = w.order_id
            LEFT JOIN twice AS t ON t.shop = w.shop AND t.order_id = w.order_id"
        );
        let query = receipts(sqlx::query(&sql), rows);
        self.rows(query).await
    }

    async fn insert_failures(
        &mut self,
        rows: &[&FailureRequest],
    ) -> Result<HashSet<(OrderKey, u32)>, StoreError> {
        let sql = "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, worker,
              error_class, error_code, error_message, stage, request, http_status, occurred_at_ms,
              duration_ms)
            SELECT i.shop, i.order_id, i.attempt, 'failed', i.trigger, i.worker,
              i.class, i.code, i.message, i.stage, i.request, i.status, i.occurred_at, i.duration
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
              $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[],
              $13::bigint[])
              AS i (shop, order_id, attempt, trigger, worker, class, code, message, stage, request,
                status, occurred_at, duration)
            ON CONFLICT DO NOTHING
            RETURNING shop, order_id, attempt";
        let of = |get: fn(&FailureRequest) -> &str| texts(rows.iter().map(|r| Some(get(r))));
        let maybe = |get: fn(&FailureRequest) -> Option<&str>| texts(rows.iter().map(|r| get(r)));
        let int = |get: fn(&FailureRequest) -> Option<i64>| ints(rows.iter().map(|r| get(r)));
        let query = sqlx::query(sql)
            .bind(of(|r| r.key.shop.as_str()))
            .bind(of(|r| r.key.order_id.as_str()))
            .bind(int(|r| Some(r.failed.attempt.into())))
            .bind(of(|r| r.trigger.as_str()))
            .bind(maybe(|r| r.failed.worker.as_deref()))
            .bind(of(|r| r.failed.failure.class.as_str()))
            .bind(of(|r| r.failed.failure.code.as_str()))
            .bind(of(|r| r.failed.failure.message.as_str()))
            .bind(maybe(|r| r.failed.failure.stage.map(|stage| stage.as_str())))
            .bind(maybe(|r| r.failed.failure.request.as_deref()))
            .bind(int(|r| r.failed.failure.status.map(i64::from)))
            .bind(int(|r| Some(r.failed.occurred_at.as_millisecond())))
            .bind(int(|r| Some(i64::try_from(r.duration_ms).unwrap_or(i64::MAX))));
        self.rows(query)
            .await?
            .iter_mut()
            .map(|row| Ok((rows::order_key(row)?, row.number("attempt")?)))
            .collect()
    }

    async fn insert_exchanges(&mut self, rows: &[&KeepRequest]) -> Result<(), StoreError> {
        let sql = "INSERT INTO exchanges (shop, order_id, worker, seq, attempt, step, question,
              method, url, request_headers, request_body, http_status, stage, meaning, message,
              reply, duration_ms, at_ms)
            SELECT *
            FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[],
              $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[],
              $13::text[], $14::text[], $15::text[], $16::text[], $17::bigint[], $18::bigint[])
            ON CONFLICT DO NOTHING";
        let all: Vec<(&KeepRequest, i64, &Exchange)> = rows
            .iter()
            .flat_map(|r| (0i64..).zip(&r.exchanges).map(move |(seq, x)| (*r, seq, x)))
            .collect();
        let of = |get: fn(&KeepRequest) -> &str| texts(all.iter().map(|(r, ..)| Some(get(r))));
        let text = |get: fn(&Exchange) -> &str| texts(all.iter().map(|(.., x)| Some(get(x))));
        let int = |get: fn(&Exchange) -> Option<i64>| ints(all.iter().map(|(.., x)| get(x)));
        let query = sqlx::query(sql)
            .bind(of(|r| r.key.shop.as_str()))
            .bind(of(|r| r.key.order_id.as_str()))
            .bind(of(|r| r.worker.as_str()))
            .bind(ints(all.iter().map(|(_, seq, _)| Some(*seq))))
            .bind(ints(all.iter().map(|(r, ..)| Some(r.attempt.into()))))
            .bind(text(|x| x.step.as_str()))
            .bind(int(|x| Some(i64::from(x.question))))
            .bind(text(|x| x.method.as_str()))
            .bind(text(|x| x.url.as_str()))
            .bind(text(|x| x.request_headers.as_str()))
            .bind(text(|x| x.request_body.as_str()))
            .bind(int(|x| x.status.map(i64::from)))
            .bind(text(|x| x.stage.as_str()))
            .bind(text(|x| x.meaning.as_str()))
            .bind(texts(all.iter().map(|(.., x)| x.message.as_deref())))
            .bind(text(|x| x.reply.as_str()))
            .bind(int(|x| i64::try_from(x.duration_ms).ok()))
            .bind(ints(all.iter().map(|(r, ..)| Some(r.now.as_millisecond()))));
        self.0.execute(query).await?;
        Ok(())
    }

    async fn insert_notices(&mut self, rows: &[Notice]) -> Result<(), StoreError> {
        let sql = "INSERT INTO notices (id, kind, shop, order_id, detail, due_at_ms, created_at_ms)
            SELECT i.id, i.kind, i.shop, i.order_id, i.detail, i.created_at, i.created_at
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
              AS i (id, kind, shop, order_id, detail, created_at)
            ON CONFLICT DO NOTHING";
        let of = |get: fn(&Notice) -> Option<&str>| texts(rows.iter().map(get));
        let details = rows.iter().map(schema::notice_detail).collect::<Result<Vec<_>, _>>()?;
        let query = sqlx::query(sql)
            .bind(of(|n| Some(n.id.as_str())))
            .bind(of(|n| Some(n.kind.as_str())))
            .bind(of(|n| Some(n.detail.shop.as_str())))
            .bind(of(|n| n.detail.order_id.as_deref()))
            .bind(details)
            .bind(ints(rows.iter().map(|n| Some(n.created_at.as_millisecond()))));
        self.0.execute(query).await?;
        Ok(())
    }
}

fn query(sql: &Sql, args: Vec<Value>) -> Query<'_, Postgres, PgArguments> {
    args.into_iter().fold(sqlx::query(sql.text()), |query, arg| match arg {
        Value::Int(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn row(row: &PgRow) -> Result<Row, StoreError> {
    let value = |index: usize| -> Result<Value, sqlx::Error> {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Text(None));
        }
        Ok(match row.column(index).type_info().name() {
            "INT8" => Value::Int(row.try_get(index)?),
            "BYTEA" => Value::Bytes(row.try_get(index)?),
            _ => Value::Text(row.try_get(index)?),
        })
    };
    let values = (0..row.len()).map(value).collect::<Result<_, _>>().map_err(read_failed)?;
    Ok(Row::new(values))
}

/// Confirms orders that have no state yet, and counts them. OFFSET 0 keeps the planner from reading all orders when the
/// tables were small a moment ago.
const CONFIRM_PLAIN: &str = "WITH known AS MATERIALIZED (
      SELECT i.*, o.*
      FROM unnest(
        (SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::text[]),
        (SELECT $5::text[]), (SELECT $6::text[]), (SELECT $7::text[]), (SELECT $8::bigint[]),
        (SELECT $9::bigint[]), (SELECT $10::bigint[]), (SELECT $11::bigint[]))
        AS i (shop, order_id, attempt, trigger, worker, erp_order_id, request, status, duration,
          found, now)
      CROSS JOIN LATERAL (
        SELECT received_at_ms, currency, COALESCE(units, total_units(total), 0) AS units,
          COALESCE(nanos, total_nanos(total), 0) AS nanos,
          COALESCE(unsummed,
            CAST(CASE WHEN total_units(total) IS NULL THEN 1 ELSE 0 END AS BIGINT)) AS unsummed
        FROM orders
        WHERE shop = i.shop AND order_id = i.order_id
        OFFSET 0) AS o),
    new AS (
      INSERT INTO order_states (shop, order_id, state, phase, received_at_ms, updated_at_ms,
        last_attempt, erp_order_id, attempt, triggered_by, worker, request, http_status, found,
        duration_ms)
      SELECT shop, order_id, 'confirmed', 'transferred', received_at_ms, now, attempt,
        erp_order_id, attempt, trigger, worker, request, status, found, duration
      FROM known
      ON CONFLICT DO NOTHING
      RETURNING shop, order_id),
    moved AS (
      INSERT INTO moves (at_ms, shop, currency, was, was_fingerprint, phase, fingerprint, what,
        failures, orders, units, nanos, unsummed)
      SELECT MAX(now), shop, currency, 'queued', '', 'transferred', '', 'confirmed', 0, COUNT(*),
        SUM(units), SUM(nanos), SUM(unsummed)
      FROM known JOIN new USING (shop, order_id)
      GROUP BY shop, currency, now / 60000)
    SELECT shop, order_id
    FROM new";

/// The statement that inserts orders and counts them as received; not those that are gone (`gone.rs`), each looked up by
/// its key (OFFSET 0). Its arguments are subqueries as in [`RECEIPTS`].
fn insert_orders<'q>(rows: &[(&Placed, &OrderRecord)]) -> Query<'q, Postgres, PgArguments> {
    let sql = "WITH new AS (
          INSERT INTO orders (shop, order_id, claim_worker, claimed_until_ms, claim_preparing,
            placed_at_ms, currency, total, units, nanos, unsummed, customer_number, customer_name,
            customer_email, customer_locale, payment, skus, traceparent, tracestate, received_at_ms,
            source, search_text, digest, document)
          SELECT *
          FROM unnest(
            (SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::bigint[]),
            (SELECT $5::text[]), (SELECT $6::bigint[]), (SELECT $7::text[]), (SELECT $8::text[]),
            (SELECT $9::bigint[]), (SELECT $10::bigint[]), (SELECT $11::bigint[]), (SELECT $12::text[]),
            (SELECT $13::text[]), (SELECT $14::text[]), (SELECT $15::text[]), (SELECT $16::text[]),
            (SELECT $17::text[]), (SELECT $18::text[]), (SELECT $19::text[]), (SELECT $20::bigint[]),
            (SELECT $21::text[]), (SELECT $22::text[]), (SELECT $23::bytea[]), (SELECT $24::text[]))
            AS i (of_shop, number)
          WHERE NOT EXISTS (
            SELECT 1 FROM gone_orders WHERE shop = i.of_shop AND order_id = i.number OFFSET 0)
          ON CONFLICT DO NOTHING
          RETURNING shop, order_id, currency, units, nanos, unsummed, received_at_ms),
        moved AS (
          INSERT INTO moves (at_ms, shop, currency, was, was_fingerprint, phase, fingerprint, what,
            failures, orders, units, nanos, unsummed)
          SELECT MAX(received_at_ms), shop, currency, '', '', 'queued', '', 'received', 0, COUNT(*),
            SUM(units), SUM(nanos), SUM(unsummed)
          FROM new
          GROUP BY shop, currency, received_at_ms / 60000)
        SELECT shop, order_id
        FROM new";
    let of = |get: fn(&OrderRecord) -> &str| texts(rows.iter().map(|(_, r)| Some(get(r))));
    let maybe = |get: fn(&OrderRecord) -> Option<&str>| texts(rows.iter().map(|(_, r)| get(r)));
    let int = |get: fn(&OrderRecord) -> Option<i64>| ints(rows.iter().map(|(_, r)| get(r)));
    let sums: Vec<Sum> = rows.iter().map(|(_, r)| Sum::of_total(r.facts.total.as_str())).collect();
    sqlx::query(sql)
        .bind(of(|r| r.key.shop.as_str()))
        .bind(of(|r| r.key.order_id.as_str()))
        .bind(maybe(|r| Some(r.claim.as_ref()?.worker.as_str())))
        .bind(int(|r| Some(r.claim.as_ref()?.until.as_millisecond())))
        .bind(maybe(|r| r.claim.as_ref()?.preparing()))
        .bind(int(|r| Some(r.facts.placed_at?.as_millisecond())))
        .bind(of(|r| r.facts.currency.as_str()))
        .bind(of(|r| r.facts.total.as_str()))
        .bind(sums.iter().map(|sum| sum.units).collect::<Vec<_>>())
        .bind(sums.iter().map(|sum| sum.nanos).collect::<Vec<_>>())
        .bind(sums.iter().map(|sum| sum.unsummed).collect::<Vec<_>>())
        .bind(maybe(|r| r.facts.customer.number.as_deref()))
        .bind(maybe(|r| r.facts.customer.name.as_deref()))
        .bind(of(|r| r.facts.customer.email.as_ref().map_or("", Email::as_str)))
        .bind(maybe(|r| r.facts.customer.locale.as_deref()))
        .bind(maybe(|r| r.facts.payment.as_deref()))
        .bind(rows.iter().map(|(placed, _)| storable(&skus(&placed.order))).collect::<Vec<_>>())
        .bind(maybe(|r| r.trace.parent.as_deref()))
        .bind(maybe(|r| r.trace.state.as_deref()))
        .bind(int(|r| Some(r.received_at.as_millisecond())))
        .bind(texts(rows.iter().map(|(placed, _)| Some(placed.source.as_str()))))
        .bind(rows.iter().map(|(_, r)| storable(&searched(r))).collect::<Vec<_>>())
        .bind(rows.iter().map(|(placed, _)| placed.order.digest.to_vec()).collect::<Vec<_>>())
        .bind(texts(rows.iter().map(|(placed, _)| Some(&*placed.order.document))))
}

/// Receipts as a table. Arguments are subqueries so that the planner expects the same number of rows whatever they hold,
/// and keeps one plan: planning each time was a third of PostgreSQL's work at 300 orders a second.
const RECEIPTS: &str = "unnest(
    (SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::text[]),
    (SELECT $5::text[]), (SELECT $6::text[]), (SELECT $7::text[]), (SELECT $8::bigint[]),
    (SELECT $9::bigint[]), (SELECT $10::bigint[]), (SELECT $11::bigint[]))
    AS i (shop, order_id, attempt, trigger, worker, erp_order_id, request, status, duration, found, now)";

/// The arguments of [`RECEIPTS`].
fn receipts<'q>(
    query: Query<'q, Postgres, PgArguments>,
    rows: &[&ConfirmRequest],
) -> Query<'q, Postgres, PgArguments> {
    let of = |get: fn(&ConfirmRequest) -> &str| texts(rows.iter().map(|r| Some(get(r))));
    let int = |get: fn(&ConfirmRequest) -> i64| ints(rows.iter().map(|r| Some(get(r))));
    query
        .bind(of(|r| r.key.shop.as_str()))
        .bind(of(|r| r.key.order_id.as_str()))
        .bind(int(|r| r.attempt.into()))
        .bind(of(|r| r.trigger.as_str()))
        .bind(of(|r| r.worker.as_str()))
        .bind(texts(rows.iter().map(|r| r.erp_order_id.as_deref())))
        .bind(of(|r| r.request.as_str()))
        .bind(int(|r| r.status.into()))
        .bind(int(|r| i64::try_from(r.duration_ms).unwrap_or(i64::MAX)))
        .bind(int(|r| r.found.into()))
        .bind(int(|r| r.now.as_millisecond()))
}

fn keys(rows: Vec<Row>) -> Result<HashSet<OrderKey>, StoreError> {
    rows.into_iter().map(|mut row| rows::order_key(&mut row)).collect()
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Vec<Option<String>> {
    values.map(|text| text.map(storable)).collect()
}

fn ints(values: impl Iterator<Item = Option<i64>>) -> Vec<Option<i64>> {
    values.collect()
}

fn shops(keys: &[OrderKey]) -> Vec<String> {
    keys.iter().map(|key| key.shop.to_string()).collect()
}

fn order_ids(keys: &[OrderKey]) -> Vec<String> {
    keys.iter().map(|key| key.order_id.to_string()).collect()
}
