//! PostgreSQL: every statement of the hot path takes a whole batch as arrays.
//!
//! `sqlite.rs` mirrors this file, function by function.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow, Postgres,
};
use sqlx::query::Query;
use sqlx::{Column, Row as _, Transaction, TypeInfo, ValueRef};

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::erp::Exchange;
use crate::ports::notices::Notice;
use crate::ports::orders::{ConfirmRequest, FailureRequest, KeepRequest, Placed};
use crate::ports::schema::SchemaStatus;
use crate::ports::store_error::StoreError;

use super::db::{Db, Row, Sql, Tx, Value, storable};
use super::read_only::Freshness;
use super::rows::{self, ORDER_COLUMNS};
use super::schema::{self, skus};
use super::sorting::read_failed;

const MIGRATIONS: [(&str, &str); 8] = [
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
];

/// A PostgreSQL database.
pub struct PostgresDb {
    pool: PgPool,
    migrator: Migrator,
    freshness: Freshness,
}

impl PostgresDb {
    /// A pool that connects when it is used. `url` is `postgres://…`.
    pub fn open(url: &str, max_connections: u32, patience: Duration) -> Result<Self, StoreError> {
        let options =
            PgConnectOptions::from_str(url).map_err(read_failed)?.application_name("order-relay");
        let freshness = Freshness::default();
        let pool = PgPoolOptions::new().max_connections(max_connections).acquire_timeout(patience);
        let pool = freshness.guard(pool).connect_lazy_with(options);
        Ok(Self { pool, migrator: schema::migrator(&MIGRATIONS), freshness })
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
    const FOLD_COUNTS: &'static [&'static str] = &["WITH taken AS (
              SELECT ctid
              FROM order_counts
              WHERE (
                SELECT COUNT(*) > 200 + 2 * COUNT(DISTINCT (shop, state, phase, currency, fingerprint))
                FROM order_counts)
              FOR UPDATE SKIP LOCKED),
            gone AS (
              DELETE FROM order_counts
              WHERE ctid IN (SELECT ctid FROM taken)
              RETURNING *)
            INSERT INTO order_counts
              (shop, state, phase, currency, fingerprint, orders, units, nanos, unsummed)
            SELECT shop, state, phase, currency, fingerprint, SUM(orders), SUM(units), SUM(nanos),
              SUM(unsummed)
            FROM gone
            GROUP BY shop, state, phase, currency, fingerprint
            HAVING SUM(orders) <> 0 OR SUM(units) <> 0 OR SUM(nanos) <> 0 OR SUM(unsummed) <> 0"];
    const FOLD_ACTIVITY: &'static [&'static str] = &["WITH taken AS (
              SELECT ctid
              FROM activity
              WHERE minutes = $1 AND bucket_ms < $3
              FOR UPDATE SKIP LOCKED),
            gone AS (
              DELETE FROM activity
              WHERE ctid IN (SELECT ctid FROM taken)
              RETURNING *, bucket_ms - bucket_ms % ($2 * 60000) AS begins)
            INSERT INTO activity (bucket_ms, minutes, shop, what, fingerprint, orders, last_ms)
            SELECT begins, $2, shop, what, fingerprint, SUM(orders), MAX(last_ms)
            FROM gone
            GROUP BY begins, shop, what, fingerprint"];

    async fn begin(&self) -> Result<PostgresTx, StoreError> {
        let tx = self.pool.begin().await.map_err(|e| self.freshness.read(e))?;
        Ok(PostgresTx { tx, freshness: self.freshness.clone() })
    }

    async fn fetch(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let rows =
            query(sql, args).fetch_all(&self.pool).await.map_err(|e| self.freshness.read(e))?;
        rows.iter().map(row).collect()
    }

    async fn execute(&self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let done =
            query(sql, args).execute(&self.pool).await.map_err(|e| self.freshness.read(e))?;
        Ok(done.rows_affected())
    }

    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        let applied = self.fetch(&schema::APPLIED.into(), Vec::new()).await;
        schema::status(applied, &self.migrator, false)
    }

    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let pending = self.schema_status().await?.pending;
        self.migrator.run(&self.pool).await.map_err(|e| self.freshness.read(e.into()))?;
        Ok(pending)
    }
}

/// A transaction in PostgreSQL.
pub struct PostgresTx {
    tx: Transaction<'static, Postgres>,
    freshness: Freshness,
}

impl PostgresTx {
    fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    async fn rows(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = query.fetch_all(self.conn()).await.map_err(|e| self.freshness.read(e))?;
        rows.iter().map(row).collect()
    }
}

#[async_trait]
impl Tx for PostgresTx {
    async fn fetch(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.rows(query(sql, args)).await
    }

    async fn execute(&mut self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let done =
            query(sql, args).execute(self.conn()).await.map_err(|e| self.freshness.read(e))?;
        Ok(done.rows_affected())
    }

    async fn commit(self) -> Result<(), StoreError> {
        let Self { tx, freshness } = self;
        tx.commit().await.map_err(|e| freshness.read(e))
    }

    async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        let sql = "INSERT INTO orders (shop, order_id, state, phase, claim_worker, claim_attempt,
              claimed_until_ms, claim_preparing, placed_at_ms, currency, total, customer_number,
              customer_name, customer_email, customer_locale, payment, skus, traceparent,
              tracestate, received_at_ms, updated_at_ms, source, digest, document)
            SELECT i.shop, i.order_id, i.state, i.phase, i.worker, i.attempt,
              i.until, i.preparing, i.placed_at, i.currency, i.total, i.number, i.name,
              i.email, i.locale, i.payment, i.skus, i.traceparent, i.tracestate, i.received_at,
              i.received_at, i.source, i.digest, i.document
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
              $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[],
              $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
              $19::bigint[], $20::text[], $21::bytea[], $22::text[], $23::text[])
              AS i (shop, order_id, state, phase, worker, attempt, until, placed_at, currency,
                total, number, name, email, locale, payment, skus, traceparent, tracestate,
                received_at, source, digest, document, preparing)
            ON CONFLICT DO NOTHING
            RETURNING shop, order_id";
        let of = |get: fn(&OrderRecord) -> &str| texts(rows.iter().map(|(_, r)| Some(get(r))));
        let maybe = |get: fn(&OrderRecord) -> Option<&str>| texts(rows.iter().map(|(_, r)| get(r)));
        let int = |get: fn(&OrderRecord) -> Option<i64>| ints(rows.iter().map(|(_, r)| get(r)));
        let query = sqlx::query(sql)
            .bind(of(|r| r.key.shop.as_str()))
            .bind(of(|r| r.key.order_id.as_str()))
            .bind(of(|r| r.phase.state().as_str()))
            .bind(of(|r| r.phase.name()))
            .bind(maybe(|r| Some(r.claim.as_ref()?.worker.as_str())))
            .bind(int(|r| Some(r.claim.as_ref()?.attempt.into())))
            .bind(int(|r| Some(r.claim.as_ref()?.until.as_millisecond())))
            .bind(int(|r| Some(r.facts.placed_at?.as_millisecond())))
            .bind(of(|r| r.facts.currency.as_str()))
            .bind(of(|r| r.facts.total.as_str()))
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
            .bind(rows.iter().map(|(placed, _)| placed.order.digest.to_vec()).collect::<Vec<_>>())
            .bind(texts(rows.iter().map(|(placed, _)| Some(&*placed.order.document))))
            .bind(maybe(|r| r.claim.as_ref()?.preparing()));
        self.rows(query).await?.iter_mut().map(rows::order_key).collect()
    }

    async fn lock(&mut self, keys: &[OrderKey]) -> Result<(), StoreError> {
        let sql = "SELECT CAST(1 AS BIGINT)
            FROM orders
            WHERE (shop, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            ORDER BY shop COLLATE \"C\", order_id COLLATE \"C\"
            FOR UPDATE";
        self.rows(sqlx::query(sql).bind(shops(keys)).bind(order_ids(keys))).await.map(drop)
    }

    async fn load(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS}, digest
            FROM orders
            WHERE (shop, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            ORDER BY shop COLLATE \"C\", order_id COLLATE \"C\"
            FOR UPDATE"
        );
        let query = sqlx::query(&sql).bind(shops(keys)).bind(order_ids(keys));
        self.rows(query).await
    }

    async fn documents(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        let sql = "SELECT shop, order_id, document, edited
            FROM orders
            WHERE (shop, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        self.rows(sqlx::query(sql).bind(shops(keys)).bind(order_ids(keys))).await
    }

    async fn save(&mut self, records: &[&OrderRecord]) -> Result<u64, StoreError> {
        let sql = "UPDATE orders AS o
            SET state = i.state, phase = i.phase, due_at_ms = i.due_at, fail_count = i.fail_count,
              max_count = i.max_count, last_attempt = i.last_attempt, claim_worker = i.worker,
              claim_attempt = i.attempt, claimed_until_ms = i.until,
              unclear_since_ms = i.unclear_since, error_class = i.class, error_code = i.code,
              error_message = i.message, error_fingerprint = i.fingerprint,
              failed_at_ms = i.failed_at, in_doubt = i.in_doubt, updated_at_ms = i.updated_at,
              claim_preparing = i.preparing, swept_at_ms = NULL,
              version = o.version + 1
            FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
              $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[],
              $13::bigint[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bigint[],
              $19::bigint[], $20::bigint[], $21::text[])
              AS i (shop, order_id, version, state, phase, due_at, fail_count, max_count,
                last_attempt, worker, attempt, until, unclear_since, class, code, message,
                fingerprint, failed_at, in_doubt, updated_at, preparing)
            WHERE o.shop = i.shop AND o.order_id = i.order_id AND o.version = i.version";
        let of = |get: fn(&OrderRecord) -> &str| texts(records.iter().map(|r| Some(get(r))));
        let maybe = |get: fn(&OrderRecord) -> Option<&str>| texts(records.iter().map(|r| get(r)));
        let int = |get: fn(&OrderRecord) -> Option<i64>| ints(records.iter().map(|r| get(r)));
        let query = sqlx::query(sql)
            .bind(of(|r| r.key.shop.as_str()))
            .bind(of(|r| r.key.order_id.as_str()))
            .bind(int(|r| Some(r.version)))
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
            .bind(maybe(|r| r.claim.as_ref()?.preparing()));
        let done = query.execute(self.conn()).await.map_err(|e| self.freshness.read(e))?;
        Ok(done.rows_affected())
    }

    async fn confirm(&mut self, rows: &[&ConfirmRequest]) -> Result<Vec<Row>, StoreError> {
        let sql = "WITH i AS (
              SELECT *
              FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
                AS t (shop, order_id, attempt, trigger, worker, erp_order_id, request, status,
                  duration, found, now)),
            was AS (
              SELECT o.shop, o.order_id, o.phase, o.erp_order_id, o.fail_count
              FROM orders AS o JOIN i USING (shop, order_id)
              ORDER BY o.shop COLLATE \"C\", o.order_id COLLATE \"C\"
              FOR UPDATE OF o),
            done AS (
              UPDATE orders AS o
              SET state = 'confirmed', phase = 'transferred', due_at_ms = NULL,
                erp_order_id = i.erp_order_id, last_attempt = GREATEST(o.last_attempt, i.attempt),
                claim_worker = NULL, claim_attempt = NULL, claimed_until_ms = NULL,
                unclear_since_ms = NULL, updated_at_ms = i.now, version = o.version + 1
              FROM i
              WHERE o.shop = i.shop AND o.order_id = i.order_id AND o.phase <> 'transferred'),
            tried AS (
              INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, worker, request,
                http_status, erp_order_id, found, occurred_at_ms, duration_ms)
              SELECT i.shop, i.order_id, i.attempt, 'succeeded', i.trigger, i.worker, i.request,
                i.status, i.erp_order_id, i.found, i.now, i.duration
              FROM i JOIN was USING (shop, order_id)
              WHERE was.phase <> 'transferred' OR was.erp_order_id IS DISTINCT FROM i.erp_order_id
              ON CONFLICT DO NOTHING),
            twice AS (
              INSERT INTO second_entries (shop, order_id, number, first_number, attempt, worker, at_ms)
              SELECT i.shop, i.order_id, i.erp_order_id, was.erp_order_id, i.attempt, i.worker, i.now
              FROM i JOIN was USING (shop, order_id)
              WHERE was.phase = 'transferred' AND was.erp_order_id <> i.erp_order_id
              ON CONFLICT DO NOTHING
              RETURNING shop, order_id)
            SELECT w.shop, w.order_id, w.phase, w.erp_order_id, w.fail_count,
              CAST(CASE WHEN t.shop IS NULL THEN 0 ELSE 1 END AS BIGINT)
            FROM was AS w LEFT JOIN twice AS t ON t.shop = w.shop AND t.order_id = w.order_id";
        let of = |get: fn(&ConfirmRequest) -> &str| texts(rows.iter().map(|r| Some(get(r))));
        let int = |get: fn(&ConfirmRequest) -> i64| ints(rows.iter().map(|r| Some(get(r))));
        let query = sqlx::query(sql)
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
            .bind(int(|r| r.now.as_millisecond()));
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
        query.execute(self.conn()).await.map_err(|e| self.freshness.read(e))?;
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
        query.execute(self.conn()).await.map_err(|e| self.freshness.read(e))?;
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
