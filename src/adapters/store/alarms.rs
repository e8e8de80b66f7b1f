//! Alarms in the ledger: what people were told of ERPs and of types of failures. Each change is written over the version
//! that was read, in one transaction with its notice.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::alarm::Alarm;
use crate::domain::order_filter::ShopFilter;
use crate::ports::alarms::{
    Alarms, SeenFailureType, StoredAlarm, Subject, SubjectKind, UnfinishedOrders,
};
use crate::ports::circuits::CircuitTelling;
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::conditions::shop_condition;
use super::db::{Db, Row, Sql, Tx};
use super::encode::json;
use super::ledger::SqlStore;
use super::rows;

const COLUMNS: &str =
    "kind, name, shop, began_at_ms, on_since_ms, off_at_ms, lasted_ms, times, recent, is_unstable,
  waited, is_over, look_at_ms, version";

#[async_trait]
impl<D: Db> Alarms for SqlStore<D> {
    async fn alarm(&self, subject: &Subject) -> Result<Option<StoredAlarm>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM alarms WHERE kind = $1 AND name = $2");
        let args = sql_args![subject.kind().as_str(), subject.name()];
        self.db.fetch(&Sql::Built(sql), args).await?.into_iter().map(stored).next().transpose()
    }

    async fn due_alarms(
        &self,
        kind: SubjectKind,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredAlarm>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}
            FROM alarms
            WHERE kind = $1 AND is_over = 0 AND look_at_ms <= $2
            ORDER BY look_at_ms, name
            LIMIT $3"
        );
        let args = sql_args![kind.as_str(), now, limit];
        self.db.fetch(&Sql::Built(sql), args).await?.into_iter().map(stored).collect()
    }

    async fn write_alarm(
        &self,
        alarm: StoredAlarm,
        notice: Option<Notice>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        if !write(&mut tx, &alarm).await? {
            return Ok(false);
        }
        if let Some(notice) = notice {
            tx.insert_notices(&[notice]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn seen_failure_types(&self, limit: u32) -> Result<Vec<SeenFailureType>, StoreError> {
        let sql =
            "SELECT t.shop, t.fingerprint, COALESCE(g.class, ''), COALESCE(g.code, ''), t.first_ms,
              t.last_ms, t.noted_ms
            FROM failure_types AS t
            LEFT JOIN failure_groups AS g ON g.fingerprint = t.fingerprint
            WHERE t.noted_ms IS NULL OR t.noted_ms < t.last_ms
            ORDER BY t.last_ms, t.shop, t.fingerprint
            LIMIT $1";
        let rows = self.db.fetch(&sql.into(), sql_args![limit]).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "failure_types";
                Ok(SeenFailureType {
                    shop: row.id("shop")?,
                    fingerprint: row.text("fingerprint")?,
                    class: row.text("class")?,
                    code: row.text("code")?,
                    first_seen: row.time("first_ms")?,
                    last_seen: row.time("last_ms")?,
                    is_known: row.time_or_null("noted_ms")?.is_some(),
                })
            })
            .collect()
    }

    async fn note_failure_type(
        &self,
        shop: &str,
        fingerprint: &str,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE failure_types
            SET noted_ms = $3
            WHERE shop = $1 AND fingerprint = $2 AND (noted_ms IS NULL OR noted_ms < $3)";
        self.db.execute(&sql.into(), sql_args![shop, fingerprint, until]).await.map(drop)
    }

    async fn unfinished_orders(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<UnfinishedOrders, StoreError> {
        let (shops, mut shop_args) = shop_condition("shop", shops, 3);
        let sql = format!(
            "SELECT
              (SELECT COUNT(*) FROM order_states
                WHERE state <> 'confirmed' AND phase IN ('queued', 'held', 'retrying')
                  AND received_at_ms <= $1 AND {shops})
                + (SELECT COUNT(*) FROM in_hand_rows WHERE received_at_ms <= $1 AND {shops}),
              (SELECT COUNT(*) FROM order_states
                WHERE state <> 'confirmed' AND phase = 'outcome_unknown' AND received_at_ms <= $1
                  AND failed_at_ms >= $2 AND {shops}),
              (SELECT COUNT(*) FROM order_states
                WHERE state <> 'confirmed' AND phase = 'parked' AND received_at_ms <= $1
                  AND failed_at_ms >= $2 AND {shops})"
        );
        let mut args = sql_args![until, since];
        args.append(&mut shop_args);
        let mut row = rows::only(self.db.fetch(&Sql::Built(sql), args).await?)?;
        row.table = "order_states";
        Ok(UnfinishedOrders {
            waiting: row.number("waiting")?,
            unclear: row.number("unclear")?,
            parked: row.number("parked")?,
        })
    }
}

/// The alarm of a circuit that opens in this transaction, and the notice about it.
pub(super) async fn open<D: Db>(
    tx: &mut D::Tx,
    erp: &str,
    telling: &CircuitTelling,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = of_circuit::<D>(tx, erp).await?;
    let (alarm, notice) = StoredAlarm::opens(before, erp, telling, reason, now);
    // Its row in `circuits` is locked, and this one: nobody else has changed it.
    write(tx, &alarm).await?;
    match notice {
        Some(notice) => tx.insert_notices(&[notice]).await,
        None => Ok(()),
    }
}

/// The same of one that closes, with the number of its orders that wait.
pub(super) async fn close<D: Db>(
    tx: &mut D::Tx,
    erp: &str,
    shops: &ShopFilter,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(mut alarm) = of_circuit::<D>(tx, erp).await? else { return Ok(()) };
    let (shops, mut shop_args) = shop_condition("shop", shops, 2);
    let sql = format!(
        "SELECT
          (SELECT COUNT(*) FROM order_states
            WHERE state <> 'confirmed' AND phase IN ('queued', 'held', 'retrying')
              AND received_at_ms <= $1 AND {shops})
            + (SELECT COUNT(*) FROM in_hand_rows WHERE received_at_ms <= $1 AND {shops})"
    );
    let mut args = sql_args![now];
    args.append(&mut shop_args);
    let waiting = rows::only(tx.fetch(&Sql::Built(sql), args).await?)?.number("waiting")?;
    alarm.closes(waiting, now);
    write(tx, &alarm).await.map(drop)
}

async fn of_circuit<D: Db>(tx: &mut D::Tx, erp: &str) -> Result<Option<StoredAlarm>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM alarms WHERE kind = 'circuit' AND name = $1 {lock}",
        lock = D::FOR_UPDATE
    );
    let rows = tx.fetch(&Sql::Built(sql), sql_args![erp]).await?;
    rows.into_iter().map(stored).next().transpose()
}

/// Writes an alarm over the version that was read; whether that was still there.
async fn write<T: Tx>(tx: &mut T, alarm: &StoredAlarm) -> Result<bool, StoreError> {
    let sql = match alarm.version {
        0 => {
            "INSERT INTO alarms (kind, name, version, shop, began_at_ms, on_since_ms, off_at_ms, lasted_ms,
              times, recent, is_unstable, waited, is_over, look_at_ms)
            VALUES ($1, $2, $3 + 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            ON CONFLICT DO NOTHING"
        }
        _ => {
            "UPDATE alarms
            SET version = version + 1, shop = $4, began_at_ms = $5, on_since_ms = $6, off_at_ms = $7,
              lasted_ms = $8, times = $9, recent = $10, is_unstable = $11, waited = $12, is_over = $13,
              look_at_ms = $14
            WHERE kind = $1 AND name = $2 AND version = $3"
        }
    };
    let StoredAlarm { subject, shop, alarm: a, look_at, version } = alarm;
    let recent: Vec<i64> = a.recent.iter().map(|begin| begin.as_millisecond()).collect();
    let lasted = i64::try_from(a.lasted.as_millis()).unwrap_or(i64::MAX);
    let args = sql_args![
        subject.kind().as_str(),
        subject.name(),
        count(*version),
        shop,
        a.began_at,
        a.on_since,
        a.off_at,
        lasted,
        a.times,
        json(&recent)?,
        i64::from(a.is_unstable),
        count(a.waited),
        i64::from(a.is_over),
        *look_at
    ];
    Ok(tx.execute(&sql.into(), args).await? > 0)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn stored(mut row: Row) -> Result<StoredAlarm, StoreError> {
    row.table = "alarms";
    let kind = row.parsed("kind", SubjectKind::from_name)?;
    let name = row.id("name")?;
    let subject =
        Subject::of(kind, &name).ok_or_else(|| row.corrupt("name", "it names no alarm"))?;
    let shop = row.text("shop")?;
    let alarm = Alarm {
        began_at: row.time("began_at_ms")?,
        on_since: row.time_or_null("on_since_ms")?,
        off_at: row.time_or_null("off_at_ms")?,
        lasted: Duration::from_millis(row.number("lasted_ms")?),
        times: row.number("times")?,
        recent: row.parsed("recent", times)?,
        is_unstable: row.int("is_unstable")? != 0,
        waited: row.number("waited")?,
        is_over: row.int("is_over")? != 0,
    };
    let (look_at, version) = (row.time("look_at_ms")?, row.number("version")?);
    Ok(StoredAlarm { subject, shop, alarm, look_at, version })
}

fn times(text: &str) -> Option<Vec<Timestamp>> {
    let times: Vec<i64> = serde_json::from_str(text).ok()?;
    times.into_iter().map(|ms| Timestamp::from_millisecond(ms).ok()).collect()
}
