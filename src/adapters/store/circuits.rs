//! Circuits, shared by all workers. Every change repeats the expected state in its
//! `WHERE`, so that exactly one of several workers succeeds.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::order_filter::ShopFilter;
use crate::ports::audit::Act;
use crate::ports::circuits::{CircuitDesk, CircuitTelling, Circuits};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::alarms;
use super::audit::insert_audit;
use super::db::{Db, Tx};
use super::ledger::SqlStore;

#[async_trait]
impl<D: Db> Circuits for SqlStore<D> {
    async fn circuits(&self) -> Result<Vec<Circuit>, StoreError> {
        let sql = "SELECT erp, state, reason, opened_at_ms, trial_at_ms, trials
            FROM circuits
            ORDER BY erp";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "circuits";
                Ok(Circuit {
                    erp: row.id("erp")?,
                    state: row.parsed("state", CircuitState::from_name)?,
                    reason: row.text_or_null("reason")?,
                    opened_at: row.time_or_null("opened_at_ms")?,
                    trial_at: row.time_or_null("trial_at_ms")?,
                    trials: row.number("trials")?,
                })
            })
            .collect()
    }

    async fn open_circuit(
        &self,
        erp: &str,
        reason: &str,
        trial_at: Timestamp,
        telling: Option<&CircuitTelling>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO circuits (erp, state, reason, opened_at_ms, trial_at_ms, trials)
            VALUES ($1, 'open', $2, $4, $3, 0)
            ON CONFLICT (erp) DO UPDATE
            SET state = 'open', reason = excluded.reason, opened_at_ms = excluded.opened_at_ms,
              trial_at_ms = excluded.trial_at_ms, trials = 0
            WHERE circuits.state = 'closed'";
        let mut tx = self.db.begin().await?;
        let opened = tx.execute(&sql.into(), sql_args![erp, reason, trial_at, now]).await? > 0;
        if opened && let Some(telling) = telling {
            alarms::open::<D>(&mut tx, erp, telling, reason, now).await?;
        }
        tx.commit().await?;
        Ok(opened)
    }

    async fn begin_trial(
        &self,
        erp: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE circuits
            SET state = 'half_open', trial_worker = $2, trial_until_ms = $3
            WHERE erp = $1
              AND (state = 'open' AND trial_at_ms <= $4
                OR state = 'half_open' AND (trial_worker = $2 OR trial_until_ms <= $4))";
        Ok(self.db.execute(&sql.into(), sql_args![erp, worker, until, now]).await? > 0)
    }

    async fn fail_trial(
        &self,
        erp: &str,
        worker: &str,
        reason: &str,
        trial_at: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE circuits
            SET state = 'open', reason = $3, trial_at_ms = $4, trials = trials + 1,
              trial_worker = NULL, trial_until_ms = NULL
            WHERE erp = $1 AND state = 'half_open' AND trial_worker = $2";
        self.db.execute(&sql.into(), sql_args![erp, worker, reason, trial_at]).await.map(|_| ())
    }

    async fn hasten_trial(&self, erp: &str, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE circuits
            SET trial_at_ms = $2
            WHERE erp = $1 AND state = 'open' AND trial_at_ms > $2";
        self.db.execute(&sql.into(), sql_args![erp, at]).await.map(|_| ())
    }

    async fn close_circuit(
        &self,
        erp: &str,
        shops: &ShopFilter,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE circuits
            SET state = 'closed', reason = NULL, opened_at_ms = NULL, trial_at_ms = NULL,
              trials = 0, trial_worker = NULL, trial_until_ms = NULL
            WHERE erp = $1 AND state = 'half_open'";
        let mut tx = self.db.begin().await?;
        let closed = tx.execute(&sql.into(), sql_args![erp]).await? > 0;
        if closed {
            alarms::close::<D>(&mut tx, erp, shops, now).await?;
        }
        tx.commit().await?;
        Ok(closed)
    }
}

#[async_trait]
impl<D: Db> CircuitDesk for SqlStore<D> {
    async fn hold_circuit(&self, erp: &str, reason: &str, act: &Act) -> Result<(), StoreError> {
        let sql = "INSERT INTO circuits (erp, state, reason, opened_at_ms, trial_at_ms, trials)
            VALUES ($1, 'open', $2, $3, NULL, 0)
            ON CONFLICT (erp) DO UPDATE
            SET state = 'open', reason = excluded.reason,
              opened_at_ms = COALESCE(circuits.opened_at_ms, excluded.opened_at_ms),
              trial_at_ms = NULL, trial_worker = NULL, trial_until_ms = NULL";
        let mut tx = self.db.begin().await?;
        tx.execute(&sql.into(), sql_args![erp, reason, act.now]).await?;
        insert_audit(&mut tx, act, "circuit.hold", erp, None, None).await?;
        tx.commit().await
    }

    async fn release_circuit(&self, erp: &str, act: &Act) -> Result<bool, StoreError> {
        let sql = "UPDATE circuits
            SET trial_at_ms = $2, trials = 0
            WHERE erp = $1 AND state = 'open'";
        let mut tx = self.db.begin().await?;
        let released = tx.execute(&sql.into(), sql_args![erp, act.now]).await? > 0;
        if released {
            insert_audit(&mut tx, act, "circuit.release", erp, None, None).await?;
        }
        tx.commit().await?;
        Ok(released)
    }
}
