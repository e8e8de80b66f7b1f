//! Redrives in the ledger. Every write of the runner repeats the loaded state as a condition: a
//! redrive that a person paused in the meantime sends nothing more, and two runners never send the
//! same order.

use super::audit::insert_audit;
use super::db::{Db, Row, Sql, Tx, Value};
use super::encode::json;
use super::ledger::SqlStore;
use super::rows::{self, ORDER_COLUMNS, ROWS_AT_ONCE};
use crate::domain::order::values::OrderKey;
use crate::domain::redrive::{
    InvalidRedrive, ItemStatus, RedriveStatus, RedriveThrottle, RedriveVerb,
};
use crate::ports::audit::Act;
use crate::ports::redrives::{
    MANY_WAIT, NewRedrive, Redrive, RedriveDesk, RedriveItem, RedriveRunner, SentItem, SettledItem,
    StepState, Turn,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

const COLUMNS: &str = "id, status, selection, rate_per_minute, ramp, stop_percent, known, money, wave, \
    ramp_at, why, created_by, created_at_ms, started_at_ms, ended_at_ms, reason, version";
const ITEM_COLUMNS: &str = "seq, shop, order_id, revision, status, why, attempt, error_class, \
    error_code, error_message, fingerprint, erp_order_id, currency, total, at_ms, sent_version";

#[async_trait]
impl<D: Db> RedriveDesk for SqlStore<D> {
    async fn add_redrive(&self, plan: NewRedrive, act: &Act) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO redrives (id, status, selection, rate_per_minute, ramp, stop_percent,
              known, money, created_by, created_at_ms, reason)
            VALUES ($1, 'planned', $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let args = sql_args![
            plan.id,
            json(&plan.selection)?,
            Value::Int(plan.pace.rate_per_minute.map(i64::from)),
            json(&plan.pace.ramp)?,
            plan.pace.stop_percent,
            json(&plan.known_fingerprints)?,
            json(&plan.money)?,
            &act.actor,
            act.now,
            act.reason.as_deref(),
        ];
        let mut tx = self.db.begin().await?;
        tx.execute(&sql.into(), args).await?;
        for some in plan.items.chunks(ROWS_AT_ONCE) {
            insert_items(&mut tx, plan.id, some).await?;
        }
        let planned = plan.items.iter().filter(|i| i.status == ItemStatus::Waiting).count();
        let change = (String::new(), format!("planned, {planned} orders"));
        insert_audit(&mut tx, act, "redrive.plan", &plan.id.to_string(), None, Some(change))
            .await?;
        tx.commit().await
    }

    async fn redrive(&self, id: Uuid) -> Result<Option<Redrive>, StoreError> {
        let sql = Sql::Built(format!("SELECT {COLUMNS} FROM redrives WHERE id = $1"));
        let Some(row) = self.db.fetch(&sql, sql_args![id]).await?.pop() else { return Ok(None) };
        let mut all = vec![redrive(row)?];
        self.count_items(&mut all, "= $1", sql_args![id]).await?;
        Ok(all.pop())
    }

    async fn redrives(&self, limit: u32) -> Result<Vec<Redrive>, StoreError> {
        let newest = format!("ORDER BY created_at_ms DESC, id DESC LIMIT {limit}");
        let sql = Sql::Built(format!("SELECT {COLUMNS} FROM redrives {newest}"));
        let rows = self.db.fetch(&sql, Vec::new()).await?;
        let mut all = rows.into_iter().map(redrive).collect::<Result<Vec<_>, _>>()?;
        let these = format!("IN (SELECT id FROM redrives {newest})");
        self.count_items(&mut all, &these, Vec::new()).await?;
        Ok(all)
    }

    async fn redrive_items(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RedriveItem>, StoreError> {
        let (condition, args) = items_after(id, status, after);
        let sql = format!(
            "SELECT {ITEM_COLUMNS}
            FROM redrive_items
            WHERE {condition}
            ORDER BY seq
            LIMIT {limit}"
        );
        let rows = self.db.fetch(&Sql::Built(sql), args).await?;
        rows.into_iter().map(|row| item(row).map(|(item, _)| item)).collect()
    }

    async fn redrive_shops(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
    ) -> Result<Vec<String>, StoreError> {
        let (condition, args) = items_after(id, status, None);
        let sql = format!(
            "SELECT DISTINCT shop
            FROM redrive_items
            WHERE {condition}
            ORDER BY shop"
        );
        let rows = self.db.fetch(&Sql::Built(sql), args).await?;
        rows.into_iter().map(|mut row| row.text("shop")).collect()
    }

    async fn change_redrive(
        &self,
        id: Uuid,
        verb: RedriveVerb,
        stopped: &[String],
        act: &Act,
    ) -> Result<Option<Result<Redrive, InvalidRedrive>>, StoreError> {
        let mut tx = self.db.begin().await?;
        // The row is locked by each change, so that the runner and people are serialised.
        let lock = "UPDATE redrives SET version = version + 1 WHERE id = $1";
        tx.execute(&lock.into(), sql_args![id]).await?;
        let sql = Sql::Built(format!("SELECT {COLUMNS} FROM redrives WHERE id = $1"));
        let Some(row) = tx.fetch(&sql, sql_args![id]).await?.pop() else { return Ok(None) };
        let before = redrive(row)?;
        let status = match before.status.after(verb) {
            Ok(status) => status,
            Err(invalid) => return Ok(Some(Err(invalid))),
        };
        write_verb(&mut tx, &before, status, act).await?;
        if status == RedriveStatus::Running {
            leave_out(&mut tx, id, stopped, act.now).await?;
        }
        let change = (before.status.as_str().to_owned(), status.as_str().to_owned());
        insert_audit(&mut tx, act, verb.action(), &id.to_string(), None, Some(change)).await?;
        tx.commit().await?;
        Ok(self.redrive(id).await?.map(Ok))
    }

    async fn set_redrive_rate(
        &self,
        id: Uuid,
        rate_per_minute: Option<u32>,
        act: &Act,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let lock = "UPDATE redrives
            SET version = version + 1
            WHERE id = $1 AND status NOT IN ('done', 'cancelled')";
        if tx.execute(&lock.into(), sql_args![id]).await? == 0 {
            return Ok(false);
        }
        let sql = Sql::Built(format!("SELECT {COLUMNS} FROM redrives WHERE id = $1"));
        let Some(row) = tx.fetch(&sql, sql_args![id]).await?.pop() else { return Ok(false) };
        let before = redrive(row)?.pace.rate_per_minute;
        let sql = "UPDATE redrives SET rate_per_minute = $2 WHERE id = $1";
        let rate = Value::Int(rate_per_minute.map(i64::from));
        tx.execute(&sql.into(), sql_args![id, rate]).await?;
        let told = |rate: Option<u32>| match rate {
            Some(rate) => format!("{rate} a minute"),
            None => "no rate".to_owned(),
        };
        let change = (told(before), told(rate_per_minute));
        insert_audit(&mut tx, act, "redrive.rate", &id.to_string(), None, Some(change)).await?;
        tx.commit().await?;
        Ok(true)
    }
}

#[async_trait]
impl<D: Db> RedriveRunner for SqlStore<D> {
    async fn open_redrives(&self) -> Result<Vec<Uuid>, StoreError> {
        let sql = "SELECT id
            FROM redrives
            WHERE status = 'running'
            UNION
            SELECT redrive_id
            FROM redrive_items
            WHERE status = 'sent'";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter().map(|mut row| uuid(&mut row)).collect()
    }

    async fn redrive_head(&self, id: Uuid) -> Result<Option<Redrive>, StoreError> {
        let sql = Sql::Built(format!("SELECT {COLUMNS} FROM redrives WHERE id = $1"));
        self.db.fetch(&sql, sql_args![id]).await?.pop().map(redrive).transpose()
    }

    async fn redrive_step(&self, id: Uuid, wave: u32) -> Result<StepState, StoreError> {
        // One statement, so that an order that changes in between is counted once.
        let sql = format!(
            "SELECT status, COALESCE(fingerprint, '') AS kind, MIN(COALESCE(error_message, '')),
              COUNT(*)
            FROM redrive_items
            WHERE redrive_id = $1 AND wave = $2
            GROUP BY status, kind
            UNION ALL
            SELECT 'waiting', '', '', COUNT(*)
            FROM (
              SELECT seq
              FROM redrive_items
              WHERE redrive_id = $1 AND status = 'waiting'
              LIMIT {MANY_WAIT}) AS few"
        );
        let mut step = StepState::default();
        for mut row in self.db.fetch(&Sql::Built(sql), sql_args![id, wave]).await? {
            row.table = "redrive_items";
            let status = row.parsed("status", ItemStatus::from_name)?;
            let kind = (row.text("fingerprint")?, row.text("error_message")?);
            let orders: u64 = row.number("count")?;
            match status {
                ItemStatus::Waiting => step.waiting += orders,
                ItemStatus::Sent => step.tally.sent += orders,
                ItemStatus::Transferred => step.tally.transferred += orders,
                ItemStatus::Failed | ItemStatus::Unclear => {
                    step.tally.failed += orders;
                    step.failures.push(kind);
                }
                ItemStatus::Skipped | ItemStatus::Excluded => {}
            }
        }
        Ok(step)
    }

    async fn redrive_turns(
        &self,
        id: Uuid,
        status: ItemStatus,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError> {
        let (condition, args) = items_after(id, Some(status), after);
        let sql = format!(
            "SELECT {ITEM_COLUMNS}
            FROM redrive_items
            WHERE {condition}
            ORDER BY seq
            LIMIT {limit}"
        );
        let items = self.db.fetch(&Sql::Built(sql), args.clone()).await?;
        let items = items.into_iter().map(item).collect::<Result<Vec<_>, _>>()?;
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {ORDER_COLUMNS}
            FROM order_rows
            WHERE (shop, order_id) IN (
              SELECT shop, order_id
              FROM redrive_items
              WHERE {condition}
              ORDER BY seq
              LIMIT {limit})"
        );
        let mut records = HashMap::new();
        for mut row in self.db.fetch(&Sql::Built(sql), args).await? {
            let record = rows::order_record(&mut row)?;
            records.insert(record.key.clone(), record);
        }
        let turn = |(item, sent_version): (RedriveItem, i64)| Turn {
            record: records.remove(&item.key),
            item,
            sent_version,
        };
        Ok(items.into_iter().map(turn).collect())
    }

    async fn mark_sent(
        &self,
        redrive: &Redrive,
        items: &[SentItem],
        now: Timestamp,
    ) -> Result<Vec<u64>, StoreError> {
        let sql = "UPDATE redrive_items
            SET status = 'sent', wave = $3, attempt = $4, sent_version = $5, at_ms = $6, why = NULL
            WHERE redrive_id = $1 AND seq = $2 AND status = 'waiting'";
        let mut tx = self.db.begin().await?;
        if !is_as_loaded(&mut tx, redrive).await? {
            return Ok(Vec::new());
        }
        let mut marked = Vec::with_capacity(items.len());
        for sent in items {
            let seq = int(sent.seq);
            let args =
                sql_args![redrive.id, seq, redrive.wave, sent.attempt, sent.sent_version, now];
            if tx.execute(&sql.into(), args).await? > 0 {
                marked.push(sent.seq);
            }
        }
        tx.commit().await?;
        Ok(marked)
    }

    async fn settle_items(
        &self,
        id: Uuid,
        was: ItemStatus,
        items: &[SettledItem],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE redrive_items
            SET status = $4, why = $5, error_class = $6, error_code = $7, error_message = $8,
              fingerprint = $9, erp_order_id = $10, at_ms = $11,
              wave = CASE WHEN $4 IN ('waiting', 'skipped') THEN NULL ELSE wave END
            WHERE redrive_id = $1 AND seq = $2 AND status = $3";
        if items.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        for settled in items {
            let failure = settled.failure.as_ref();
            let args = sql_args![
                id,
                int(settled.seq),
                was.as_str(),
                settled.status.as_str(),
                settled.why.as_deref(),
                failure.map(|f| f.class.as_str()),
                failure.map(|f| f.code.as_str()),
                failure.map(|f| f.message.as_str()),
                failure.map(|f| f.fingerprint.as_str()),
                settled.erp_order_id.as_deref(),
                now,
            ];
            tx.execute(&sql.into(), args).await?;
        }
        tx.commit().await
    }

    async fn begin_step(&self, redrive: &Redrive, ramp_at: usize) -> Result<bool, StoreError> {
        let sql = "UPDATE redrives
            SET wave = wave + 1, ramp_at = $3, version = version + 1
            WHERE id = $1 AND version = $2 AND status = 'running'";
        let args = sql_args![redrive.id, redrive.version, int(ramp_at as u64)];
        Ok(self.db.execute(&sql.into(), args).await? > 0)
    }

    async fn end_redrive(
        &self,
        redrive: &Redrive,
        status: RedriveStatus,
        why: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE redrives
            SET status = $3, why = $4, ended_at_ms = $5, version = version + 1
            WHERE id = $1 AND version = $2 AND status = 'running'";
        let ended_at = status.is_over().then_some(now);
        let args = sql_args![redrive.id, redrive.version, status.as_str(), why, ended_at];
        Ok(self.db.execute(&sql.into(), args).await? > 0)
    }
}

impl<D: Db> SqlStore<D> {
    async fn count_items(
        &self,
        redrives: &mut [Redrive],
        these: &str,
        args: Vec<Value>,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT redrive_id, status,
              CASE WHEN status IN ('skipped', 'excluded') THEN COALESCE(why, '') ELSE '' END AS cause,
              COUNT(*)
            FROM redrive_items
            WHERE redrive_id {these}
            GROUP BY redrive_id, status, cause"
        );
        for mut row in self.db.fetch(&Sql::Built(sql), args).await? {
            let id = uuid(&mut row)?;
            let status = row.parsed("status", ItemStatus::from_name)?;
            let cause = row.text("why")?;
            let orders: u64 = row.number("count")?;
            let Some(redrive) = redrives.iter_mut().find(|redrive| redrive.id == id) else {
                continue;
            };
            *redrive.counts.entry(status).or_default() += orders;
            if !cause.is_empty() {
                *redrive.excluded.entry(cause).or_default() += orders;
            }
        }
        Ok(())
    }
}

async fn insert_items<T: Tx>(
    tx: &mut T,
    id: Uuid,
    items: &[RedriveItem],
) -> Result<(), StoreError> {
    let mut args = sql_args![id];
    let mut places = Vec::with_capacity(items.len());
    for item in items {
        let first = args.len() + 1;
        let numbers: Vec<String> = (first..first + 8).map(|n| format!("${n}")).collect();
        places.push(format!("($1, {})", numbers.join(", ")));
        args.extend(sql_args![
            int(item.seq),
            item.key.shop.as_str(),
            item.key.order_id.as_str(),
            item.revision,
            item.status.as_str(),
            item.why.as_deref(),
            &item.currency,
            &item.total,
        ]);
    }
    let sql = format!(
        "INSERT INTO redrive_items (redrive_id, seq, shop, order_id, revision, status, why,
          currency, total)
        VALUES {}",
        places.join(", ")
    );
    tx.execute(&Sql::Built(sql), args).await.map(|_| ())
}

/// Whether the redrive still runs unchanged; if so it is locked until the end of the transaction.
async fn is_as_loaded<T: Tx>(tx: &mut T, redrive: &Redrive) -> Result<bool, StoreError> {
    let sql = "UPDATE redrives
        SET version = version
        WHERE id = $1 AND version = $2 AND status = 'running'";
    Ok(tx.execute(&sql.into(), sql_args![redrive.id, redrive.version]).await? > 0)
}

/// A ramp starts again after a stop, and continues after a pause.
async fn write_verb<T: Tx>(
    tx: &mut T,
    before: &Redrive,
    status: RedriveStatus,
    act: &Act,
) -> Result<(), StoreError> {
    let begins_anew = status == RedriveStatus::Running && before.status != RedriveStatus::Paused;
    let (wave, ramp_at) = match begins_anew {
        true => (before.wave + 1, 0),
        false => (before.wave, before.ramp_at),
    };
    let why = before.why.as_deref().filter(|_| status != RedriveStatus::Running);
    let started_at = match status {
        RedriveStatus::Running => before.started_at.or(Some(act.now)),
        _ => before.started_at,
    };
    let sql = "UPDATE redrives
        SET status = $2, wave = $3, ramp_at = $4, why = $5, started_at_ms = $6, ended_at_ms = $7
        WHERE id = $1";
    let ended_at = status.is_over().then_some(act.now);
    let ramp_at = int(ramp_at as u64);
    let args = sql_args![before.id, status.as_str(), wave, ramp_at, why, started_at, ended_at];
    tx.execute(&sql.into(), args).await.map(|_| ())
}

async fn leave_out<T: Tx>(
    tx: &mut T,
    id: Uuid,
    shops: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE redrive_items
        SET status = 'excluded', why = 'circuit_open', at_ms = $3
        WHERE redrive_id = $1 AND shop = $2 AND status = 'waiting'";
    for shop in shops {
        tx.execute(&sql.into(), sql_args![id, shop, now]).await?;
    }
    Ok(())
}

fn items_after(id: Uuid, status: Option<ItemStatus>, after: Option<u64>) -> (String, Vec<Value>) {
    let (mut condition, mut args) = ("redrive_id = $1".to_owned(), sql_args![id]);
    if let Some(status) = status {
        args.push(status.as_str().into());
        condition.push_str(&format!(" AND status = ${}", args.len()));
    }
    if let Some(after) = after {
        args.push(int(after).into());
        condition.push_str(&format!(" AND seq > ${}", args.len()));
    }
    (condition, args)
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn uuid(row: &mut Row) -> Result<Uuid, StoreError> {
    row.table = "redrives";
    let id = row.id("id")?;
    id.parse().map_err(|_| row.corrupt("id", "not a UUID"))
}

/// A redrive out of [`COLUMNS`], its orders not counted.
fn redrive(mut row: Row) -> Result<Redrive, StoreError> {
    let id = uuid(&mut row)?;
    let status = row.parsed("status", RedriveStatus::from_name)?;
    let selection = row.parsed("selection", |text| serde_json::from_str(text).ok())?;
    let rate_per_minute = row.number_or_null("rate_per_minute")?;
    let ramp = row.parsed("ramp", |text| serde_json::from_str(text).ok())?;
    let stop_percent = row.number("stop_percent")?;
    Ok(Redrive {
        id,
        status,
        selection,
        pace: RedriveThrottle { rate_per_minute, ramp, stop_percent },
        known_fingerprints: row.parsed("known", |text| serde_json::from_str(text).ok())?,
        money: row.parsed("money", |text| serde_json::from_str(text).ok())?,
        wave: row.number("wave")?,
        ramp_at: row.number("ramp_at")?,
        why: row.text_or_null("why")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at_ms")?,
        started_at: row.time_or_null("started_at_ms")?,
        ended_at: row.time_or_null("ended_at_ms")?,
        reason: row.text_or_null("reason")?,
        counts: BTreeMap::new(),
        excluded: BTreeMap::new(),
        version: row.int("version")?,
    })
}

/// An order of a redrive out of [`ITEM_COLUMNS`], and what its version was when it was sent.
fn item(mut row: Row) -> Result<(RedriveItem, i64), StoreError> {
    row.table = "redrive_items";
    let seq = row.number("seq")?;
    let key: OrderKey = rows::order_key(&mut row)?;
    let item = RedriveItem {
        seq,
        key,
        revision: row.number("revision")?,
        status: row.parsed("status", ItemStatus::from_name)?,
        why: row.text_or_null("why")?,
        attempt: row.number_or_null("attempt")?,
        failure: rows::failure_summary(&mut row)?,
        erp_order_id: row.text_or_null("erp_order_id")?,
        currency: row.text("currency")?,
        total: row.text("total")?,
        at: row.time_or_null("at_ms")?,
    };
    Ok((item, row.int_or_null("sent_version")?.unwrap_or(0)))
}
